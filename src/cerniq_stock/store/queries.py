"""The statements of the `.sql` files beside this one, by name."""

from importlib.resources import files


def parse(text: str) -> dict[str, str]:
    """Split a file of statements, each headed by its name."""
    parts = text.split("-- name: ")[1:]
    return {name.strip(): body.strip() for name, _, body in (p.partition("\n") for p in parts)}


def _load(file: str) -> dict[str, str]:
    return parse((files("cerniq_stock.store") / file).read_text(encoding="utf-8"))


SQL = _load("queries.sql") | _load("reads.sql") | _load("sweep.sql") | _load("integrations.sql")
VERIFY = _load("verify.sql")
"""The checks of `verify`; they have names of their own."""
