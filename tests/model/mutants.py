"""The engine, broken on purpose: what the tests of it must notice.

A mutant of the domain is worked into the engine only, never into the model beside it; a mutant of
the SQL exists on that side alone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from cerniq_stock.domain import orders, reserve, work
from cerniq_stock.domain.model import ZERO, MovementType, OrderLine, Reservation
from cerniq_stock.domain.work import Work
from cerniq_stock.store.queries import SQL


@contextmanager
def patched(target: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield


@contextmanager
def both(one: AbstractContextManager[None], other: AbstractContextManager[None]) -> Iterator[None]:
    with one, other:
        yield


def latest_last() -> Any:
    """Displace the earliest reservation first."""
    soft_lines = Work.soft_lines
    return patched(Work, "soft_lines", lambda *a: iter(list(soft_lines(*a))[::-1]))


def priority_ignored() -> Any:
    """URGENT gives way like NORMAL."""
    return patched(work, "PRIORITY_RANK", dict.fromkeys(work.PRIORITY_RANK, 0))


def replay_ignored() -> Any:
    """A key that was used before takes effect again."""

    def replay(desk: Work, command: Any, *_: Any) -> Any:
        return reserve.hold(desk, command, {})

    return patched(reserve, "_replay", replay)


def blocked_ignored() -> Any:
    """What is blocked is promised, too."""

    def split(levels: list[Any], wanted: Any) -> Any:
        return real([level._replace(blocked=ZERO) for level in levels], wanted)

    real = reserve.split
    return patched(reserve, "split", split)


def sale_gives_back() -> Any:
    """What is sold can be promised again (READING 6)."""
    move = Work.move

    def moved(self: Work, *args: Any, **deltas: Any) -> Any:
        if args[3] is MovementType.SALE:
            deltas["total"] = ZERO
        return move(self, *args, **deltas)

    return patched(Work, "move", moved)


def expired_still_holds() -> Any:
    """A reservation lasts through the instant of its expiry."""
    return patched(
        Reservation, "live", lambda self, now: self.status == "ACTIVE" and self.expires_at >= now
    )


def hard_gives_way() -> Any:
    """HARD takes from HARD, too."""
    soft_lines = Work.soft_lines

    def lines(self: Work, product_id: Any, warehouse: Any = None) -> Any:
        as_soft = [r._replace(type="SOFT") for r in self.holders(product_id)]
        with patched(Work, "holders", lambda *_: as_soft):
            return iter(list(soft_lines(self, product_id, warehouse)))

    return patched(Work, "soft_lines", lines)


def low_stock_late() -> Any:
    """Tell of low stock only below the reorder point."""

    def tell(self: Work, product: Any, before: Any, after: Any) -> None:
        if after < product.reorder_point:
            real(self, product, before, after)

    real = Work.tell_if_low
    return patched(Work, "tell_if_low", tell)


def line_order_lost() -> Any:
    """Later lines of one SKU do not count what earlier ones took."""
    available = Work.available

    def first_look(self: Work, product_id: Any) -> Any:
        seen = self.__dict__.setdefault("_seen", {})
        return seen.setdefault(product_id, available(self, product_id))

    return patched(Work, "available", first_look)


def cancelled_again() -> Any:
    """What was released of an order is outstanding still: a repeat releases it twice."""
    outstanding = property(lambda line: line.quantity - line.deducted)
    return patched(OrderLine, "outstanding", outstanding)


def delivers_what_is_not_there() -> Any:
    """A delivery does not look whether what is not reserved is free."""
    return patched(orders, "_not_free", lambda *_: [])


def delivers_from_the_shelf() -> Any:
    """A delivery takes from free stock and leaves what the order holds where it is."""
    give = orders._give

    def kept(desk: Work, order: Any, held: Any, reason: Any, *rest: Any) -> None:
        if reason != "CONSUMED":
            give(desk, order, held, reason, *rest)

    return patched(orders, "_give", kept)


def negotiation_keeps_its_own() -> Any:
    """What the order's negotiation holds is not given to the order (READING 16)."""
    return patched(orders, "_of_negotiation", lambda *_: [])


def half_an_order() -> Any:
    """An order is reserved as far as the goods go (job 29: all lines or none)."""
    hold = orders._hold

    def some(desk: Work, command: Any, order: Any, wanted: Any, before: Any) -> Any:
        there = [x for x in wanted if not cannot(desk, [x], [])]
        return hold(desk, command, order, there, before) if there else order

    cannot = orders._cannot_hold
    with_none = patched(orders, "_cannot_hold", lambda *_: [])
    return both(with_none, patched(orders, "_hold", some))


def comes_back_twice() -> Any:
    """What was delivered can be returned as often as one likes."""
    done = orders._done

    def forgets(desk: Work, order: Any, lines: Any, amounts: Any) -> Any:
        return done(desk, order, [line._replace(returned=ZERO) for line in lines], amounts)

    return patched(orders, "_done", forgets)


DOMAIN: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "latest_last": latest_last,
    "priority_ignored": priority_ignored,
    "replay_ignored": replay_ignored,
    "blocked_ignored": blocked_ignored,
    "sale_gives_back": sale_gives_back,
    "expired_still_holds": expired_still_holds,
    "hard_gives_way": hard_gives_way,
    "low_stock_late": low_stock_late,
    "line_order_lost": line_order_lost,
    "cancelled_again": cancelled_again,
    "delivers_what_is_not_there": delivers_what_is_not_there,
    "delivers_from_the_shelf": delivers_from_the_shelf,
    "negotiation_keeps_its_own": negotiation_keeps_its_own,
    "half_an_order": half_an_order,
    "comes_back_twice": comes_back_twice,
}

STORE = {
    "earliest_gives_way": ("holders_to_give_way", "r.created_at DESC, r.id DESC", "r.created_at"),
    "priority_not_loaded": ("holders_to_give_way", "'HIGH' THEN 1 ELSE 2", "'HIGH' THEN 0 ELSE 0"),
    "soft_before_expired": (
        "holders_to_give_way",
        "(l.expires_at <= $4) DESC",
        "l.expires_at DESC",
    ),
    "expired_hard_stays": ("holders_to_give_way", "l.expires_at <= $4 OR r.type", "r.type"),
    "nothing_is_due": ("due_of_products", "held > 0", "held < 0"),
    "released_is_forgotten": ("write_changed_lines", "released = x.released", "released = 0"),
    "lines_are_not_extended": ("write_changed_lines", ", expires_at = x.expires_at", ""),
    "negotiation_keeps": ("products_of_holds", "m.negotiation_id = q.negotiation_id", "false"),
    "no_key_is_remembered": ("told_answers", "m.key = q.key", "false"),
    "order_is_not_counted": ("write_changed_order_lines", "deducted = x.deducted", "deducted = 0"),
    "order_keeps_what_it_held": ("write_changed_order_lines", "SET reserved = x.reserved,", "SET"),
    "order_forgets_who_holds": (
        "write_changed_orders",
        "reservation_id = x.reservation_id",
        "reservation_id = NULL",
    ),
    "order_stays_new": ("write_changed_orders", "status = x.status", "status = 'NEW'"),
    "order_of_no_negotiation": ("about_orders", "o.negotiation_id", "NULL::uuid AS negotiation_id"),
    "sweep_forgets_lines": ("expire_due", "SET released = l.released + d.held", "SET released = 0"),
}
"""Name: statement, what stands there, what the mutant puts in its place."""


@contextmanager
def sql_mutant(name: str) -> Iterator[None]:
    query, text, instead = STORE[name]
    assert text in SQL[query], f"{query} has changed: give the mutant a new place"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SQL, query, SQL[query].replace(text, instead))
        yield
