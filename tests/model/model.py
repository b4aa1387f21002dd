"""The reference: one tenant in memory, moved on by the pure core and nothing else."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cerniq_stock.domain.batch import decide_many
from cerniq_stock.domain.commands import Command
from cerniq_stock.domain.model import NEVER, ZERO
from cerniq_stock.domain.outcomes import LineStatus, Refusal, ReserveResult
from cerniq_stock.domain.work import Changes, State, Work
from tests.helpers import Stored, fold, is_due, stored_answer, with_due


class Model:
    """Holds all of a tenant's rows, and decides on them as the engine should."""

    def __init__(self, stored: Stored) -> None:
        self.state = stored.state
        self.movements = list(stored.movements)
        self.notifications = list(stored.notifications)

    def decide(
        self, commands: Sequence[Command], now: datetime, brought: Collection[str]
    ) -> tuple[Any, ...]:
        """Decide a batch of the engine's, which loaded the reservations `brought` for it."""
        state = with_due(self.state, now)
        answers, changes = decide_many(_in_view(state, commands, now, brought), commands, now)
        self._take_over(changes)
        _check_enough_expired(self.state, answers, changes, now)
        return answers

    def pass_time(self, by: timedelta) -> None:
        reservations = {
            id_: of if of.expires_at == NEVER else of._replace(expires_at=of.expires_at - by)
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


def _in_view(
    state: State, commands: Sequence[Command], now: datetime, brought: Collection[str]
) -> State:
    """The state without the expired reservations that the engine did not bring.

    Which of the expired are written down now, and which by a sweep later, is the only thing that
    may depend on what was loaded, so it is the engine's choice. What a command names must be there,
    and so must everything live, whether or not the engine brought it.
    """
    named = {getattr(of, name, None) for of in commands for name in ("reservation_id", "replaces")}
    reservations = {
        id_: of
        for id_, of in state.reservations.items()
        if not is_due(of, now) or id_ in named or id_ in brought
    }
    return replace(state, reservations=reservations)


def _check_enough_expired(
    state: State, answers: Sequence[Any], changes: Changes, now: datetime
) -> None:
    """The engine may choose among the expired, but not leave one where its goods were needed."""
    for answer in answers:
        if isinstance(answer, ReserveResult):
            out = {of.sku for of in answer.errors if of.code is Refusal.INSUFFICIENT_STOCK}
            for item in answer.items:
                unavailable = item.status is LineStatus.UNAVAILABLE and item.sku in out
                if unavailable or item.status is LineStatus.PARTIAL:
                    assert item.available_after == 0, f"less than was available: {item}"
    displaced = {m.product_id for m in changes.movements if (m.notes or "").startswith(DISPLACED)}
    for product_id in displaced:
        left = [level for level in with_due(state, now).levels[product_id] if level.due]
        assert not left, f"somebody gave way although there were expired goods: {left}"


DISPLACED = "displaced by "
