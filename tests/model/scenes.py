"""Short stories that the engine and the model go through side by side, one per mutant.

Random steps find them as well, some of them late; a story shows what it takes.
"""

from collections.abc import Sequence

from cerniq_stock.domain.commands import Command, DeductOrder, ReleaseOrder, ReturnOrder
from cerniq_stock.domain.work import State
from tests.helpers import (
    adjust,
    consume,
    extend,
    negotiation,
    of_order,
    order,
    product,
    release,
    reserve,
    reserve_order,
    shop,
)

SWEEP = "sweep"
Scene = Sequence[Command | list[Command] | int | str]
"""Commands, alone or as one batch; hours that pass; SWEEP."""


def hard(id_: str, items: str) -> Command:
    return reserve(id_, items, type="HARD")


def deliver(name: str, parts: str | None = None) -> Command:
    return of_order(DeductOrder, name, parts)


def cancel(name: str, parts: str | None = None) -> Command:
    return of_order(ReleaseOrder, name, parts)


def opening() -> State:
    """Ten pieces of A and of B; one hears of A when three of it are left."""
    products = [product("A", reorder_point=3), product("B")]
    return shop("A=10 B=10", products=products, negotiations={"n1": "PROPOSAL", "n2": "PROPOSAL"})


ALONG_THE_WAY: dict[str, Scene] = {
    # What r2 holds shrinks by the sale, and nothing gets free: r1 has to give way, too, although
    # r2 alone held all that was lacking when the batch began.
    "goods_sold_before_hard_takes": [
        reserve("r1", "A=3", priority="URGENT"), reserve("r2", "A=2"),
        [consume("r2", "A=1"), hard("r3", "A=7")],
    ],
    # The same with somebody between them who is not named: it is his turn, not r1's.
    "victims_keep_their_order_after_a_sale": [
        reserve("r1", "A=3", priority="URGENT"), reserve("r2", "A=3", priority="HIGH"),
        reserve("r3", "A=2"), [release("r1", "A=1"), consume("r3"), hard("r4", "A=4")],
    ],
    # n3 is unknown and stays so: a refusal leaves nothing behind.
    "refused_negotiation_is_not_made": [
        reserve("r1", "A=1"), release("r1", key="k"), negotiation("n3", "PROPOSAL", key="k"),
    ],
    # The first of two commands makes the order: what its negotiation holds is what counts, and
    # how much may have to give way to it.
    "order_made_twice_in_a_batch": [
        reserve("r1", "A=6"), reserve("r2", "A=4 B=9", to="n2"),
        [
            order("o1", "A=8 B=5", of="n1"), order("o1", "A=1", of="n2"),
            reserve_order("o1", "r3"), deliver("o1", "A=7"), cancel("o1"),
        ],
    ],
}  # fmt: skip
"""What went wrong once, or nearly."""

OF_DOMAIN: dict[str, Scene] = {
    "latest_last": [reserve("r1", "A=5"), reserve("r2", "A=5"), hard("r3", "A=6")],
    "priority_ignored": [
        reserve("r1", "A=5"), reserve("r2", "A=5", priority="URGENT"), hard("r3", "A=6"),
    ],
    "replay_ignored": [reserve("r1", "A=1", key="k"), reserve("r2", "A=1", key="k")],
    "blocked_ignored": [adjust("A", 0, 4), reserve("r1", "A=8")],
    "sale_gives_back": [reserve("r1", "A=4"), consume("r1")],
    "hard_gives_way": [hard("r1", "A=10"), [release("r1", "A=1"), hard("r2", "A=5")]],
    "low_stock_late": [reserve("r1", "A=7")],
    "line_order_lost": [reserve("r1", "A=6 A=6")],
    "cancelled_again": [
        order("o1", "A=4"), reserve_order("o1", "r1"), cancel("o1", "A=3"), cancel("o1", "A=3"),
    ],
    "delivers_what_is_not_there": [order("o1", "A=11"), deliver("o1")],
    "delivers_from_the_shelf": [order("o1", "A=4"), reserve_order("o1", "r1"), deliver("o1")],
    "negotiation_keeps_its_own": [
        reserve("r1", "A=4"), order("o1", "A=4", of="n1"), reserve_order("o1", "r2"),
    ],
    "half_an_order": [order("o1", "A=4 B=11"), reserve_order("o1", "r1")],
    "comes_back_twice": [
        order("o1", "A=4"), deliver("o1"), *[of_order(ReturnOrder, "o1", "A=3")] * 2,
    ],
}  # fmt: skip

OF_STORE: dict[str, Scene] = {
    "earliest_gives_way": [reserve("r1", "A=5"), reserve("r2", "A=5"), hard("r3", "A=3")],
    "priority_not_loaded": [
        reserve("r1", "A=5"), reserve("r2", "A=5", priority="URGENT"), hard("r3", "A=3"),
    ],
    "soft_before_expired": [
        reserve("r1", "A=5", expires_in_h=1), reserve("r2", "A=5"), 1, hard("r3", "A=3"),
    ],
    "expired_hard_stays": [
        reserve("r1", "A=10", type="HARD", expires_in_h=1), 1, reserve("r2", "A=5"),
    ],
    "nothing_is_due": [reserve("r1", "A=10", expires_in_h=1), 1, reserve("r2", "A=5")],
    "released_is_forgotten": [reserve("r1", "A=5"), release("r1", "A=2")],
    "lines_are_not_extended": [reserve("r1", "A=5"), extend("r1")],
    "negotiation_keeps": [reserve("r1", "A=5", to="n2"), negotiation("n2", "DEAD")],
    "no_key_is_remembered": [reserve("r1", "A=5"), release("r1", key="k"), release("r1", key="k")],
    "order_is_not_counted": [order("o1", "A=4"), deliver("o1", "A=1")],
    "order_keeps_what_it_held": [order("o1", "A=4"), reserve_order("o1", "r1"), cancel("o1")],
    "order_forgets_who_holds": [order("o1", "A=4"), reserve_order("o1", "r1")],
    "order_stays_new": [order("o1", "A=4"), cancel("o1")],
    "order_of_no_negotiation": [
        reserve("r1", "A=4"), order("o1", "A=4", of="n1"), reserve_order("o1", "r2"),
    ],
    "sweep_forgets_lines": [reserve("r1", "A=5 B=1", expires_in_h=1), 1, SWEEP],
}  # fmt: skip
