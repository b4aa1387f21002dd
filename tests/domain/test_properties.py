"""What holds for every shop and every history of batches, on the pure core."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import given

from cerniq_stock.domain.batch import Batch, decide_many
from cerniq_stock.domain.commands import (
    Command,
    Extend,
    OrderCommand,
    Release,
    Reserve,
    SetNegotiation,
)
from cerniq_stock.domain.model import ZERO, Level, Movement, Reservation
from cerniq_stock.domain.outcomes import (
    ExtendResult,
    LevelResult,
    NegotiationResult,
    OrderResult,
    Refused,
    ReleaseResult,
    ReserveResult,
)
from cerniq_stock.domain.reserve import REPLAYED
from cerniq_stock.domain.work import Changes, State
from tests.domain import strategies
from tests.domain.strategies import Numbering
from tests.helpers import NOW, check_orders, fold, with_due

History = Sequence[tuple[timedelta, Sequence[Any]]]
random_shop = given(strategies.shops(warehouses=3), strategies.histories)


class Step(NamedTuple):
    before: State
    commands: list[Command]
    now: datetime
    batch: Batch
    after: State


def run(shop: State, history: History) -> Iterator[Step]:
    """Run a history batch by batch."""
    number, now, state = Numbering(), NOW, shop
    for pause, drawn in history:
        now += pause
        commands = number(state, drawn)
        state = with_due(state, now)
        batch = decide_many(state, commands, now)
        after = fold(state, batch.changes)
        yield Step(state, commands, now, batch, after)
        state = after


def levels_of(state: State) -> dict[tuple[UUID, str], Level]:
    return {(x.product_id, x.warehouse): x for of in state.levels.values() for x in of}


@random_shop
def test_the_books_balance(shop, history):
    """Every level is what was loaded plus its movements, one by one, and none is negative."""
    for before, _, _, batch, after in run(shop, history):
        running = levels_of(before)
        for move in batch.changes.movements:
            place = move.product_id, move.warehouse
            level = running.get(place) or Level(*place, ZERO, ZERO, ZERO, 0)
            assert move.sequence == level.version + 1
            assert move.previous_available == level.free
            assert any((move.total_delta, move.reserved_delta, move.blocked_delta))
            running[place] = level = level._replace(
                total=level.total + move.total_delta,
                reserved=level.reserved + move.reserved_delta,
                blocked=level.blocked + move.blocked_delta,
                version=move.sequence,
            )
            assert min(level.total, level.reserved, level.blocked, level.free) >= 0
        assert {at: x._replace(due=ZERO) for at, x in running.items()} == {
            at: x._replace(due=ZERO) for at, x in levels_of(after).items()
        }


@random_shop
def test_what_is_reserved_is_what_lines_hold(shop, history):
    """Lines that are past their expiry included, until they are written down as `due`."""
    for _, _, now, _, after in run(shop, history):
        held: dict[tuple[UUID, str], Decimal] = {}
        for line in (line for r in after.reservations.values() for line in r.lines):
            place = line.product_id, line.warehouse
            held[place] = held.get(place, ZERO) + line.held
        for place, level in levels_of(after).items():
            assert level.reserved == held.get(place, ZERO)
        # the batch kept count of what is due exactly as a fresh look would
        assert levels_of(after) == levels_of(with_due(after, now))


@random_shop
def test_a_reservation_ends_once_and_its_lines_add_up(shop, history):
    for before, _, now, batch, after in run(shop, history):
        for reservation in after.reservations.values():
            for line in reservation.lines:
                assert min(line.held, line.consumed, line.released) >= 0
                assert line.reserved == line.held + line.consumed + line.released > 0
            ended = reservation.status != "ACTIVE"
            assert any(line.held for line in reservation.lines) is not ended
            assert (reservation.released_at is not None) is (ended and bool(reservation.lines))
            was = before.reservations.get(reservation.id)
            if was is not None and was.status != "ACTIVE":
                assert reservation == was
        _check_displaced(batch.changes, after.reservations, now)


def _check_displaced(changes: Changes, reservations: dict[str, Reservation], now: datetime) -> None:
    """Only live SOFT reservations are displaced, and each time somebody is told, once of all."""
    taken = [m for m in changes.movements if (m.notes or "").startswith("displaced by ")]
    told = [n.entity_id for n in changes.notifications if n.type == "RESERVATION_DISPLACED"]
    assert set(told) == {move.reference_id for move in taken}
    assert len(told) <= len(taken)
    for move in taken:
        victim = reservations[move.reference_id or ""]
        assert victim.type == "SOFT"
        assert victim.expires_at > now


@random_shop
def test_orders_add_up(shop, history):
    """Of each line so much is open, held, sold or cancelled, and every sale was moved once."""
    movements: list[Movement] = []
    for before, commands, _, batch, after in run(shop, history):
        movements += batch.changes.movements
        check_orders(after, movements)
        for id_, of in before.orders.items():
            now = after.orders[id_]
            for line, was in zip(now.lines, of.lines, strict=True):
                assert line[:4] == was[:4]
                assert all(figure >= old for figure, old in zip(line[5:], was[5:], strict=True))
            assert of.reservation_id in (None, now.reservation_id)
        asked = {of.order_id for of in commands if isinstance(of, OrderCommand)}
        written = {of.id for of in (*batch.changes.new_orders, *batch.changes.changed_orders)}
        assert written <= asked


ANSWERS = {
    Reserve: ReserveResult,
    Extend: ExtendResult,
    Release: ReleaseResult,
    SetNegotiation: NegotiationResult,
}


@random_shop
def test_a_batch_is_its_commands_one_by_one(shop, history):
    """Same answers in the order of the commands, same effect; and the same input, the same."""
    for before, commands, now, batch, after in run(shop, history):
        assert decide_many(before, commands, now) == batch
        state, answers = before, []
        movements, notifications = [], []
        for command in commands:
            single = decide_many(with_due(state, now), [command], now)
            answers += single.answers
            movements += single.changes.movements
            notifications += single.changes.notifications
            state = with_due(fold(state, single.changes), now)
        assert list(batch.answers) == answers
        assert list(batch.changes.movements) == movements
        assert list(batch.changes.notifications) == notifications
        assert state == after
        for command, answer in zip(commands, answers, strict=True):
            due = OrderResult if isinstance(command, OrderCommand) else LevelResult
            assert type(answer) in (ANSWERS.get(type(command), due), Refused)
            if isinstance(command, Reserve):
                assert answer.reservation_key == command.key


@random_shop
def test_the_input_is_not_changed(shop, history):
    for before, commands, now, _, _ in run(shop, history):
        copy, asked = deepcopy(before), deepcopy(commands)
        decide_many(before, commands, now)
        assert before == copy
        assert commands == asked


def _changed_nothing(answer: Any) -> bool:
    if isinstance(answer, OrderResult):
        return not answer.success
    return isinstance(answer, Refused) or getattr(answer, "reservation_id", "") is None


@random_shop
def test_refusals_and_repeats_change_nothing(shop, history):
    told: dict[tuple[type, str], tuple[bytes, Any]] = {}
    singles = [(pause, [one]) for pause, drawn in history for one in drawn]
    for _, commands, _, batch, _ in run(shop, singles):
        if not commands:
            continue
        (command,), (answer,) = commands, batch.answers
        place = (Reserve if isinstance(command, Reserve) else Release, command.key or "")
        if _changed_nothing(answer):
            assert batch.changes == Changes()
        elif place in told:
            fingerprint, first = told[place]
            assert fingerprint == command.fingerprint
            assert batch.changes == Changes()
            if isinstance(first, (ReserveResult, OrderResult)):
                first = replace(first, warnings=(*first.warnings, REPLAYED))
            assert answer == first
        elif command.key is not None:
            told[place] = command.fingerprint, answer
