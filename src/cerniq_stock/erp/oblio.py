"""Oblio: `nomenclature/products`, in its two shapes.

Asked for a company, goods carry `stock`, one entry per work station and management. Asked for one
management, goods carry `quantity` and `price` themselves, as services do.
"""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from cerniq_stock.erp.collect import (
    ABSENT,
    NONE,
    Collector,
    Fields,
    Named,
    named,
    nothing,
    records,
    the_list,
)
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.rows import Parsed, PayloadError, SkipCode, WarningCode
from cerniq_stock.erp.text import as_text, column_key, shown

_TEN_THOUSANDTH = Decimal("0.0001")
"""What the catalogue keeps of a price."""
_MOST_PERCENT = 100


def parse(payload: Any, config: ErpConfig) -> Parsed:
    """Read one page: `{"status": 200, "statusMessage": …, "data": […]}` (oblio.eu/api).

    A warehouse is `workStation|management`; in the flat shape it is the configured one. There is no
    reserved quantity, state or time on the wire. Raises PayloadError where `status` is not 2xx, or
    without the list.
    """
    _refuse_failure(payload)
    collector = Collector(config)
    for where, product in records(the_list(payload, "data", "Oblio"), "data", collector):
        _product(collector, where, product)
    return collector.parsed()


def _refuse_failure(payload: Any) -> None:
    status = payload.get("status", 200) if isinstance(payload, dict) else 200
    if not str(status).startswith("2") or len(str(status)) != 3:
        words = (payload.get(key) for key in ("statusMessage", "message", "error_description"))
        message = next(filter(None, map(shown, words)), "without a word")
        raise PayloadError(f"Oblio answered with status {shown(status)}: {message}")


def _product(collector: Collector, where: str, product: dict[str, Any]) -> None:
    code = named(product, "code")
    kind = named(product, "productType")
    stock = product.get("stock")
    flat = "quantity" in product
    service = isinstance(kind[1], str) and column_key(kind[1]).startswith("servici")
    if service or (nothing(kind[1]) and "stock" not in product and not flat):
        collector.skip(SkipCode.NOT_STOCKABLE, where, kind, code[1])
        return
    sku = collector.sku(where, code)
    if sku is None:
        return
    if isinstance(stock, list) and stock:
        for place, entry in records(stock, f"{where}.stock", collector):
            collector.add(_fields(collector.config, place, code, entry, _warehouse(entry)))
    elif flat:
        collector.add(_fields(collector.config, where, code, product, NONE))
    else:
        missing = WarningCode.STOCKABLE_WITHOUT_STOCK_ROWS
        collector.remark(missing, where, named(product, "stock"), sku)


def _fields(
    config: ErpConfig, where: str, code: Named, entry: dict[str, Any], warehouse: Named
) -> Fields:
    return Fields(
        where,
        code,
        named(entry, "quantity"),
        price=_price(config, entry),
        currency=named(entry, "currency"),
        warehouse=warehouse,
    )


def _price(config: ErpConfig, entry: dict[str, Any]) -> Named:
    """Find the price as it is wanted, with or without VAT; `vatIncluded` is another for each row.

    Where that cannot be told, the field at fault stands in the price's place; it is no number.
    """
    price = named(entry, "price")
    amount = config.numbers.price(price[1])
    if config.vat is None or amount is None:
        return price
    included, percent = entry.get("vatIncluded"), config.numbers.price(entry.get("vatPercentage"))
    if not isinstance(included, bool):
        return "vatIncluded", {"vatIncluded": included}
    if included is (config.vat == "with"):
        return price
    if percent is None or percent > _MOST_PERCENT:
        return "vatPercentage", {"vatPercentage": entry.get("vatPercentage")}
    factor = 1 + percent / 100
    wanted = amount * factor if config.vat == "with" else amount / factor
    return "price", wanted.quantize(_TEN_THOUSANDTH, ROUND_HALF_UP)


def _warehouse(entry: dict[str, Any]) -> Named:
    names = [as_text(entry.get(name)) or "" for name in ("workStation", "management")]
    return "management", "|".join(names) if any(names) else ABSENT
