"""From a source to the staging: which question a run asks, and what of the answer counts."""

import unicodedata
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

from cerniq_stock.domain.messages import plain
from cerniq_stock.erp.rows import ErpRow, Parsed, Remark
from cerniq_stock.erp.session import keys_of
from cerniq_stock.erp.source import Source, Watermark
from cerniq_stock.erp.text import sku_key, trimmed
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.store.staging import Incoming, Staging
from cerniq_stock.sync.result import Asked, Integration, SyncType, Tally, told

MOST_NEW = 200
"""New products that are asked for one by one; where there are more, everything is read."""


class Reading:
    """One reading of a source. `watermark` is where it may be gone on from, once it is over."""

    def __init__(self, staged: Staging, asked: Asked, of: Integration, tally: Tally) -> None:
        self.watermark: Watermark | None = None
        self._staged = staged
        self._asked = asked
        self._of = of
        self._tally = tally
        self._rows = Rows(of, tally)
        self._in_part: dict[str, None] = {}

    async def read(self, source: Source, *, incremental: bool, by_sku: bool) -> bool:
        """Stage what the source tells; returns whether that is its whole catalogue.

        A source that cannot tell what changed, or single products, is read whole.
        """
        asked, since = self._asked, self._of.watermark
        new: list[str] = []
        if asked.kind is SyncType.INCREMENTAL and incremental and by_sku and since is not None:
            new = await self._new_products()
            if len(new) > MOST_NEW:
                since = None
        only, whole = None, False
        match asked.kind:
            case SyncType.SELECTIVE if not asked.skus:
                raise InvalidInputError("skus", "A SELECTIVE sync names its SKUs")
            case SyncType.SELECTIVE:
                only = keys_of(asked.skus)
                pages = source.of_skus(asked.skus) if by_sku else source.everything()
                await self._stage(pages, only)
            case SyncType.WEBHOOK:
                await self._stage(source.announced(asked.payload), only, parts=self._rows.is_part)
            case SyncType.INCREMENTAL if incremental and since is not None:
                await self._stage(source.changed(since), only, parts=self._rows.is_lot_or_part)
            case _:
                await self._stage(source.everything(), only)
                new, whole = [], True
        self.watermark = source.watermark
        await self._read_again(source, new, by_sku=by_sku)
        await self._staged.gather()
        return whole

    async def _new_products(self) -> list[str]:
        """Products made since the last reading: their stock may have been told of before."""
        of = self._of
        rows = await self._staged.log("new_products", of.id, of.erp_system, MOST_NEW + 1)
        return [row["sku"] for row in rows]

    async def _read_again(self, source: Source, new: list[str], *, by_sku: bool) -> None:
        """Ask for the whole of what was told in part, and for what is new here."""
        skus = list(dict.fromkeys([*self._in_part, *new]))
        if not skus:
            return
        await self._staged.forget([self._rows.sku(sku) for sku in skus])
        pages = source.of_skus(skus) if by_sku else source.everything()
        await self._stage(pages, keys_of(skus))

    async def _stage(
        self,
        pages: AsyncIterator[Parsed],
        only: frozenset[str] | None,
        *,
        parts: Callable[[str | None, str | None], bool] = lambda *_: False,
    ) -> None:
        """Stage all pages; what is in error is told, and leaves its level alone."""
        async for page in pages:
            for remark in page.errors:
                if _meant(remark.sku, only):
                    await self._leave_alone(remark, parts)
            for remark in page.warnings:
                if _meant(remark.sku, only):
                    self._tally.warn(remark.sku, str(remark.code), told(remark))
            found = []
            for row in page.rows:
                if only is not None and not _meant(row.sku, only):
                    continue
                if parts(row.warehouse, row.lot):
                    self._in_part[row.sku] = None
                else:
                    found.append(self._rows.incoming(row))
            await self._staged.add(found)

    async def _leave_alone(
        self, remark: Remark, parts: Callable[[str | None, str | None], bool]
    ) -> None:
        rows = self._rows
        if remark.sku and parts(remark.warehouse, remark.lot):
            self._in_part[remark.sku] = None
            return
        self._tally.error(remark.sku, str(remark.code), told(remark))
        if remark.sku:
            # one that has no place here is told of and no more
            warehouse = rows.warehouse(remark.warehouse) or ""
            # of several lots the others are no sum
            lot = _lot(remark.warehouse, remark.lot)
            broken = rows.sku(remark.sku), warehouse, lot, None, None, None, None, None, True
            await self._staged.add([broken])


class Rows:
    """Turns rows of the ERP into rows of ours."""

    def __init__(self, of: Integration, tally: Tally) -> None:
        self._tally = tally
        self._spelled = of.spelled
        self._default = of.options.default_warehouse or of.warehouses[0]
        self._ours = {name: name for name in of.warehouses}
        self._sources: dict[str, set[str]] = {}
        for theirs, ours in of.options.warehouses.items():
            self._ours[theirs] = ours if ours in of.warehouses else ""
            self._sources.setdefault(ours, set()).add(theirs)
        for ours, names in self._sources.items():
            if self._ours.get(ours) == ours:
                names.add(ours)

    def is_part(self, theirs: str | None, _: str | None) -> bool:
        """Whether others of the ERP's warehouses are in the same one of ours."""
        sources = self._sources.get(self.warehouse(theirs) or "", ())
        return len(sources) > (0 if theirs is None else 1)

    def is_lot_or_part(self, theirs: str | None, lot: str | None) -> bool:
        """Whether it is no more than a part of what there is in one of our warehouses."""
        return lot is not None or self.is_part(theirs, lot)

    def warehouse(self, theirs: str | None) -> str | None:
        """Our name of the ERP's warehouse; None where there is none."""
        return self._default if theirs is None else self._ours.get(theirs) or None

    def sku(self, theirs: str) -> str:
        """Our way to write a SKU: in one piece, and with the letters that our product has."""
        if theirs.isascii():
            return theirs
        composed = unicodedata.normalize("NFC", theirs)
        return self._spelled.get(sku_key(composed), composed)

    def incoming(self, row: ErpRow) -> Incoming:
        """A row as it is staged; one that has no place here, as told of and no more."""
        warehouse = self.warehouse(row.warehouse)
        if warehouse is None:
            text = (
                f"{row.where}: no warehouse {row.warehouse} here, and none it is mapped to (option"
                " warehouses); where it does not count, name those that do in warehouses of parse"
            )
            self._tally.error(row.sku, "UNKNOWN_WAREHOUSE", text)
            return self.sku(row.sku), "", None, None, None, None, None, None, True
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
