"""Short stories that the engine and the model go through side by side, one per mutant.

Random steps find them as well, some of them late; a story shows what it takes.
"""

from collections.abc import Sequence

from cerniq_stock.domain.commands import Command
from cerniq_stock.domain.work import State
from tests.helpers import adjust, consume, extend, negotiation, product, release, reserve, shop

SWEEP = "sweep"
Scene = Sequence[Command | list[Command] | int | str]
"""Commands, alone or as one batch; hours that pass; SWEEP."""


def hard(id_: str, items: str) -> Command:
    return reserve(id_, items, type="HARD")


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
    "sweep_forgets_lines": [reserve("r1", "A=5 B=1", expires_in_h=1), 1, SWEEP],
}  # fmt: skip
