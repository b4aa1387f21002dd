"""SAGA: `stocuri` of a fetch, `articole` of a webhook, as the platform's specification has them.

No public document of the vendor describes a REST interface; what answers is a bridge at the
merchant. Lots of one article in one warehouse come one by one and are summed by `gather`.
"""

from typing import Any

from cerniq_stock.erp.collect import ABSENT, Collector, Fields, named, records, the_list
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.paths import list_at
from cerniq_stock.erp.rows import Parsed, PayloadError

EVENT = "STOC_MODIFICAT"
CURRENCY = "RON"
"""What a SAGA price is in where neither the row nor the configuration says (specification §5.2)."""


def parse(payload: Any, config: ErpConfig) -> Parsed:
    """Read one answer `{"stocuri": […]}` or one webhook `{"eveniment": "STOC_MODIFICAT", …}`.

    Raises PayloadError for another event and for what has no list. `items_path` names another
    envelope. (Specification §5.2.)
    """
    path, found = _found(payload, config)
    if config.currency_default is None:
        config = config.model_copy(update={"currency_default": CURRENCY})
    collector = Collector(config)
    for where, record in records(found, path, collector):
        collector.add(
            Fields(
                where,
                named(record, "cod_articol"),
                named(record, "cantitate_totala"),
                named(record, "cantitate_disponibila"),
                named(record, "pret_vanzare"),
                named(record, "moneda"),
                named(record, "stare"),
                named(record, "cod_gestiune"),
                named(record, "lot"),
                named(record, "data_modificare"),
                named(record, "data_expirare"),
            )
        )
    return collector.parsed()


def _found(payload: Any, config: ErpConfig) -> tuple[str, list[Any]]:
    event = payload.get("eveniment", ABSENT) if isinstance(payload, dict) else ABSENT
    if event is not ABSENT:
        if event != EVENT:
            raise PayloadError(f"SAGA tells of {event!r}, which is not {EVENT}")
        return "articole", the_list(payload, "articole", "SAGA")
    if config.items_path is not None:
        return config.items_path, list_at(payload, config.items_path, "SAGA")
    return "stocuri", the_list(payload, "stocuri", "SAGA")
