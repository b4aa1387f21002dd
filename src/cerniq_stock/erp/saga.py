"""SAGA: `stocuri` of a fetch, `articole` of a webhook, as the platform's specification has them.

No public document of the vendor describes a REST interface; what answers is a bridge at the
merchant. Lots of one article in one warehouse come one by one and are summed by `gather`.
"""

from typing import Any

from cerniq_stock.erp.collect import Collector, Fields, named, records, the_list
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.paths import list_at
from cerniq_stock.erp.rows import Parsed, PayloadError

EVENT = "STOC_MODIFICAT"
CURRENCY = "RON"
"""What a SAGA price is in where neither the row nor the configuration says (specification §5.2)."""


def parse(payload: Any, config: ErpConfig) -> Parsed:
    """Read one answer `{"stocuri": […]}` or one webhook `{"eveniment": "STOC_MODIFICAT", …}`.

    Another event tells of no stock, so there is no row. Raises PayloadError for what has no list.
    `items_path` names another envelope. (Specification §5.2.)
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


def is_webhook(payload: Any) -> bool:
    """Tell whether a payload is a webhook's, of whatever event; what was asked for is none."""
    return isinstance(payload, dict) and "eveniment" in payload


def _found(payload: Any, config: ErpConfig) -> tuple[str, list[Any]]:
    if is_webhook(payload):
        event = payload["eveniment"]
        if not event or not isinstance(event, str):
            raise PayloadError(f"SAGA tells of no event; {EVENT} is one")
        return "articole", the_list(payload, "articole", "SAGA") if event == EVENT else []
    if config.items_path is not None:
        return config.items_path, list_at(payload, config.items_path, "SAGA")
    return "stocuri", the_list(payload, "stocuri", "SAGA")
