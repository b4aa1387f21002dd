"""Style by the numbers: what CONTRIBUTING.md promises, checked."""

import ast
import statistics
import sys
import tomllib
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "cerniq_stock"
MODULES = sorted(SRC.rglob("*.py"))
FUNCTION_LINES = 60
FILE_LINES = 500
DOMAIN_LINES = 3300
DOMAIN_MAY_IMPORT = {
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "typing",
    "uuid",
    "cerniq_stock",
}


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body; signature and docstring are for the reader and do not count."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_files_and_functions_stay_small(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES, f"{lines} lines: does it have one subject?"
    long = {node.name: _length(node) for node in _functions(path) if _length(node) > FUNCTION_LINES}
    assert not long


def test_the_median_function_is_short():
    assert statistics.median(_length(n) for path in MODULES for n in _functions(path)) < 10


def test_the_domain_is_pure_and_small():
    files = sorted((SRC / "domain").glob("*.py"))
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) < DOMAIN_LINES
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                if names[0].startswith("cerniq_stock"):
                    assert names[0].startswith("cerniq_stock.domain"), (path.name, names[0])
            for name in names:
                assert name.split(".")[0] in DOMAIN_MAY_IMPORT, (path.name, name)
            # no clock, no randomness
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"now", "utcnow", "today", "uuid4"} or _is_work_now(node)


def _is_work_now(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in {"work", "self"}


def test_only_settings_reads_the_environment():
    readers = {
        str(path.relative_to(SRC))
        for path in MODULES
        if "os.environ" in path.read_text(encoding="utf-8")
    }
    # the embedded server looks for the user's own data folder, as every program does
    assert readers <= {"store/embedded.py", "store/binaries.py"}, readers


def test_no_bare_except_and_every_ignore_has_a_reason():
    for path in MODULES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert "except:" not in line, (path, number)
            if "noqa" in line or "type: ignore" in line:
                assert " - " in line.split("#", 1)[1], f"{path}:{number}: say why"


def test_python_never_runs_without_asserts():
    assert __debug__
    assert sys.flags.optimize == 0


def test_every_session_is_kept_apart_from_the_others():
    contracts = tomllib.loads((SRC.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    (apart,) = (
        contract
        for contract in contracts["tool"]["importlinter"]["contracts"]
        if contract["name"].startswith("Sessions know nothing of each other")
    )
    sessions = {path.stem for path in (SRC / "erp").glob("*_session.py")}
    (together,) = (set(layer.split(" | ")) for layer in apart["layers"] if "saga_session" in layer)
    assert sessions | {"csv_source"} == together
    assert "ignore_imports" not in apart
