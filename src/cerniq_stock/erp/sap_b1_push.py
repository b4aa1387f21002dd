"""Sales as documents of SAP Business One: a goods issue, or a goods receipt of what came back.

The Service Layer knows no idempotency keys. Our ids stand in the document's remarks, and are looked
for before it is made and after any trouble that leaves open whether it was.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.http import Answer
from cerniq_stock.erp.odata import any_of, fault, literal, question
from cerniq_stock.erp.paging import Rows
from cerniq_stock.erp.source import Sale
from cerniq_stock.erp.text import sku_key
from cerniq_stock.erp.trouble import BadAnswerError, ErpError, RefusedError

ISSUES, RECEIPTS = "InventoryGenExits", "InventoryGenEntries"
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_LONGEST_REMARK = 254
MOST = 6
"""Sales of one document: so many ids fit into its remarks, were they UUIDs."""
_NEGATIVE_STOCK = "-10"


class Session(Protocol):
    """What is needed of the session."""

    def pages(self, first: str) -> AsyncGenerator[Rows, None]:
        """Yield the rows of a question, page by page."""
        ...

    async def post(self, path: str, body: object) -> Answer:
        """Make a document, once at most."""
        ...


async def push(
    session: Session, sales: Sequence[Sale], config: ErpConfig, odata: int
) -> str | None:
    """Make one document of the sales that have none yet; return its number."""
    assert all(_ID.fullmatch(sale.id) for sale in sales), "ids are ours"
    sales = [sale for sale in sales if sale.quantity]
    if not sales:
        return None
    signs = {sale.quantity > 0 for sale in sales}
    if len(signs) != 1:
        raise RefusedError("sales and goods that came back need a document each")
    path = ISSUES if signs == {True} else RECEIPTS
    booked = await _booked(session, path, sales, odata)
    rest = [sale for sale in sales if sale.id not in booked]
    if not rest:
        return booked[sales[-1].id]
    document = _document(rest, config)
    await _look_at_items(session, rest)
    try:
        answer = await session.post(path, document)
    except ErpError as error:
        if fault(error.problem)[0] == _NEGATIVE_STOCK:
            raise RefusedError(
                "SAP Business One has less of a product than was sold", status=error.status
            ) from None
        if error.retryable:
            found = await _booked(session, path, rest, odata)
            if rest[-1].id in found:
                return found[rest[-1].id]
        # the document may still be made: whoever comes again looks first
        raise
    return _number(answer.data)


async def _booked(session: Session, path: str, sales: Sequence[Sale], odata: int) -> dict[str, str]:
    """Return the numbers of documents that are there already, by the ids of their sales.

    A look that is refused is no finding, and no refusal of the sales: BadAnswerError.
    """
    try:
        return await _found(session, path, sales, odata)
    except RefusedError as error:
        told = f"what is booked cannot be looked up: {error}"
        raise BadAnswerError(told, status=error.status) from None


async def _found(session: Session, path: str, sales: Sequence[Sale], odata: int) -> dict[str, str]:
    form = "contains(Comments,{})" if odata == 4 else "substringof({},Comments)"
    terms = (form.format(literal(_mark(sale))) for sale in sales)
    found: dict[str, str] = {}
    for chosen in any_of(terms):
        first = question(path, select="DocEntry,DocNum,Comments", filter=chosen)
        async with aclosing(session.pages(first)) as pages:
            async for rows in pages:
                # a database may take signs of an id for wildcards, so it is looked at once more
                for row in rows:
                    remark = str(row.get("Comments")) if isinstance(row, dict) else ""
                    marked = (sale.id for sale in sales if _mark(sale) in remark)
                    found |= dict.fromkeys(marked, _number(row))
    return found


async def _look_at_items(session: Session, sales: Sequence[Sale]) -> None:
    """Refuse what cannot be booked by a quantity alone."""
    wanted = {sku_key(sale.sku): sale.sku for sale in sales}
    select = "ItemCode,InventoryItem,ManageBatchNumbers,ManageSerialNumbers"
    known = set()
    for chosen in any_of(f"ItemCode eq {literal(sku)}" for sku in wanted.values()):
        first = question("Items", select=select, filter=chosen)
        async with aclosing(session.pages(first)) as pages:
            async for rows in pages:
                for row in (row for row in rows if isinstance(row, dict)):
                    known.add(sku_key(str(row.get("ItemCode"))))
                    if {row.get("ManageBatchNumbers"), row.get("ManageSerialNumbers")} - {"tNO"}:
                        raise RefusedError("a product is kept by batches or serial numbers")
                    if row.get("InventoryItem") != "tYES":
                        raise RefusedError("a product is not kept in stock there")
    if set(wanted) - known:
        raise RefusedError("a product is not known there")


def _document(sales: Sequence[Sale], config: ErpConfig) -> dict[str, Any]:
    remark = " ".join(("cerniq-stock", *map(_mark, sales)))
    if len(remark) > _LONGEST_REMARK:
        raise RefusedError("these are more sales than the remarks of one document can name")
    return {"Comments": remark, "DocumentLines": [_line(sale, config) for sale in sales]}


def _line(sale: Sale, config: ErpConfig) -> dict[str, Any]:
    quantity = abs(sale.quantity)
    whole = quantity == quantity.to_integral_value()
    # exact: a quantity has fifteen digits at most, three of them decimals
    line = {"ItemCode": sale.sku, "Quantity": int(quantity) if whole else float(quantity)}
    place = _warehouse(sale.warehouse, config)
    return line if place is None else {**line, "WarehouseCode": place}


def _warehouse(name: str | None, config: ErpConfig) -> str | None:
    """Return the ERP's own name of a warehouse; None: the item's default one."""
    if name is None:
        return config.only_warehouse
    if isinstance(config.warehouses, dict):
        for theirs, ours in config.warehouses.items():
            if ours == name:
                return theirs
        raise RefusedError("a warehouse is none of those that are configured")
    return name


def _mark(sale: Sale) -> str:
    """Return an id as it stands in remarks: with ends, so that it is no part of a longer one."""
    return f"({sale.id})"


def _number(document: Any) -> str:
    """Return the number that people see, else the one that the database counts."""
    if isinstance(document, dict):
        for name in ("DocNum", "DocEntry"):
            if isinstance(document.get(name), int):
                return str(document[name])
    raise BadAnswerError("SAP Business One made a document and did not tell its number")
