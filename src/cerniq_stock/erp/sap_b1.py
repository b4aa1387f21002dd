"""SAP Business One: `Items` of the Service Layer, v1 and v2, and `$crossjoin` rows of stock.

available = InStock - Committed. It may be negative, as orders may exceed the stock. With
`add_ordered` what is on order from vendors is added, up to what is there.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.erp.collect import (
    ABSENT,
    Collector,
    Named,
    named,
    nothing,
    records,
    the_list,
)
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.rows import ErpRow, ErrorCode, Parsed, SkipCode, WarningCode
from cerniq_stock.erp.text import as_text, looks_like_date
from cerniq_stock.erp.times import clock, day, to_utc

ITEM = "Items"
STOCK = "ItemWarehouseInfoCollection"
CROSSED = f"{ITEM}/{STOCK}"
_IN_ALL = ("QuantityOnStock", "QuantityOrderedByCustomers", "QuantityOrderedFromVendors")
_IN_PLACE = ("InStock", "Committed", "Ordered")
"""What is there, what of it is promised, what is to come: of all warehouses, and of one."""


def parse(payload: Any, config: ErpConfig) -> Parsed:
    """Read one page `{"value": […]}` of `Items` or of `$crossjoin(Items,Items/…Collection)`.

    One row for each warehouse of an item; without the collection one row of the item's own totals,
    which are those of all warehouses. `price_list` chooses the price; 0.0 without a currency is
    none. UpdateDate and UpdateTime are local to the server. Raises PayloadError without the list.
    (Working with SAP Business One Service Layer 1.28.)
    """
    collector = Collector(config)
    for where, record in records(
        the_list(payload, "value", "SAP Business One"), "value", collector
    ):
        crossed = record.get(CROSSED)
        if isinstance(crossed, dict):
            item = record.get(ITEM)
            _stock(collector, where, item if isinstance(item, dict) else {}, [(where, crossed)])
        else:
            _item(collector, where, record)
    return collector.parsed()


Shelf = tuple[str, dict[str, Any]]


def _item(collector: Collector, where: str, item: dict[str, Any]) -> None:
    shelves = item.get(STOCK, ABSENT)
    if shelves is ABSENT:
        _stock(collector, where, item, [(where, _in_all(item))])
    elif isinstance(shelves, list) and shelves:
        _stock(collector, where, item, records(shelves, f"{where}.{STOCK}", collector))
    elif _stockable(collector, where, item):
        sku = collector.sku(where, named(item, "ItemCode"))
        if sku is not None:
            code = WarningCode.STOCKABLE_WITHOUT_STOCK_ROWS
            collector.remark(code, where, named(item, STOCK), sku)


def _in_all(item: dict[str, Any]) -> dict[str, Any]:
    """The item's own figures, without its warehouses."""
    return {name: item[name] for name in _IN_ALL if name in item}


def _stockable(collector: Collector, where: str, item: dict[str, Any]) -> bool:
    kind = named(item, "InventoryItem")
    if _yes(kind[1]) is not False:
        return True
    collector.skip(SkipCode.NOT_STOCKABLE, where, kind, item.get("ItemCode"))
    return False


def _stock(
    collector: Collector, where: str, item: dict[str, Any], shelves: Iterable[Shelf]
) -> None:
    """Add a row for each place; what concerns the whole item is read, and told, once."""
    if not _stockable(collector, where, item):
        return
    sku = collector.sku(where, named(item, "ItemCode"))
    if sku is None:
        return
    rows = [row for place, shelf in shelves if (row := _shelf(collector, place, sku, shelf))]
    if not rows:
        return
    if looks_like_date(sku):
        collector.remark(WarningCode.SKU_LOOKS_LIKE_DATE, where, named(item, "ItemCode"), sku)
    price, currency = _price(collector, where, item, sku)
    status, modified = _status(collector.config, item), _modified(collector, where, item, sku)
    for found, reserved in rows:
        whole = replace(
            found, price=price, currency=currency, status=status, last_modified=modified
        )
        collector.row(whole, reserved)


def _shelf(
    collector: Collector, where: str, sku: str, shelf: dict[str, Any]
) -> tuple[ErpRow, Named] | None:
    """Read one place's figures; None where it does not count, or is in error."""
    config = collector.config
    warehouse, counts = collector.warehouse(shelf.get("WarehouseCode", ABSENT))
    if not counts:
        return None
    place = warehouse, None
    if "WarehouseCode" not in shelf and config.warehouses is not None and config.warehouse is None:
        # what all warehouses have in all is not what those have that count
        collector.remark(ErrorCode.MISSING_TOTAL, where, (STOCK, ABSENT), sku, place)
        return None
    names = _IN_ALL if _IN_ALL[0] in shelf else _IN_PLACE
    total = collector.total(where, named(shelf, names[0]), sku, place)
    if total is None:
        return None
    reserved, available = named(shelf, names[1]), None
    if reserved[1] is not ABSENT:
        committed = collector.quantity(where, reserved, sku, place)
        if committed is None:
            return None
        available = total - committed
        if config.add_ordered:
            ordered = collector.quantity(where, named(shelf, names[2]), sku, place)
            if ordered is None:
                return None
            available = min(available + ordered, max(total, available))
    return ErpRow(sku, total, available, warehouse=warehouse, where=where), reserved


def _price(
    collector: Collector, where: str, item: dict[str, Any], sku: str
) -> tuple[Decimal | None, str | None]:
    """Find the price of the configured list. 0.0 without a currency is how an unset one looks."""
    wanted, prices = collector.config.price_list, item.get("ItemPrices")
    if wanted is None or not isinstance(prices, list):
        return None, None
    for number, entry in enumerate(prices):
        if isinstance(entry, dict) and as_text(entry.get("PriceList")) == str(wanted):
            unit = named(entry, "Currency")
            if nothing(unit[1]):
                unit = "Currency", collector.config.company_currency
                if collector.config.numbers.price(entry.get("Price")) == 0:
                    return None, None
            place = f"{where}.ItemPrices[{number}]"
            return collector.price(place, named(entry, "Price"), unit, sku)
    return None, None


def _status(config: ErpConfig, item: dict[str, Any]) -> ProductStatus | None:
    """Judge `Valid` and `Frozen` with their windows on the configured day."""
    valid, frozen = _yes(item.get("Valid")), _yes(item.get("Frozen"))
    if valid is None and frozen is None:
        return None
    if frozen and _covers(config, item, "Frozen"):
        return ProductStatus.INACTIVE
    if valid is False or (valid and not _covers(config, item, "Valid")):
        return ProductStatus.INACTIVE
    return ProductStatus.ACTIVE


def _covers(config: ErpConfig, item: dict[str, Any], name: str) -> bool:
    """Tell whether a window holds the day; an open end reaches for ever."""
    first, last = day(item.get(f"{name}From")), day(item.get(f"{name}To"))
    today = config.day()
    return (first is None or first <= today) and (last is None or today <= last)


def _modified(collector: Collector, where: str, item: dict[str, Any], sku: str) -> datetime | None:
    """Put UpdateDate and UpdateTime together; without a time the day's beginning is taken."""
    date = day(item.get("UpdateDate"))
    if date is None:
        return None
    at = clock(item.get("UpdateTime"))
    if at is None:
        field = named(item, "UpdateTime")
        collector.remark(WarningCode.UPDATE_TIME_MISSING_DATE_ONLY, where, field, sku)
    return to_utc(datetime.combine(date, at or time()), collector.config.zone)


def _yes(value: object) -> bool | None:
    """Read `tYES` and `tNO`; None for what is neither."""
    return {"tYES": True, "tNO": False, "True": True, "False": False}.get(str(value))
