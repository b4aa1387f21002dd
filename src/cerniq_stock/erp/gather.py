"""All pages of one answer put together: duplicates, lots, and SKUs that are almost the same."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from cerniq_stock.domain.messages import plain
from cerniq_stock.erp.rows import ErpRow, ErrorCode, Parsed, Remark, WarningCode
from cerniq_stock.erp.text import sku_key

T = TypeVar("T")
Key = tuple[str, str | None, str | None]
Shelf = tuple[str, str | None]


def gather(pages: Iterable[Parsed]) -> Parsed:
    """Put pages together so that there is one row for each SKU and warehouse.

    The rules, in this order. SKUs are compared by `sku_key`; None equals None.

    1. Rows of one key (SKU, warehouse, lot) with the same total, available, price, currency and
       status are one: the first stays, with the newest `last_modified`, and each further one is an
       IDENTICAL_DUPLICATE.
    2. Rows of one key with other figures are all in error: a CONFLICTING_DUPLICATE for each.
    3. An error, in whatever lot, leaves its SKU and warehouse without any row: the rest is no sum,
       and a row beside one that cannot be read is a duplicate with who knows which figures.
    4. Lots of one SKU and warehouse are summed. `available` is unknown if it is for one of them;
       price (with its currency) and status stay where all lots that have one agree, else they are
       unknown; `last_modified` is the newest; `where` is that of the first.
    5. SKUs that differ only by case stay; each spelling after the first is told once.
    """
    merge = _Merge()
    for page in pages:
        merge.errors.extend(page.errors)
        merge.warnings.extend(page.warnings)
        merge.skipped.extend(page.skipped)
        for row in page.rows:
            merge.add(row)
    return merge.result()


class _Merge:
    def __init__(self) -> None:
        self.errors: list[Remark] = []
        self.warnings: list[Remark] = []
        self.skipped: list[Remark] = []
        self._rows: dict[Key, ErpRow] = {}
        self._conflicts: dict[Key, list[ErpRow]] = {}

    def add(self, row: ErpRow) -> None:
        key = sku_key(row.sku), row.warehouse, row.lot
        first = self._rows.setdefault(key, row)
        if first is row:
            return
        if key in self._conflicts:
            self._conflicts[key].append(row)
        elif _figures(first) != _figures(row):
            self._conflicts[key] = [first, row]
        else:
            self.warnings.append(_remark(WarningCode.IDENTICAL_DUPLICATE, row))
            newest = _newest([first, row])
            if newest != first.last_modified:
                self._rows[key] = replace(first, last_modified=newest)

    def result(self) -> Parsed:
        for key, conflicting in self._conflicts.items():
            del self._rows[key]
            code = ErrorCode.CONFLICTING_DUPLICATE
            self.errors += (_remark(code, row) for row in conflicting)
        rows = tuple(self._summed())
        self._tell_cases(rows)
        return Parsed(rows, tuple(self.errors), tuple(self.warnings), tuple(self.skipped))

    def _summed(self) -> Iterator[ErpRow]:
        shelves: dict[Shelf, ErpRow | list[ErpRow]] = {}
        for (sku, warehouse, _), row in self._rows.items():
            there = shelves.setdefault((sku, warehouse), row)
            if there is row:
                continue
            if isinstance(there, list):
                there.append(row)
            else:
                shelves[sku, warehouse] = [there, row]
        broken = self._broken()
        for shelf, found in shelves.items():
            if shelf not in broken:
                yield _sum(found) if isinstance(found, list) else found
            elif isinstance(found, ErpRow) and found.lot is None:
                # which of the two is right nobody knows
                self.errors.append(_remark(ErrorCode.CONFLICTING_DUPLICATE, found))

    def _broken(self) -> set[Shelf]:
        """Places with an error."""
        return {
            (sku_key(error.sku), error.warehouse) for error in self.errors if error.sku is not None
        }

    def _tell_cases(self, rows: tuple[ErpRow, ...]) -> None:
        spellings: dict[str, str | set[str]] = {}
        for row in rows:
            sku = sku_key(row.sku)
            known = spellings.setdefault(sku.casefold(), sku)
            if known == sku or (isinstance(known, set) and sku in known):
                continue
            every = known if isinstance(known, set) else {known}
            spellings[sku.casefold()] = every | {sku}
            self.warnings.append(_remark(WarningCode.SKU_DIFFERS_ONLY_BY_CASE, row, row.sku))


def _sum(lots: list[ErpRow]) -> ErpRow:
    available = [row.available for row in lots]
    prices = [(row.price, row.currency) for row in lots if row.price is not None]
    price, currency = _agreed(prices) or (None, None)
    return replace(
        lots[0],
        total=sum((row.total for row in lots), Decimal(0)),
        available=None if None in available else sum(filter(None, available), Decimal(0)),
        price=price,
        currency=currency,
        status=_agreed([row.status for row in lots]),
        last_modified=_newest(lots),
        lot=None,
    )


def _figures(row: ErpRow) -> tuple[object, ...]:
    return row.total, row.available, row.price, row.currency, row.status


def _agreed(values: Sequence[T | None]) -> T | None:
    known = [value for value in values if value is not None]
    return known[0] if known and all(value == known[0] for value in known) else None


def _newest(rows: list[ErpRow]) -> datetime | None:
    return max((row.last_modified for row in rows if row.last_modified is not None), default=None)


def _remark(code: ErrorCode | WarningCode, row: ErpRow, raw: str | None = None) -> Remark:
    raw = plain(row.total) if raw is None else raw
    return Remark(row.where, None, code, raw, row.sku, row.warehouse, row.lot)
