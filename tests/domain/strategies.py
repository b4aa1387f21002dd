"""Random shops and random commands: few units and few names, so that everything meets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import strategies as st

from cerniq_stock.domain.commands import (
    Command,
    CreateOrder,
    DeductOrder,
    Item,
    OrderCommand,
    OrderPart,
    Quantity,
    ReleaseOrder,
    Reserve,
    ReserveOrder,
    ReturnOrder,
)
from cerniq_stock.domain.model import Level, Product, Tenant, Unit
from cerniq_stock.domain.work import State
from tests import helpers
from tests.helpers import product, sealed, shop, uid

PRODUCTS = (
    product("A", reorder_point=Decimal(3)),
    product("B", reorder_point=Decimal(1)),
    product("K", unit="KG", reorder_point=Decimal("1.5")),
    product("OLD", status="DISCONTINUED"),
)
WHOLE = ("A", "B", "OLD", "NONE")
DEALS = {"n1": "PROPOSAL", "n2": "NEGOTIATION", "n3": "WON"}
WAREHOUSES = ("W1", "W2", "W3")


@dataclass(frozen=True)
class Again:
    """Ask once more what was asked some commands ago, with the same key."""

    back: int


@st.composite
def shops(draw: st.DrawFn, warehouses: int = 2) -> State:
    """A tenant with four products, a few units of each per warehouse, some of them blocked."""
    tenant = Tenant(
        uid("tenant"),
        "Shop",
        draw(st.sampled_from(["ro", "en"])),
        WAREHOUSES[:warehouses],
        draw(st.integers(0, 2)),
        draw(st.integers(71, 200)),
    )
    state = shop({}, tenant=tenant, products=PRODUCTS, negotiations=DEALS)
    levels = {}
    for of in PRODUCTS:
        where = [tenant.warehouses[0]]
        where += [w for w in tenant.warehouses[1:] if draw(st.booleans())]
        least = 5 if of.sku == "A" else 0
        levels[of.id] = tuple(draw(_level(of, warehouse, least)) for warehouse in where)
    return replace(state, levels=levels)


@st.composite
def _level(draw: st.DrawFn, of: Product, warehouse: str, least: int) -> Level:
    step = Decimal("0.125") if of.unit == "KG" else Decimal(1)
    total = draw(st.integers(least, least + 8))
    blocked = draw(st.integers(0, min(total, 2)))
    return Level(of.id, warehouse, total * step, Decimal(0), blocked * step, 0)


def quantities(sku: str, *, most: int = 6) -> st.SearchStrategy[Decimal]:
    if sku in WHOLE:
        return st.integers(1, most).map(Decimal)
    return st.integers(1, most * 8).map(lambda n: n * Decimal("0.125"))


# Hypothesis likes the ends of a range: what is rare stands in the middle.
SKUS = st.sampled_from(["A"] * 5 + ["B"] * 4 + ["OLD", "NONE"] + ["K"] * 5 + ["A"] * 4)
deals = st.sampled_from(["n1"] * 8 + ["n3", "n4"] + ["n2"] * 3 + ["n1"] * 7)
keys = st.sampled_from([None] * 8 + ["k1", "k2", "k3"] + [None] * 9)
ids = st.integers(0, 15).map("#{}".format)
order_ids = st.sampled_from([0, 0, 0, 1, 4, 3, 2, 1, 1, 0]).map("#{}".format)
origins = st.sampled_from([None, "n1", None, "n3", "n4", "n2", "n1", None, "n1"])
warehouses = st.sampled_from([None, None, "W1", "W9", "W2", "W2", "W2"])


@st.composite
def items(draw: st.DrawFn, skus: st.SearchStrategy[str], most: int) -> Item:
    """A line; now and then with a wrong unit, a wrong product or too many places."""
    sku = draw(skus)
    quantity = draw(quantities(sku, most=most))
    flaw = draw(st.integers(0, 39))
    if flaw == 17:
        return Item(sku, quantity + Decimal("0.125"))
    if flaw == 23:
        return Item(sku, quantity, uid("A"), Unit.BUC)
    return Item(sku, quantity)


@st.composite
def reservations(
    draw: st.DrawFn, skus: st.SearchStrategy[str] = SKUS, *, types: str = "SSH", most: int = 6
) -> Reserve:
    """Its id is given later, by its place among all (see `Numbering`)."""
    kind = {"S": "SOFT", "H": "HARD"}
    command = helpers.reserve(
        "",
        draw(st.lists(items(skus, most), min_size=1, max_size=3)),
        to=draw(deals),
        type=kind[draw(st.sampled_from(types))],
        priority=draw(st.sampled_from(["NORMAL", "NORMAL", "HIGH", "URGENT"])),
        expires_in_h=draw(st.sampled_from([1, 2, 24, 72])),
        replaces=draw(ids) if draw(st.integers(0, 7)) == 3 else None,
    )
    return replace(command, key=draw(keys) or "")


def _part(draw: st.DrawFn) -> tuple[Quantity, ...] | None:
    if draw(st.booleans()):
        return None
    names = draw(st.lists(st.sampled_from(["A", "B", "K"]), min_size=1, max_size=2, unique=True))
    return tuple(Quantity(sku, draw(quantities(sku, most=4))) for sku in names)


@st.composite
def releases(draw: st.DrawFn) -> Command:
    reason = draw(st.sampled_from(["MANUAL", "CANCELLED", "CONSUMED", "CONSUMED", "EXPIRED"]))
    of = draw(st.one_of(ids, ids, deals))
    command = helpers.release(of, reason=reason, key=draw(keys))
    return sealed(replace(command, items=_part(draw)))


@st.composite
def extensions(draw: st.DrawFn) -> Command:
    return helpers.extend(draw(ids), draw(st.sampled_from([1, 24, 72])), key=draw(keys))


@st.composite
def endings(draw: st.DrawFn) -> Command:
    states = ["PROPOSAL"] * 3 + ["CLOSING", "WON", "DEAD", "TIMEOUT"] + ["PROPOSAL"] * 3
    return helpers.negotiation(draw(deals), draw(st.sampled_from(states)), key=draw(keys))


@st.composite
def on_the_shelf(draw: st.DrawFn, skus: st.SearchStrategy[str] = SKUS) -> Command:
    sku = draw(skus)
    where = {"into": draw(warehouses), "key": draw(keys)}
    step = Decimal(1) if sku in WHOLE else Decimal("0.125")
    match draw(st.sampled_from(["receive", "take_back", "adjust", "adjust", "count"])):
        case "receive":
            return helpers.receive(f"{sku}={draw(quantities(sku, most=4))}", **where)
        case "take_back":
            return helpers.take_back(f"{sku}={draw(quantities(sku, most=2))}", **where)
        case "adjust":
            deltas = draw(st.integers(-4, 3)) * step, draw(st.integers(-2, 2)) * step
            return helpers.adjust(sku, *deltas, **where)
        case _:
            return helpers.count(f"{sku}={draw(st.integers(0, 9)) * step}", **where)


@st.composite
def new_orders(draw: st.DrawFn, skus: st.SearchStrategy[str] = SKUS) -> Command:
    """Its id is given later; now and then it is the id of another order."""
    lines = draw(st.lists(items(skus, 3), min_size=1, max_size=3))
    command = helpers.order("", lines, of=draw(origins), key=draw(keys))
    id_ = draw(order_ids) if draw(st.integers(0, 11)) == 5 else "#new"
    return replace(command, order_id=id_)  # type: ignore[arg-type]


@st.composite
def _order_parts(draw: st.DrawFn) -> tuple[OrderPart, ...] | None:
    if draw(st.booleans()):
        return None
    parts = []
    for _ in range(draw(st.integers(1, 2))):
        sku = draw(st.sampled_from(["A", "A", "A", "K", "B", "A"]))
        quantity = draw(quantities(sku, most=2))
        number = draw(st.sampled_from([1, 1, 2, 4, 3, 2, 1])) if draw(st.booleans()) else None
        by_both = number is None or draw(st.integers(0, 5)) == 3
        parts.append(OrderPart(quantity, sku if by_both else None, number))
    return tuple(parts)


@st.composite
def order_steps(draw: st.DrawFn) -> Command:
    """What follows an order; which one is said later."""
    kinds = [ReserveOrder, DeductOrder, ReturnOrder, ReleaseOrder, DeductOrder, ReserveOrder]
    kind, key = draw(st.sampled_from(kinds)), draw(keys)
    if kind is ReserveOrder:
        command: Command = helpers.reserve_order("", "", key=key)
    else:
        command = helpers.of_order(kind, "", into=draw(warehouses), key=key)
        command = replace(command, parts=draw(_order_parts()))
    return replace(command, order_id=draw(order_ids))  # type: ignore[arg-type]


@st.composite
def on_orders(draw: st.DrawFn, skus: st.SearchStrategy[str] = SKUS) -> list[Command]:
    """What is asked of orders one after the other, mostly of a new one."""
    first = draw(st.lists(new_orders(skus), max_size=1))
    return first + draw(st.lists(order_steps(), min_size=1, max_size=4))


@st.composite
def any_command(draw: st.DrawFn, skus: st.SearchStrategy[str] = SKUS) -> Command | Again:
    # `one_of` would count a strategy that stands there twice as one
    kinds = [
        *[reservations(skus)] * 5,
        *[releases()] * 4,
        extensions(),
        endings(),
        *[on_the_shelf(skus)] * 3,
        *[new_orders(skus)] * 3,
        *[order_steps()] * 5,
        *[st.integers(1, 8).map(Again)] * 2,
        *[reservations(skus)] * 4,
    ]
    return draw(kinds[draw(st.integers(0, len(kinds) - 1))])


batches = st.lists(any_command(), min_size=1, max_size=8)
pauses = st.sampled_from([timedelta(0)] * 3 + [timedelta(hours=h) for h in (1, 2, 24)])
histories = st.lists(st.tuples(pauses, batches), min_size=2, max_size=6)


class Numbering:
    """Turns what was drawn into commands: names reservations and finds what is asked again."""

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self.reserved = 0
        self.ordered = 0

    def __call__(self, state: State, drawn: Sequence[Command | Again]) -> list[Command]:
        known = list(state.reservations)
        live = [r.id for r in state.reservations.values() if r.status == "ACTIVE"]
        orders = list(state.orders)
        made: list[Command] = []
        for of in drawn:
            if isinstance(of, Again) and len(self.asked) < of.back:
                continue
            asked = self.asked[-of.back] if isinstance(of, Again) else of
            command = self._named(asked, known, live)
            if isinstance(command, OrderCommand):
                command = self._of_order(command, orders)
            self.asked.append(command)
            made.append(command)
        return made

    def _named(self, of: Command, known: list[str], live: list[str]) -> Command:
        """`#5` to `#7` may be any reservation; the others are live ones, the latest first."""
        for name in ("reservation_id", "replaces"):
            drawn = getattr(of, name, None)
            if drawn and drawn.startswith("#"):
                n = int(drawn[1:])
                pick = known if 5 <= n <= 7 else live
                of = sealed(replace(of, **{name: pick[-1 - n % len(pick)] if pick else "r0000"}))
        if isinstance(of, (Reserve, ReserveOrder)):
            self.reserved += 1
            id_ = f"r{self.reserved:04d}"
            of = replace(of, reservation_id=id_)
            if isinstance(of, Reserve):
                of = replace(of, key=of.key or f"key-{id_}")
            known.append(id_)
            live.append(id_)
        return of

    def _of_order(self, of: OrderCommand, orders: list[UUID]) -> OrderCommand:
        """The latest is `#0`."""
        drawn = of.order_id
        if not isinstance(drawn, str):  # it is asked again
            return of
        if isinstance(of, CreateOrder) and (drawn == "#new" or not orders):
            self.ordered += 1
            orders.append(uid(f"o{self.ordered}"))
            return sealed(replace(of, order_id=orders[-1]))
        n = int(drawn[1:])
        return sealed(replace(of, order_id=orders[-1 - n % len(orders)] if orders else uid("o0")))
