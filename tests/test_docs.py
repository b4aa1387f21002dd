"""Documentation cannot drift: what is generated is current, what is shown runs."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from cerniq_stock.domain.outcomes import Refusal
from cerniq_stock.erp.secrets import new_key
from cerniq_stock.store.database import create_database, drop_database

ROOT = Path(__file__).parents[1]
_numbers = count(1)


def refusals_page() -> str:
    """The page that documents why commands are refused, made from the code."""

    def rows(whole: bool) -> str:
        return "\n".join(
            f"| {number} | `{refusal.value}` | {refusal.meaning} |"
            for number, refusal in enumerate(Refusal, 1)
            if refusal.whole is whole
        )

    return f"""# Refusals

Why a command, or a line of a reservation, is refused, in order of precedence: where several
apply, the first of the list is the answer. Generated from `cerniq_stock.domain.outcomes.Refusal`;
a test fails when this page is not current (`CERNIQ_WRITE_DOCS=1 make test` writes it).

Before all of them comes the key: a key that was used with the same payload gets its first answer.

## The whole command is refused, nothing changed, the key is not used up

| order | code | meaning |
|---|---|---|
{rows(True)}

## A line of a reservation is refused, the others go on

| order | code | meaning |
|---|---|---|
{rows(False)}

A reservation of which every line was refused is stored as FAILED and repeats its answer.
"""


def test_the_page_of_refusals_is_current():
    path = ROOT / "docs" / "refusals.md"
    if os.environ.get("CERNIQ_WRITE_DOCS"):
        path.write_text(refusals_page(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == refusals_page()


@pytest.fixture
def environment(server: str, template: str) -> Iterator[dict[str, str]]:
    """A shell's environment with a fresh database and this interpreter's commands."""
    name = f"docs_{next(_numbers)}"
    dsn = asyncio.run(create_database(server, name, template=template))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    keys = {"CERNIQ_SECRET_KEYS": new_key("docs")}
    yield {**os.environ, "CERNIQ_DATABASE_URL": dsn, "PATH": path, **keys}
    asyncio.run(drop_database(server, name))


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("page", ["README.md"])
def test_console_blocks_run(page, environment):
    for block in _blocks(page, "console"):
        lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        done = _run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def _programs(page: str) -> list[tuple[str, str]]:
    """Each program of a page, and what its section says after it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fence = r"^```python\n(.*?)^```$(.*?)(?=^#|^```python|\Z)"
    return re.findall(fence, text, flags=re.MULTILINE | re.DOTALL)


PROGRAMS = [(page, *told) for page in ("README.md", "docs/erp.md") for told in _programs(page)]


@pytest.mark.parametrize(
    ("page", "program", "after"), PROGRAMS, ids=[f"{x[0]}-{n}" for n, x in enumerate(PROGRAMS)]
)
def test_python_blocks_run_and_print_what_the_page_says(page, program, after, environment):
    done = _run([sys.executable, "-c", program], environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    _, prints, told = after.partition("prints")
    assert prints, f"{page} does not say what its program prints"
    for line in done.stdout.splitlines():
        assert line in told


def test_every_program_of_these_pages_is_found():
    assert len(PROGRAMS) == sum(len(_blocks(p, "python")) for p in ("README.md", "docs/erp.md"))


@pytest.mark.parametrize(("number", "system"), [(0, "SAGA"), (1, "OBLIO")])
def test_sample_payloads_are_understood_as_the_page_says(number, system):
    samples = _blocks("docs/erp.md", "json")
    assert len(samples) == 2
    command = [str(Path(sys.executable).parent / "cerniq-stock"), "erp", "parse"]
    done = subprocess.run(
        [*command, "--system", system, "-"],
        input=samples[number],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    counts = done.stdout.splitlines()[0]
    page = (ROOT / "docs" / "erp.md").read_text(encoding="utf-8")
    assert f"`erp parse --system {system}` makes `{counts}`" in page


def test_links_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_has_the_promised_commands():
    done = _run(
        ["make", "-n", "-C", str(ROOT), "demo", "test", "check", "faults"], dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
