"""The door of the domain: what a batch of commands does to loaded state."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from cerniq_stock.domain.align import may_take, sync_level
from cerniq_stock.domain.commands import (
    Adjust,
    Command,
    Count,
    CreateOrder,
    DeductOrder,
    Extend,
    KeyedCommand,
    OrderCommand,
    Release,
    Reserve,
    ReserveOrder,
    SetNegotiation,
    SyncLevel,
)
from cerniq_stock.domain.hold import extend, release, set_negotiation
from cerniq_stock.domain.model import ZERO, ReservationType
from cerniq_stock.domain.orders import change_order
from cerniq_stock.domain.outcomes import Answer, OrderResult, Refusal, Refused, ReserveResult
from cerniq_stock.domain.reserve import REPLAYED, reserve
from cerniq_stock.domain.shelf import change_level
from cerniq_stock.domain.work import Changes, State, Work

EVERYTHING = Decimal("1e12")
"""More than any level can hold: load all that may give way."""


class Batch(NamedTuple):
    """One answer per command, in their order, and what to write."""

    answers: tuple[ReserveResult | Answer, ...]
    changes: Changes


def decide_many(state: State, commands: Sequence[Command], now: datetime) -> Batch:
    """Decide a batch of one tenant's commands, each seeing what the ones before it did.

    Pure: `state` is not changed, and the same input gives the same output.
    """
    work = Work(state, now)
    answers = tuple(
        [
            reserve(work, command) if isinstance(command, Reserve) else _keyed(work, command)
            for command in commands
        ]
    )
    return Batch(answers, work.changes())


def decide(state: State, command: Command, now: datetime) -> Batch:
    """Decide a single command."""
    return decide_many(state, (command,), now)


def _keyed(work: Work, command: KeyedCommand) -> Answer:
    """Answer once per key: a repeat gets the first answer and changes nothing.

    A refusal changed nothing and does not use the key up, nor does an order that could not be.
    """
    told = work.answers.get(command.key) if command.key is not None else None
    if told is None:
        answer = _decide(work, command)
        if command.key is not None and not _changed_nothing(answer):
            work.answers[command.key] = (command.fingerprint, answer)
            work.new_answers.append(command.key)
        return answer
    fingerprint, answer = told
    if fingerprint != command.fingerprint:
        return Refused(
            Refusal.RESERVATION_EXISTS,
            f"Key {command.key} was used before with another payload",
        )
    if isinstance(answer, OrderResult):
        return replace(answer, warnings=(*answer.warnings, REPLAYED))
    return answer


def _changed_nothing(answer: Answer) -> bool:
    return isinstance(answer, Refused) or (isinstance(answer, OrderResult) and not answer.success)


def _decide(work: Work, command: KeyedCommand) -> Answer:
    match command:
        case Extend():
            return extend(work, command)
        case Release():
            return release(work, command)
        case SetNegotiation():
            return set_negotiation(work, command)
        case OrderCommand():
            return change_order(work, command)
        case SyncLevel():
            return sync_level(work, command)
        case _:
            return change_level(work, command)


def wanted_from_holders(
    state: State, commands: Sequence[Command], *, due: bool
) -> dict[UUID, Decimal]:
    """How much of each product may have to be taken from those who hold it, at the most.

    What the loader must bring besides the figures: expired reservations and, for HARD, SOFT ones.
    `due` tells whether the tenant has any expired reservation that was not swept yet.
    """
    wanted: dict[UUID, Decimal] = {}
    takes: set[UUID] = set()
    for sku, quantity, takes_it in _wants(state, commands, due=due):
        product = state.products.get(sku)
        if product is not None:
            wanted[product.id] = wanted.get(product.id, ZERO) + quantity
            if takes_it:
                takes.add(product.id)
    lacking = {
        product_id: wanted[product_id] - sum((x.free for x in state.levels[product_id]), ZERO)
        for product_id in takes
    }
    return {product_id: amount for product_id, amount in lacking.items() if amount > 0}


def _wants(
    state: State, commands: Sequence[Command], *, due: bool
) -> Iterator[tuple[str, Decimal, bool]]:
    """What the commands want: SKU, how much at the most, and whether holders may give way to it."""
    made = [x for x in commands if isinstance(x, CreateOrder)]
    for command in commands:
        match command:
            case Reserve():
                may_take = due or command.type is ReservationType.HARD
                for item in command.items:
                    yield item.sku, item.quantity, may_take
            case ReserveOrder() | DeductOrder():
                may_take = due or isinstance(command, ReserveOrder)
                for sku, quantity in _ordered(state, command.order_id, made):
                    yield sku, quantity, may_take
            case Adjust() | Count():
                yield command.sku, EVERYTHING, True
            case SyncLevel() if _short(state, command):
                yield command.sku, EVERYTHING, True


def _short(state: State, command: SyncLevel) -> bool:
    product = state.products.get(command.sku)
    levels = () if product is None else state.levels[product.id]
    return any(may_take(command, x) for x in levels if x.warehouse == command.warehouse)


def _ordered(
    state: State, order_id: UUID, made: Sequence[CreateOrder]
) -> Iterator[tuple[str, Decimal]]:
    """What an order may take from the shelf: what is open of it, known or made in this batch.

    Any of several commands may be the one that makes it.
    """
    if order_id in state.orders:
        yield from ((line.sku, line.open) for line in state.orders[order_id].lines)
    else:
        for command in made:
            if command.order_id == order_id:
                yield from ((item.sku, item.quantity) for item in command.items)
