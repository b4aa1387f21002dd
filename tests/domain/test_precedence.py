"""Where several refusals apply, the first of the enum is answered: for every pair that can meet.

A flaw is one change to a command that would be accepted, or to the shop it meets. Flaws of one
slot exclude each other; all others are tried alone and two by two.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any, NamedTuple

import pytest

from cerniq_stock.domain.batch import decide_many
from cerniq_stock.domain.commands import (
    Command,
    DeductOrder,
    Item,
    ReleaseOrder,
    Reserve,
    ReturnOrder,
)
from cerniq_stock.domain.model import Tenant, Unit
from cerniq_stock.domain.outcomes import OrderResult, Refusal, Refused, ReserveResult
from cerniq_stock.domain.work import Changes
from tests.helpers import (
    NOW,
    adjust,
    consume,
    count,
    extend,
    fold,
    of_order,
    order,
    product,
    receive,
    release,
    reserve,
    reserve_order,
    shop,
    uid,
    with_due,
)

R = Refusal
ORDER = list(Refusal)


@dataclass
class Case:
    """A shop where `make(**question)` is accepted, until flaws are worked into it."""

    make: Callable[..., Command]
    question: dict[str, Any]
    before: list[Command] = field(default_factory=list)
    tenant: Tenant = field(default_factory=lambda: Tenant(uid("tenant"), "Shop"))
    status: str = "ACTIVE"
    stock: str = "A=10 B=10"

    def refusal(self) -> Refusal | None:
        """The code that is answered an hour later: of the command, else of its first line."""
        deals = {"n1": "PROPOSAL", "n0": "WON"}
        products = [product("A", status=self.status)]
        state = shop(self.stock, tenant=self.tenant, products=products, negotiations=deals)
        for command in self.before:
            state = fold(state, decide_many(state, [command], NOW).changes)
        now = NOW + timedelta(hours=1)
        batch = decide_many(with_due(state, now), [self.make(**self.question)], now)
        (answer,) = batch.answers
        code = _code(answer)
        if code is not None and code.whole:
            assert batch.changes == Changes()
        return code


def _code(answer: Any) -> Refusal | None:
    if isinstance(answer, (ReserveResult, OrderResult)):
        return answer.errors[0].code if answer.errors else None
    return answer.code if isinstance(answer, Refused) else None


class Flaw(NamedTuple):
    code: Refusal
    slot: str
    apply: Callable[[Case], None]


# -- how to spoil a command -----------------------------------------------------------------


def ask(*before: Command, **question: Any) -> Callable[[Case], None]:
    def apply(case: Case) -> None:
        case.before.extend(before)
        case.question.update(question)

    return apply


def allow(**limits: int) -> Callable[[Case], None]:
    def apply(case: Case) -> None:
        case.tenant = replace(case.tenant, **limits)

    return apply


def of_shop(**changed: str) -> Callable[[Case], None]:
    def apply(case: Case) -> None:
        for name, value in changed.items():
            setattr(case, name, value)

    return apply


EXPIRED = reserve("x", "B=1", expires_in_h=1)
ENDED = (reserve("y", "B=1"), release("y"))
USED_TO_RESERVE = Flaw(R.RESERVATION_EXISTS, "key", ask(reserve("u", "B=1", key="u"), key="u"))
USED = Flaw(R.RESERVATION_EXISTS, "key", ask(receive("B=1", key="u"), key="u"))


def _over(name: str) -> list[Flaw]:
    """The ways in which the reservation that a command names may be of no use."""
    return [
        Flaw(R.RESERVATION_NOT_FOUND, "of", ask(**{name: "r9"})),
        Flaw(R.RESERVATION_EXPIRED, "of", ask(EXPIRED, **{name: "x"})),
        Flaw(R.RESERVATION_ENDED, "of", ask(*ENDED, **{name: "y"})),
    ]


def _reserve(n: str, unit: Unit | None = None, id_: str | None = None, **rest: Any) -> Reserve:
    item = Item("A", Decimal(n), uid(id_) if id_ else None, unit)
    return reserve("r1", [item], **rest)


def _consume(of: str, sku: str, n: int, **rest: Any) -> Command:
    return consume(of, f"{sku}={n}", **rest)


def _take_order(n: str, unit: Unit | None = None, **rest: Any) -> Command:
    return order("o1", [Item("A", Decimal(n), None, unit)], **rest)


def _of_order(kind: Any) -> Callable[..., Command]:
    return lambda name, part, **rest: of_order(kind, name, part, **rest)


CANCELLED = order("o2", "A=2"), of_order(ReleaseOrder, "o2")
DELIVERED = [order("o1", "A=2"), of_order(DeductOrder, "o1")]
HELD = [reserve("r1", "A=2")]
HELD_FOR_ORDER = order("o1", "B=1"), reserve_order("o1", "r2")
KINDS: dict[str, tuple[Callable[[], Case], list[Flaw]]] = {
    "reserve": (
        lambda: Case(_reserve, {"n": "2"}),
        [
            USED_TO_RESERVE,
            Flaw(R.NEGOTIATION_NOT_FOUND, "to", ask(to="n9")),
            Flaw(R.NEGOTIATION_CLOSED, "to", ask(to="n0")),
            *_over("replaces"),
            Flaw(R.DURATION_LIMIT, "hours", ask(expires_in_h=337)),
            Flaw(R.UNIT_MISMATCH, "unit", ask(unit=Unit.KG)),
            Flaw(R.QUANTITY_TOO_PRECISE, "n", ask(n="0.5")),
            Flaw(R.PRODUCT_NOT_FOUND, "id", ask(id_="other")),
            Flaw(R.PRODUCT_DISCONTINUED, "status", of_shop(status="DISCONTINUED")),
            Flaw(R.INSUFFICIENT_STOCK, "stock", of_shop(stock="A=0 B=10")),
        ],
    ),
    "extend": (
        lambda: Case(extend, {"of": "r1"}, [*HELD]),
        [
            USED,
            *_over("of"),
            Flaw(R.EXTENSION_LIMIT, "extensions", allow(max_extensions=0)),
            Flaw(R.DURATION_LIMIT, "hours", allow(max_reservation_h=80)),
        ],
    ),
    "consume": (
        lambda: Case(_consume, {"of": "r1", "sku": "A", "n": 1}, [*HELD]),
        [
            USED,
            *_over("of"),
            Flaw(R.NOT_RESERVED, "sku", ask(sku="C")),
            Flaw(R.EXCEEDS_RESERVED, "n", ask(n=9)),
        ],
    ),
    "release": (
        lambda: Case(release, {"of": "r1"}, [*HELD]),
        [USED, Flaw(R.NOT_EXPIRED, "reason", ask(reason="EXPIRED"))],
    ),
    "receive": (
        lambda: Case(lambda sku, n, **rest: receive(f"{sku}={n}", **rest), {"sku": "A", "n": 1}),
        [
            USED,
            Flaw(R.PRODUCT_UNKNOWN, "sku", ask(sku="C")),
            Flaw(R.WAREHOUSE_UNKNOWN, "into", ask(into="W9")),
            Flaw(R.QUANTITY_TOO_PRECISE, "n", ask(n="0.5")),
        ],
    ),
    "adjust": (
        lambda: Case(adjust, {"sku": "A", "total": 1}),
        [
            USED,
            Flaw(R.PRODUCT_UNKNOWN, "sku", ask(sku="C")),
            Flaw(R.WAREHOUSE_UNKNOWN, "into", ask(into="W9")),
            Flaw(R.QUANTITY_TOO_PRECISE, "total", ask(total="0.5")),
            Flaw(R.BELOW_RESERVED, "blocked", ask(blocked=-1)),
            Flaw(R.STOCK_LIMIT, "total", ask(total=10**11)),
        ],
    ),
    "count": (
        lambda: Case(lambda sku, n, **rest: count(f"{sku}={n}", **rest), {"sku": "A", "n": 9}),
        [
            USED,
            Flaw(R.PRODUCT_UNKNOWN, "sku", ask(sku="C")),
            Flaw(R.WAREHOUSE_UNKNOWN, "into", ask(into="W9")),
            Flaw(R.QUANTITY_TOO_PRECISE, "n", ask(n="9.5")),
            Flaw(R.BELOW_RESERVED, "held", ask(reserve("h", "A=10", type="HARD"))),
        ],
    ),
}

KINDS |= {
    "create order": (
        lambda: Case(_take_order, {"n": "2"}),
        [
            USED,
            Flaw(R.ORDER_EXISTS, "id", ask(order("o1", "B=1"))),
            Flaw(R.NEGOTIATION_NOT_FOUND, "of", ask(of="n9")),
            Flaw(R.UNIT_MISMATCH, "unit", ask(unit=Unit.KG)),
            Flaw(R.QUANTITY_TOO_PRECISE, "n", ask(n="0.5")),
        ],
    ),
    "deduct order": (
        lambda: Case(_of_order(DeductOrder), {"name": "o1", "part": "A=1"}, [order("o1", "A=2")]),
        [
            USED,
            Flaw(R.ORDER_NOT_FOUND, "name", ask(name="o9")),
            Flaw(R.ORDER_CANCELLED, "name", ask(*CANCELLED, name="o2")),
            Flaw(R.QUANTITY_TOO_PRECISE, "part", ask(part="A=0.5")),
            Flaw(R.NOT_ORDERED, "part", ask(part="B=1")),
            Flaw(R.EXCEEDS_ORDERED, "part", ask(part="A=3")),
            Flaw(R.INSUFFICIENT_STOCK, "stock", of_shop(stock="A=0 B=10")),
        ],
    ),
    "return order": (
        lambda: Case(_of_order(ReturnOrder), {"name": "o1", "part": "A=1"}, [*DELIVERED]),
        [
            USED,
            Flaw(R.ORDER_NOT_FOUND, "name", ask(name="o9")),
            Flaw(R.WAREHOUSE_UNKNOWN, "into", ask(into="W9")),
            Flaw(R.NOT_ORDERED, "part", ask(part="B=1")),
            Flaw(R.EXCEEDS_DELIVERED, "part", ask(part="A=3")),
            Flaw(R.STOCK_LIMIT, "stock", ask(adjust("A", 99_999_999_991))),
        ],
    ),
    "release of an order's": (
        lambda: Case(release, {"of": "r1"}, [*HELD]),
        [
            USED,
            Flaw(R.ORDER_HOLDS, "of", ask(*HELD_FOR_ORDER, of="r2")),
        ],
    ),
}

PAIRS = [
    pytest.param(kind, flaws, id=f"{kind}-{'-'.join(flaw.code for flaw in flaws)}")
    for kind, (_, of_kind) in KINDS.items()
    for number in (0, 1, 2)
    for flaws in combinations(of_kind, number)
    if len({flaw.slot for flaw in flaws}) == number
]


@pytest.mark.parametrize(("kind", "flaws"), PAIRS)
def test_the_first_of_the_enum_is_answered(kind, flaws):
    case = KINDS[kind][0]()
    for flaw in flaws:
        flaw.apply(case)
    expected = min((flaw.code for flaw in flaws), key=ORDER.index, default=None)
    assert case.refusal() == expected


def test_every_refusal_is_covered():
    tried = {flaw.code for _, flaws in KINDS.values() for flaw in flaws}
    # no state without a tenant: that one is answered by the store, see test_transaction
    assert tried == set(Refusal) - {R.TENANT_NOT_FOUND}


def test_precedence_across_the_lines_of_a_reservation():
    items = [Item("A", Decimal("0.5")), Item("B", Decimal(1), None, Unit.KG)]
    assert Case(lambda: reserve("r1", items), {}).refusal() is R.UNIT_MISMATCH


def test_precedence_across_the_items_of_a_sale():
    assert Case(lambda: consume("r1", "A=9 C=1"), {}, [*HELD]).refusal() is R.NOT_RESERVED
