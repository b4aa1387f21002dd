"""What the callers ask for: whose goods, which products, how many of them there are."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate, cycle
from random import Random
from uuid import UUID, uuid4

from cerniq_stock.domain.commands import Item

ZIPF_EXPONENT = 1.1
"""The most wanted of 10,000 products gets about 15 % of the requests."""

AMPLE_UNITS = 1_000_000_000
SCARCE_UNITS = 30
TENANT_PRODUCTS_MIN = 10
REQUESTS_MADE = 65_536
ONE = Decimal(1)


class Load(StrEnum):
    """Which products the requests name.

    SPREAD: all alike. ZIPF: few are wanted often. HOT: the first product is in every request.
    SCARCE: like ZIPF, on so little stock that most requests are refused.
    """

    SPREAD = "spread"
    ZIPF = "zipf"
    HOT = "hot"
    SCARCE = "scarce"


@dataclass(frozen=True)
class Plan:
    """One benchmark's size. `products` are of all tenants together."""

    load: Load = Load.SPREAD
    callers: int = 200
    lines: int = 1
    tenants: int = 1
    products: int = 10_000

    @property
    def products_per_tenant(self) -> int:
        """Each tenant's share, and enough of them to choose from."""
        return max(self.products // self.tenants, TENANT_PRODUCTS_MIN, self.lines)

    @property
    def opening_units(self) -> int:
        """Stock of each product at the start."""
        return SCARCE_UNITS if self.load is Load.SCARCE else AMPLE_UNITS


@dataclass(frozen=True)
class Seat:
    """One caller's place at one tenant: a negotiation, and the beginning of its keys."""

    tenant_id: UUID
    negotiation_id: UUID = field(default_factory=uuid4)


@dataclass(frozen=True)
class Town:
    """The tenants, and where each caller sits."""

    plan: Plan
    tenants: tuple[UUID, ...]
    seats: tuple[tuple[Seat, ...], ...]


def make_town(plan: Plan) -> Town:
    """Deal tenants to callers: one each, or several where there are fewer callers than tenants."""
    tenants = tuple(uuid4() for _ in range(plan.tenants))
    seats: tuple[tuple[Seat, ...], ...]
    if plan.callers >= plan.tenants:
        seats = tuple((Seat(tenants[n % plan.tenants]),) for n in range(plan.callers))
    else:
        seats = tuple(tuple(map(Seat, tenants[n :: plan.callers])) for n in range(plan.callers))
    return Town(plan, tenants, seats)


def sku(number: int) -> str:
    """Name of the product with this number, from 1; the same with every tenant."""
    return f"SKU-{number:05}"


def requests(
    plan: Plan, *, count: int = REQUESTS_MADE, seed: int = 1
) -> Iterator[tuple[Item, ...]]:
    """Return an endless iterator over ready-made requests: choosing must cost next to nothing."""
    random = Random(seed)  # noqa: S311 - a benchmark repeats its choices; nothing is secret
    items = [Item(sku(number), ONE) for number in range(1, plan.products_per_tenant + 1)]
    draw = _Draw(plan, random)
    return cycle([tuple([items[place] for place in draw()]) for _ in range(count)])


class _Draw:
    """Draws the places of one request's products, all different."""

    def __init__(self, plan: Plan, random: Random) -> None:
        self._plan = plan
        self._random = random
        self._places = range(plan.products_per_tenant)
        ranks = range(1, plan.products_per_tenant + 1)
        self._weights = list(accumulate(rank**-ZIPF_EXPONENT for rank in ranks))

    def __call__(self) -> list[int]:
        lines = self._plan.lines
        match self._plan.load:
            case Load.SPREAD:
                return self._random.sample(self._places, lines)
            case Load.HOT:
                return [0, *self._random.sample(self._places[1:], lines - 1)]
            case _:
                return self._skewed(lines)

    def _skewed(self, lines: int) -> list[int]:
        drawn: dict[int, None] = {}
        while len(drawn) < lines:
            drawn |= dict.fromkeys(
                self._random.choices(self._places, cum_weights=self._weights, k=lines - len(drawn))
            )
        return list(drawn)
