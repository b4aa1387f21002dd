"""What an open session with an ERP can be asked, whatever the system.

The engine reads page by page and never holds a whole catalogue. A session knows the system's ways;
the engine knows what is to be done with the rows. What a system cannot do is written down as its
`Capabilities` (`systems.py`), and the engine refuses only that.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from cerniq_stock.erp.rows import Parsed

Watermark = Mapping[str, Any]
"""Up to where a source was read: JSON of the session's own making, and its alone to understand."""


@dataclass(frozen=True, slots=True)
class Health:
    """The ERP answers, and so fast. Trouble is an ErpError instead."""

    latency_s: float


@dataclass(frozen=True, slots=True)
class Sale:
    """Goods that were sold here (or came back: negative) and that the ERP may be told of.

    `id` is ours and unique; it is sent along, so that a repeat is found before it is booked twice.
    """

    id: str
    sku: str
    warehouse: str | None
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Booking:
    """How a connection takes sales.

    `most` of them fit into one document. `finds_repeats`: what is pushed once more, the same sales
    together, is looked for first; without it only the ERP itself can know the key. `places`: it is
    told from which warehouse.
    """

    most: int
    finds_repeats: bool
    places: bool


class Source(Protocol):
    """A session, entered and left by `async with`. Everything raises ErpError, and PayloadError.

    An iteration that ends has seen every page; one that raises has not, and what it yielded until
    then must not be taken for the whole. `watermark` is asked for after that and stored together
    with the rows: it was taken before the first request, from the ERP's clock where that is known,
    less what its granularity needs (READING 26). None: the source has no way to go on from.
    """

    @property
    def watermark(self) -> Watermark | None:
        """From where `changed` may go on the next time."""
        ...

    def everything(self) -> AsyncIterator[Parsed]:
        """Read the whole catalogue."""
        ...

    def changed(self, since: Watermark) -> AsyncIterator[Parsed]:
        """Read what changed; of systems with `incremental` only. More than that may come."""
        ...

    def of_skus(self, skus: Sequence[str]) -> AsyncIterator[Parsed]:
        """Read these products; of systems with `by_sku` only. Unknown ones are left out."""
        ...

    def announced(self, payload: Any) -> AsyncIterator[Parsed]:
        """Read what a webhook tells of: its own rows, or those that it makes us ask for."""
        ...

    async def check(self) -> Health:
        """Log in and ask for as little as possible."""
        ...

    async def push(self, sales: Sequence[Sale]) -> str | None:
        """Book sales in the ERP, all or none; of systems with `push` only.

        Returns the ERP's own document number. Looks first whether it is there already, which may
        be found for the same sales together only. `Booking` says what a connection takes.
        """
        ...


OpenSource = AbstractAsyncContextManager[Source]
