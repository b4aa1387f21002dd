"""The tree of commands itself; none of these needs a database."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cerniq_stock.bench.cli import app as bench_app
from cerniq_stock.cli.app import NAME, app
from cerniq_stock.cli.call import JSON_HELP
from cerniq_stock.cli.problems import EXIT_CODES, REFUSALS
from cerniq_stock.cli.reference import page
from cerniq_stock.domain.outcomes import Refusal
from tests.entrances.conftest import Result

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
ESCAPE = "\x1b"


def _leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, (*path, name))
        else:
            yield (*path, name)


def _groups(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _groups(command, (*path, name))


LEAVES = list(_leaves(typer.main.get_command(app)))
GROUPS = list(_groups(typer.main.get_command(app)))


def run(*args: str) -> Result:
    done = CliRunner().invoke(app, list(args))
    return Result(done.exit_code, done.stdout, done.stderr)


@pytest.mark.parametrize("path", [leaf for leaf in LEAVES if leaf != ("bench",)], ids=" ".join)
def test_every_command_explains_itself_with_an_example(path):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert f"Usage: {NAME} {' '.join(path)}" in result.stdout
    usage, _, examples = result.stdout.partition("Examples:")
    assert f"{NAME} {' '.join(path)}" in examples
    assert "--json" in usage
    assert ESCAPE not in result.stdout


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_a_group_without_a_command_shows_its_commands(path):
    result = run(*path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr
    as_document = run(*path, "--json")
    assert as_document.exit_code == 2
    assert as_document.document["error"]["code"] == "USAGE"


def test_the_first_page_lists_the_exit_codes():
    text = run("--help").stdout
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in text


def test_every_refusal_has_an_exit_code():
    assert set(REFUSALS) == set(Refusal)
    assert set(REFUSALS.values()) <= set(EXIT_CODES)


def test_version():
    assert run("--version").stdout.startswith(f"{NAME} ")


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["stock", "shwo"],
        ["stock", "show", "--nonsense"],
        ["stock", "receive", "LAPTOP-14"],
        ["stock", "receive", "LAPTOP-14", "1", "2"],
        ["stock", "receive", "LAPTOP-14", "1", "--refrence", "DN-1"],
        ["stock", "show", "--limit", "many"],
        ["stock", "show", "--limit", "0"],
        ["reserve", "--line", "LAPTOP-14=1"],
        ["reserve", "--negotiation", "x", "--line", "A=1", "--type", "medium"],
        ["extend", "01K7Z9V3J0Q4T5X6Y7Z8A9B0CD"],
        ["database", "stop", "--mode", "gently"],
    ],
    ids=" ".join,
)
def test_a_line_that_makes_no_sense_is_told_in_one_sentence(args):
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.endswith("--help")
    error = run(*args, "--json").document["error"]
    assert error == {"code": "USAGE", "message": line.removeprefix("Error: "), "field": None}


BENCHMARKS = dict(typer.main.get_command(bench_app).commands)


def test_the_benchmarks_are_a_group_like_the_others():
    result = run("bench", "--help")
    assert result.exit_code == 0
    assert f"Usage: {NAME} bench" in result.stdout
    alone = run("bench")
    assert (alone.exit_code, alone.stdout) == (2, "")
    for name in BENCHMARKS:
        assert f"  {name}" in result.stdout
        assert f"  {name}" in alone.stderr
    assert run("bench", "--json").document["error"]["code"] == "USAGE"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_explains_itself_like_every_command(name):
    result = run("bench", name, "-h")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"Usage: {NAME} bench {name}" in result.stdout
    usage, _, examples = result.stdout.partition("Examples:")
    assert f"  {NAME} bench {name}" in examples
    assert JSON_HELP in usage
    for param in BENCHMARKS[name].params:
        assert param.help[0].isupper()
        assert param.help.endswith(".")
    assert run("bench", name, "--nonsense").exit_code == 2


@pytest.mark.parametrize("args", [["bench", "reserve"], ["demo"]], ids=" ".join)
def test_what_makes_databases_of_its_own_takes_no_address(args):
    result = run("--database", "postgresql:///x", *args, "--json")
    assert result.exit_code == 2
    assert "CERNIQ_DATABASE_URL" in result.document["error"]["message"]


def test_help_needs_nothing_that_is_slow_to_import():
    code = (
        "import sys; from cerniq_stock.cli import app\n"
        "slow = {'asyncpg', 'sqlalchemy', 'alembic', 'pydantic', 'rich', 'uvloop'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_the_page_of_commands_is_current():
    if os.environ.get("CERNIQ_WRITE_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()
