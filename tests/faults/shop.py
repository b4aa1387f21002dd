"""What a client's callers do all day: one book of negotiations and reservations, many hands.

The callers of a client share the book, so that two of them sell, release and extend the same
reservation at the same moment. A client that follows a killed one inherits its book.
"""

import random
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

from tests.faults.intents import Intent, Story, Told

MAX_BOOK = 200
NEGOTIATIONS = 8
WEIGHTS = {
    "reserve": 38,
    "replace": 9,
    "release_part": 8,
    "release": 9,
    "release_negotiation": 1,
    "consume_part": 8,
    "consume": 9,
    "extend": 7,
    "receive": 8,
    "dead": 3,
}


class World(NamedTuple):
    """What there is to trade with: tenants, their warehouses, SKUs by unit."""

    tenants: list[str]
    warehouses: list[str]
    whole: list[str]
    fractional: list[str]

    @property
    def skus(self) -> list[str]:
        return [*self.whole, *self.fractional]


class Deal(NamedTuple):
    """A negotiation that may reserve."""

    tenant: str
    negotiation: str


class Held(NamedTuple):
    """A reservation as it was answered; others may have changed it since."""

    deal: Deal
    reservation: str
    skus: list[str]


class Shop:
    """Makes intents, learns from answers."""

    def __init__(self, world: World, prefix: str, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._keys = (f"{prefix}-{n:06d}" for n in count(1))
        self._deals: dict[str, Deal] = {}
        self._held: dict[str, Held] = {}

    def inherit(self, story: Story) -> None:
        """Take over the book of a client that is no more."""
        for key, told in story.answers.items():
            self.learn(story.intents[key], told)

    def openings(self) -> Iterator[Intent]:
        """Negotiations to begin with."""
        for _ in range(NEGOTIATIONS - len(self._deals)):
            yield self._open()

    def next(self) -> Intent:
        """Make up the next command."""
        word = self._rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if not self._deals:
            return self._open()
        if word == "receive":
            return self._receive()
        if word == "dead" and len(self._deals) > NEGOTIATIONS // 2:
            deal = self._pick(self._deals)
            return self._state(deal, "DEAD")
        if word in {"reserve", "dead"} or not self._held:
            return self._reserve(self._pick(self._deals), None)
        return self._on_held(word, self._pick(self._held))

    def learn(self, intent: Intent, told: Told) -> None:
        """Keep the book."""
        if told["kind"] == "NegotiationResult":
            negotiation = intent.args["negotiation"]
            if told["state"] == "DEAD":
                self._deals.pop(negotiation, None)
            else:
                self._deals[negotiation] = Deal(intent.tenant, negotiation)
        elif told["kind"] == "ReserveResult" and told["success"]:
            deal = Deal(intent.tenant, intent.args["negotiation"])
            skus = [item["sku"] for item in told["items"] if item["reservedQuantity"]]
            self._held[told["reservationId"]] = Held(deal, told["reservationId"], skus)
            while len(self._held) > MAX_BOOK:
                del self._held[next(iter(self._held))]

    # -- intents ----------------------------------------------------------------------------

    def _on_held(self, word: str, held: Held) -> Intent:
        if word in {"replace", "release", "consume"} and self._rng.random() < 0.8:
            self._held.pop(held.reservation, None)  # else somebody else tries the same
        part = None
        if word.endswith("_part"):
            part = {sku: self._quantity(sku, 2) for sku in self._some(held.skus)}
        match word:
            case "replace":
                return self._reserve(held.deal, held.reservation)
            case "extend":
                hours = self._rng.randint(1, 24)
                return self._make(
                    "extend", held.deal.tenant, reservation=held.reservation, hours=hours
                )
            case "consume" | "consume_part":
                return self._make(
                    "consume", held.deal.tenant, reservation=held.reservation, items=part
                )
            case "release_negotiation":
                return self._make(
                    "release",
                    held.deal.tenant,
                    reservation=None,
                    negotiation=held.deal.negotiation,
                    items=None,
                )
            case _:
                return self._make(
                    "release",
                    held.deal.tenant,
                    reservation=held.reservation,
                    negotiation=None,
                    items=part,
                )

    def _open(self) -> Intent:
        negotiation = str(UUID(int=self._rng.getrandbits(128), version=4))
        return self._state(Deal(self._rng.choice(self._world.tenants), negotiation), "PROPOSAL")

    def _state(self, deal: Deal, state: str) -> Intent:
        return self._make("negotiation", deal.tenant, negotiation=deal.negotiation, state=state)

    def _reserve(self, deal: Deal, replaces: str | None) -> Intent:
        rng = self._rng
        skus = rng.choices(self._world.skus, k=rng.randint(1, 3))
        return self._make(
            "reserve",
            deal.tenant,
            negotiation=deal.negotiation,
            items=[[sku, self._quantity(sku, 5)] for sku in skus],
            type=rng.choice(["SOFT", "SOFT", "HARD"]),
            priority=rng.choice(["NORMAL", "HIGH", "URGENT"]),
            hours=rng.randint(24, 96),
            replaces=replaces,
        )

    def _receive(self) -> Intent:
        sku = self._rng.choice(self._world.skus)
        return self._make(
            "receive",
            self._rng.choice(self._world.tenants),
            sku=sku,
            quantity=self._quantity(sku, 20),
            warehouse=self._rng.choice(self._world.warehouses),
        )

    def _make(self, verb: str, tenant: str, **args: Any) -> Intent:
        return Intent(next(self._keys), verb, tenant, args)

    # -- chance -----------------------------------------------------------------------------

    def _quantity(self, sku: str, most: int) -> str:
        if sku in self._world.whole:
            return str(self._rng.randint(1, most))
        return str(Decimal(self._rng.randint(1, most * 1000)).scaleb(-3))

    def _pick(self, book: dict[str, Any]) -> Any:
        return book[self._rng.choice(list(book))]

    def _some(self, skus: list[str]) -> list[str]:
        return self._rng.sample(sorted(set(skus)), self._rng.randint(1, len(set(skus))))
