"""Any REST interface, by its configuration: where the list stands, and each figure in a record.

The systems of which nothing public is known (`profiles`) are read the same way.
"""

from typing import Any

from cerniq_stock.erp.collect import NONE, Collector, Fields, Named, records
from cerniq_stock.erp.config import ErpConfig, FieldMapping
from cerniq_stock.erp.paths import list_at, value_at
from cerniq_stock.erp.rows import Parsed, PayloadError
from cerniq_stock.errors import InvalidInputError

USUAL = ("items", "data")
"""Envelopes that need no `items_path` (specification §5.3)."""
ITSELF = "$"
"""Where a record stands that is the payload itself."""


def parse(payload: Any, config: ErpConfig, *, system: str = "CUSTOM_API") -> Parsed:
    """Read one page by `field_mapping`; the list is at `items_path`.

    Without `items_path` the payload may be the list itself, hold it as `items` or `data`, or be one
    record, as webhooks send it (specification §5.3). Raises PayloadError without a list, and
    InvalidInputError without a mapping.
    """
    mapping = config.field_mapping
    if mapping is None:
        raise InvalidInputError(
            "field_mapping",
            f"{system} needs field_mapping in its configuration: nothing else says what is what",
        )
    path, values = found(payload, config, system)
    collector = Collector(config)
    for where, record in records(values, path, collector):
        collector.add(_fields(ITSELF if record is payload else where, record, mapping))
    return collector.parsed()


def found(payload: Any, config: ErpConfig, system: str = "CUSTOM_API") -> tuple[str, list[Any]]:
    """Return where the list of records stands, and the list. Raises PayloadError without one."""
    if config.items_path is not None:
        return config.items_path, list_at(payload, config.items_path, system)
    if isinstance(payload, list):
        return "", payload
    if isinstance(payload, dict):
        for key in USUAL:
            if isinstance(payload.get(key), list):
                return key, payload[key]
        mapping = config.field_mapping
        if mapping and isinstance(value_at(payload, mapping.sku), (str, int)):
            return "", [payload]
    raise PayloadError(
        f"This is no answer of {system}: there is no list of records; set items_path"
    )


def _fields(where: str, record: dict[str, Any], mapping: FieldMapping) -> Fields:
    def at(path: str | None) -> Named:
        return NONE if path is None else (path, value_at(record, path))

    return Fields(
        where,
        at(mapping.sku),
        at(mapping.total),
        at(mapping.available),
        at(mapping.price),
        at(mapping.currency),
        at(mapping.status),
        at(mapping.warehouse),
        at(mapping.lot),
        at(mapping.last_modified),
    )
