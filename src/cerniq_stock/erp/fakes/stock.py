"""What a fake ERP has in stock, and the tokens that it hands out."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from email.utils import formatdate

from cerniq_stock.erp.fakes.base import FakeServer, Reply


@dataclass(frozen=True, slots=True)
class Shelf:
    """One product in one warehouse (and lot); `changed` is by the server's clock."""

    sku: str
    warehouse: str
    lot: str | None
    total: Decimal
    reserved: Decimal
    price: Decimal
    changed: float

    @property
    def available(self) -> Decimal:
        """What is not reserved there."""
        return self.total - self.reserved


@dataclass
class StockServer(FakeServer):
    """A server with goods; what happens to them is told by its methods."""

    tells_date: bool = True
    """Sends a Date header, by its own clock."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shelves: dict[tuple[str, str, str | None], Shelf] = {}

    def received(
        self,
        sku: str,
        quantity: str | Decimal,
        warehouse: str = "01",
        *,
        lot: str | None = None,
        price: str = "10.00",
    ) -> None:
        """Goods came in; new ones are there from now on."""
        empty = Shelf(sku, warehouse, lot, Decimal(0), Decimal(0), Decimal(price), self.now)
        shelf = self.shelves.get((sku, warehouse, lot), empty)
        self._put(replace(shelf, total=shelf.total + Decimal(quantity)))

    def sold(
        self, sku: str, quantity: str | Decimal, warehouse: str = "01", *, lot: str | None = None
    ) -> None:
        """Goods went out."""
        self.received(sku, -Decimal(quantity), warehouse, lot=lot)

    def ordered(
        self, sku: str, quantity: str | Decimal, warehouse: str = "01", *, lot: str | None = None
    ) -> None:
        """A customer's order reserves goods, where the system knows of such."""
        shelf = self.shelves[sku, warehouse, lot]
        self._put(replace(shelf, reserved=shelf.reserved + Decimal(quantity)))

    def removed(self, sku: str) -> None:
        """A product is no longer there at all."""
        for key in [key for key in self.shelves if key[0] == sku]:
            del self.shelves[key]

    def figures(self) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
        """Return total and available by product and warehouse, lots summed."""
        found: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        for shelf in self.shelves.values():
            total, available = found.get((shelf.sku, shelf.warehouse), (Decimal(0), Decimal(0)))
            sums = total + shelf.total, available + shelf.available
            found[shelf.sku, shelf.warehouse] = sums
        return found

    def by_product(self) -> Iterator[tuple[str, list[Shelf]]]:
        """Yield products with their shelves."""
        products: dict[str, list[Shelf]] = {}
        for shelf in self.shelves.values():
            products.setdefault(shelf.sku, []).append(shelf)
        yield from products.items()

    def stamped(self, reply: Reply) -> Reply:
        """Return an answer with the server's date, where it tells that."""
        if not self.tells_date:
            return reply
        return replace(reply, headers=[*reply.headers, ("Date", http_date(self.now))])

    def _put(self, shelf: Shelf) -> None:
        self.shelves[shelf.sku, shelf.warehouse, shelf.lot] = replace(shelf, changed=self.now)


def http_date(seconds: float) -> str:
    """Write a moment as headers do."""
    return formatdate(seconds, usegmt=True)


@dataclass
class Tokens:
    """Tokens, good for `seconds`, and for `uses` requests where that is set."""

    seconds: int = 3600
    uses: int | None = None
    given: list[str] = field(default_factory=list)
    _left: dict[str, int | None] = field(default_factory=dict)
    _until: dict[str, float] = field(default_factory=dict)

    def issue(self, now: float) -> str:
        """Return a new token."""
        token = f"canary-token-{secrets.token_hex(12)}"
        self.given.append(token)
        self._left[token], self._until[token] = self.uses, now + self.seconds
        return token

    def current(self, now: float) -> tuple[str, float]:
        """Return the newest token as long as it is good, else another; and when it was made."""
        token = self.given[-1] if self.given else ""
        if now >= self._until.get(token, 0.0):
            token = self.issue(now)
        return token, self._until[token] - self.seconds

    def takes(self, header: str, now: float) -> bool:
        """Tell whether an Authorization header is good, and count its use."""
        token = header.removeprefix("Bearer ")
        left = self._left.get(token)
        if now >= self._until.get(token, 0.0) or left == 0:
            self._until.pop(token, None)
            return False
        if left is not None:
            self._left[token] = left - 1
        return True

    def revoke(self) -> None:
        """Take all tokens back."""
        self._until.clear()
