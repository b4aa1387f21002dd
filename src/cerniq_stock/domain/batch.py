"""The door of the domain: what a batch of commands does to loaded state."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from cerniq_stock.domain.commands import (
    Adjust,
    Command,
    Count,
    Extend,
    KeyedCommand,
    Release,
    Reserve,
    SetNegotiation,
)
from cerniq_stock.domain.hold import extend, release, set_negotiation
from cerniq_stock.domain.model import ZERO, ReservationType
from cerniq_stock.domain.outcomes import Answer, Refusal, Refused, ReserveResult
from cerniq_stock.domain.reserve import reserve
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

    A refusal changed nothing and does not use the key up.
    """
    told = work.answers.get(command.key) if command.key is not None else None
    if told is None:
        answer = _decide(work, command)
        if command.key is not None and not isinstance(answer, Refused):
            work.answers[command.key] = (command.fingerprint, answer)
            work.new_answers.append(command.key)
        return answer
    fingerprint, answer = told
    if fingerprint != command.fingerprint:
        return Refused(
            Refusal.RESERVATION_EXISTS,
            f"Key {command.key} was used before with another payload",
        )
    return answer


def _decide(work: Work, command: KeyedCommand) -> Answer:
    match command:
        case Extend():
            return extend(work, command)
        case Release():
            return release(work, command)
        case SetNegotiation():
            return set_negotiation(work, command)
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
    for command in commands:
        match command:
            case Reserve():
                hard = due or command.type is ReservationType.HARD
                for item in command.items:
                    product = state.products.get(item.sku)
                    if product is not None:
                        wanted[product.id] = wanted.get(product.id, ZERO) + item.quantity
                        if hard:
                            takes.add(product.id)
            case Adjust() | Count():
                product = state.products.get(command.sku)
                if product is not None:
                    wanted[product.id] = EVERYTHING
                    takes.add(product.id)
    lacking = {
        product_id: wanted[product_id] - sum((x.free for x in state.levels[product_id]), ZERO)
        for product_id in takes
    }
    return {product_id: amount for product_id, amount in lacking.items() if amount > 0}
