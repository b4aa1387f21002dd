"""The reference: one tenant in memory, moved on by the pure core and nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from cerniq_stock.domain.batch import decide_many, wanted_from_holders
from cerniq_stock.domain.commands import Command, Extend, Release, Reserve, SetNegotiation
from cerniq_stock.domain.model import PRIORITY_RANK, ZERO, Line, Reservation
from cerniq_stock.domain.work import Changes, State, Work
from tests.helpers import Stored, fold, is_due, stored_answer, with_due


class Model:
    """Holds all of a tenant's rows, and decides on them as the engine should."""

    def __init__(self, stored: Stored) -> None:
        self.state = stored.state
        self.movements = list(stored.movements)
        self.notifications = list(stored.notifications)

    def decide(self, commands: Sequence[Command], now: datetime) -> tuple[Any, ...]:
        state = with_due(self.state, now)
        answers, changes = decide_many(_in_view(state, commands, now), commands, now)
        self._take_over(changes)
        return answers

    def pass_time(self, by: timedelta) -> None:
        reservations = {
            id_: of._replace(expires_at=of.expires_at - by)
            for id_, of in self.state.reservations.items()
        }
        self.state = replace(self.state, reservations=reservations)

    def sweep(self, now: datetime) -> int:
        """Write down everything that has expired, in the order of the ids."""
        work = Work(with_due(self.state, now), now)
        due = [r for r in self.state.reservations.values() if is_due(r, now)]
        for reservation in due:
            work.expire(reservation)
        self._take_over(work.changes())
        return len(due)

    def stored(self) -> Stored:
        """What the database should hold; nothing is marked as due there."""
        state = self.state
        levels = {
            id_: tuple(level._replace(due=ZERO) for level in of) for id_, of in state.levels.items()
        }
        told = {
            key: (seal, answer if isinstance(answer, dict) else stored_answer(answer))
            for key, (seal, answer) in state.reserve_answers.items()
        }
        state = replace(state, levels=levels, reserve_answers=told)
        return Stored(state, tuple(self.movements), tuple(self.notifications))

    def _take_over(self, changes: Changes) -> None:
        self.state = fold(self.state, changes)
        self.movements += changes.movements
        self.notifications += changes.notifications


def _in_view(state: State, commands: Sequence[Command], now: datetime) -> State:
    """The state as far as a batch may see it: all SOFT holders, but of the expired no more than
    are needed. Which of those are written down now and which by a sweep later is the only thing
    that may depend on what was loaded.
    """
    seen = {id_ for id_, of in state.reservations.items() if of.type == "SOFT" and of.live(now)}
    seen |= _named(state, commands)
    due = any(is_due(of, now) for of in state.reservations.values())
    for product_id, amount in wanted_from_holders(state, commands, due=due).items():
        seen |= _expired_that_give(state, product_id, amount, now)
    reservations = {id_: of for id_, of in state.reservations.items() if id_ in seen}
    return replace(state, reservations=reservations)


def _named(state: State, commands: Sequence[Command]) -> set[str]:
    named: set[str] = set()
    negotiations: set[UUID] = set()
    for command in commands:
        match command:
            case Reserve():
                named.add(command.replaces or "")
            case Extend():
                named.add(command.reservation_id)
            case Release() | SetNegotiation():
                named.add(getattr(command, "reservation_id", None) or "")
                if command.negotiation_id is not None:
                    negotiations.add(command.negotiation_id)
    of_negotiations = {
        id_
        for id_, of in state.reservations.items()
        if of.status == "ACTIVE" and of.negotiation_id in negotiations
    }
    return named | of_negotiations


def _expired_that_give(state: State, product_id: UUID, wanted: Decimal, now: datetime) -> set[str]:
    """Expired holders of a product up to the quantity: NORMAL first, then the latest first."""

    def rank(of: tuple[Reservation, Line]) -> Any:
        reservation, line = of
        age = now - reservation.created_at
        return PRIORITY_RANK[reservation.priority], age, _down(reservation.id), line[:1]

    held = [
        (reservation, line)
        for reservation in state.reservations.values()
        if is_due(reservation, now)
        for line in reservation.lines
        if line.held and line.product_id == product_id
    ]
    taken: set[str] = set()
    for reservation, line in sorted(held, key=rank):
        if wanted <= 0:
            break
        taken.add(reservation.id)
        wanted -= line.held
    return taken


def _down(text: str) -> tuple[int, ...]:
    """A key by which texts sort backwards."""
    return tuple(-ord(letter) for letter in text)
