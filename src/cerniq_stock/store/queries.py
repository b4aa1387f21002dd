"""The statements of `queries.sql`, by name."""

from importlib.resources import files


def _parse(text: str) -> dict[str, str]:
    parts = text.split("-- name: ")[1:]
    return {name.strip(): body.strip() for name, _, body in (p.partition("\n") for p in parts)}


SQL = _parse((files("cerniq_stock.store") / "queries.sql").read_text(encoding="utf-8"))
