"""From a source to the staging: which question a run asks, and what of the answer counts."""

import unicodedata
from collections.abc import AsyncIterator
from decimal import Decimal

from cerniq_stock.domain.messages import plain
from cerniq_stock.erp.rows import ErpRow, Parsed
from cerniq_stock.erp.session import keys_of
from cerniq_stock.erp.source import Source
from cerniq_stock.erp.text import sku_key, trimmed
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.store.staging import Incoming, Staging
from cerniq_stock.sync.result import Asked, Integration, SyncType, Tally, told


def question(
    asked: Asked, of: Integration, source: Source, *, incremental: bool, by_sku: bool
) -> tuple[AsyncIterator[Parsed], bool]:
    """What to ask the source; and whether that is for its whole catalogue.

    A source that cannot tell what changed, or single products, is read whole.
    """
    match asked.kind:
        case SyncType.SELECTIVE if not asked.skus:
            raise InvalidInputError("skus", "A SELECTIVE sync names its SKUs")
        case SyncType.SELECTIVE if by_sku:
            return source.of_skus(asked.skus), False
        case SyncType.SELECTIVE:
            return source.everything(), False
        case SyncType.WEBHOOK:
            return source.announced(asked.payload), False
        case SyncType.INCREMENTAL if incremental and of.watermark is not None:
            return source.changed(of.watermark), False
        case _:
            return source.everything(), True


async def read(
    pages: AsyncIterator[Parsed], staged: Staging, asked: Asked, of: Integration, tally: Tally
) -> None:
    """Stage all pages; what is in error is told, and leaves its level alone."""
    only = keys_of(asked.skus) if asked.kind is SyncType.SELECTIVE else None
    rows = Rows(of, tally)
    async for page in pages:
        for remark in page.errors:
            if not _meant(remark.sku, only):
                continue
            tally.error(remark.sku, str(remark.code), told(remark))
            warehouse = rows.warehouse(remark.warehouse)
            if remark.sku is not None and warehouse is not None:
                # of several lots the others are no sum
                lot = _lot(remark.warehouse, remark.lot)
                broken = rows.sku(remark.sku), warehouse, lot, None, None, None, None, None, True
                await staged.add([broken])
        for remark in page.warnings:
            if _meant(remark.sku, only):
                tally.warn(remark.sku, str(remark.code), told(remark))
        found = page.rows
        if only is not None:
            found = tuple(row for row in found if _meant(row.sku, only))
        await staged.add(filter(None, map(rows.incoming, found)))
    await staged.gather()


class Rows:
    """Turns rows of the ERP into rows of ours."""

    def __init__(self, of: Integration, tally: Tally) -> None:
        self._tally = tally
        self._spelled = of.spelled
        self._default = of.options.default_warehouse or of.warehouses[0]
        self._ours = {name: name for name in of.warehouses}
        for theirs, ours in of.options.warehouses.items():
            self._ours[theirs] = ours if ours in of.warehouses else ""

    def warehouse(self, theirs: str | None) -> str | None:
        """Our name of the ERP's warehouse; None where there is none."""
        return self._default if theirs is None else self._ours.get(theirs) or None

    def sku(self, theirs: str) -> str:
        """Our way to write a SKU: in one piece, and with the letters that our product has."""
        if theirs.isascii():
            return theirs
        composed = unicodedata.normalize("NFC", theirs)
        return self._spelled.get(sku_key(composed), composed)

    def incoming(self, row: ErpRow) -> Incoming | None:
        """A row as it is staged; None where it has no place here."""
        warehouse = self.warehouse(row.warehouse)
        if warehouse is None:
            where = f"{row.where}: no warehouse {row.warehouse} here, and none it is mapped to"
            self._tally.error(row.sku, "UNKNOWN_WAREHOUSE", where)
            return None
        if row.total < 0:
            text = f"{row.where}: total {plain(row.total)} is applied as 0"
            self._tally.warn(row.sku, "NEGATIVE_TOTAL", text)
        return (
            self.sku(row.sku),
            warehouse,
            _lot(row.warehouse, row.lot),
            row.total,
            row.available,
            row.price,
            row.currency,
            row.status,
            False,
        )


def erp_total(figure: Decimal) -> Decimal:
    """What a level's total would be by the ERP: below zero there is nothing."""
    return max(figure, Decimal(0))


def _meant(sku: str | None, only: frozenset[str] | None) -> bool:
    """Whether somebody asked for it."""
    return only is None or (sku is not None and sku_key(trimmed(sku)) in only)


def _lot(warehouse: str | None, lot: str | None) -> str | None:
    """Two of the ERP's warehouses that are one here are summed like lots."""
    return lot if warehouse is None else f"{warehouse}/{lot or ''}"
