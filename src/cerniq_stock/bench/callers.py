"""The callers of a reservation benchmark: the same for every side."""

from collections.abc import Iterable, Iterator
from itertools import count, cycle
from typing import Protocol
from uuid import UUID

from cerniq_stock.bench.closed_loop import Ask
from cerniq_stock.bench.workload import Seat, Town, requests
from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.outcomes import ReserveResult

WORDS = {"ACTIVE": "reserved", "PARTIAL": "partial", "FAILED": "refused"}


class Reserve(Protocol):
    """What `Stock.reserve` is to a caller."""

    async def __call__(
        self, tenant_id: UUID, negotiation_id: UUID, items: Iterable[Item], *, key: str
    ) -> ReserveResult:
        """Answer one request."""


def make_callers(town: Town, reserve: Reserve, *, seed: int = 1) -> list[Ask]:
    """One closed loop's worth of callers. Keys are of a negotiation and a seed, and count up."""
    wanted = requests(town.plan, seed=seed)
    return [_caller(seats, wanted, reserve, f"{seed}:") for seats in town.seats]


def _caller(
    seats: tuple[Seat, ...], wanted: Iterator[tuple[Item, ...]], reserve: Reserve, mark: str
) -> Ask:
    numbers = count(1)
    places = cycle([(s.tenant_id, s.negotiation_id, f"{s.negotiation_id}:{mark}") for s in seats])

    async def ask() -> str:
        tenant_id, negotiation_id, prefix = next(places)
        key = f"{prefix}{next(numbers)}"
        answer = await reserve(tenant_id, negotiation_id, next(wanted), key=key)
        return WORDS[answer.status]

    return ask
