"""The engine on PostgreSQL and the model side by side: equal after every step."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from cerniq_stock.domain.batch import Batch, decide_many
from cerniq_stock.domain.commands import Command
from cerniq_stock.domain.work import State
from cerniq_stock.store import transaction
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect
from cerniq_stock.store.sweep import sweep_all, sweep_tenant
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.writer import Limits, Writer
from tests import helpers
from tests.domain import strategies
from tests.domain.strategies import Numbering
from tests.helpers import check_orders, put, read_back, shift_expiry
from tests.model.model import Model
from tests.model.scenes import Scene, opening

T = TypeVar("T")


class Seen:
    """A batch that the engine decided: by it the model follows."""

    def __init__(self, state: State, commands: Sequence[Command], now: datetime) -> None:
        self.tenant_id = state.tenant.id
        self.commands = commands
        self.now = now
        self.brought = set(state.reservations)


class Bench:
    """A database, the connections of both sides, and a loop to run them on.

    The engine's decisions pass through `decide_many` of here: it notes each batch and its clock,
    and puts the mutant under test, if any, in place of the engine's domain (never the model's).
    """

    def __init__(self, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dsn = dsn
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.mutant: Callable[[], AbstractContextManager[None]] = nullcontext
        self.seen: list[Seen] = []
        self.steps = 0
        monkeypatch.setattr(transaction, "decide_many", self._decide_many)
        self.run(self._open())

    def run(self, awaitable: Awaitable[T]) -> T:
        return self.runner.run(awaitable)  # type: ignore[arg-type]

    async def _open(self) -> None:
        self.app = await connect(self.dsn, settings=KEY_LOOKUPS)
        await self.app.execute(PREPARE)
        self.superuser = await asyncpg.connect(self.dsn, server_settings={"search_path": "cerniq"})
        self.writer = Writer(self.dsn, Limits(connections=2, lanes_per_tenant=1))
        await self.writer.__aenter__()

    def close(self) -> None:
        self.run(self._close())
        self.runner.close()

    async def _close(self) -> None:
        await self.writer.__aexit__()
        await self.app.close()
        await self.superuser.close()

    def _decide_many(self, state: State, commands: Sequence[Command], now: datetime) -> Batch:
        self.seen.append(Seen(state, commands, now))
        with self.mutant():
            return decide_many(state, commands, now)

    def take_seen(self) -> list[Seen]:
        seen, self.seen = self.seen, []
        return seen


ONLY_A = st.just("A")
tenants = st.sampled_from([0, 0, 1, 0])
few = st.lists(strategies.any_command(), min_size=1, max_size=5)
soft = strategies.reservations(ONLY_A, types="S", most=3)
ordered = strategies.new_orders(ONLY_A)
hard = strategies.reservations(ONLY_A, types="H", most=3)
before = st.one_of(strategies.releases(), strategies.on_the_shelf(ONLY_A))
of_orders = strategies.on_orders(ONLY_A)
crowd = st.lists(strategies.any_command(ONLY_A), min_size=2, max_size=8)


class Machine(RuleBasedStateMachine):
    """Two tenants with the same products, ids and keys, so that leaks between them would show."""

    bench: ClassVar[Bench]

    @initialize(
        shop=strategies.shops(),
        held=st.lists(soft, max_size=5),
        ordered=st.lists(ordered, max_size=2),
    )
    def open_shops(self, shop: State, held: list[Any], ordered: list[Any]) -> None:
        self.models: list[Model] = []
        self.numbers = [Numbering(), Numbering()]
        self.bench.take_seen()
        for _ in range(2):
            state = replace(shop, tenant=replace(shop.tenant, id=uuid4()))
            self.bench.run(put(self.bench.superuser, state))
            stored = self.bench.run(read_back(self.bench.superuser, state.tenant))
            self.models.append(Model(stored))
        for of in (0, 1):
            self._transact(of, held + ordered)

    # -- rules ------------------------------------------------------------------------------

    @rule(of=tenants, command=strategies.any_command())
    def command(self, of: int, command: Any) -> None:
        self._transact(of, [command])

    @rule(of=tenants, command=soft)
    def reserve_soft(self, of: int, command: Command) -> None:
        self._transact(of, [command])

    @rule(of=tenants, command=hard)
    def reserve_hard(self, of: int, command: Command) -> None:
        """A little of what is scarce: who gives way first, and does the engine load it?"""
        self._transact(of, [command])

    @rule(of=tenants, pair=st.tuples(before, hard))
    def reserve_hard_after(self, of: int, pair: tuple[Any, Command]) -> None:
        """The same in one batch with something that changes who holds what."""
        self._transact(of, pair)

    @rule(of=tenants, commands=few)
    def batch(self, of: int, commands: list[Any]) -> None:
        self._transact(of, commands)

    @rule(of=tenants, commands=crowd)
    def crowd(self, of: int, commands: list[Any]) -> None:
        """A batch that is about one product only."""
        self._transact(of, commands)

    @rule(of=tenants, commands=of_orders)
    def orders(self, of: int, commands: list[Any]) -> None:
        """An order for what is scarce and what follows it, in one batch."""
        self._transact(of, commands)

    @rule(of=tenants, commands=of_orders)
    def orders_one_by_one(self, of: int, commands: list[Any]) -> None:
        for command in commands:
            self._transact(of, [command])

    @rule(drawn=st.tuples(few, few))
    def callers_of_a_writer(self, drawn: tuple[list[Any], list[Any]]) -> None:
        """Concurrent callers of both tenants; the writer makes batches of them as it likes."""
        asked = [self._numbered(of, commands) for of, commands in enumerate(drawn)]
        writer = self.bench.writer

        async def ask() -> list[list[Any]]:
            return await asyncio.gather(
                *(
                    asyncio.gather(*(writer.submit(self._id(of), command) for command in commands))
                    for of, commands in enumerate(asked)
                )
            )

        answers = self.bench.run(ask())
        expected: list[list[Any]] = [[], []]
        for seen in self.bench.take_seen():
            of = [self._id(0), self._id(1)].index(seen.tenant_id)
            expected[of] += self.models[of].decide(seen.commands, seen.now, seen.brought)
        assert answers == expected
        self._compare(0)
        self._compare(1)

    @rule(hours=st.sampled_from([1, 1, 2, 23]))
    def pass_time(self, hours: int) -> None:
        by = timedelta(hours=hours)
        for of, model in enumerate(self.models):
            self.bench.run(shift_expiry(self.bench.superuser, self._id(of), by))
            model.pass_time(by)

    @rule(of=tenants, everywhere=st.booleans())
    def sweep(self, of: int, everywhere: bool) -> None:
        before = [len(model.movements) for model in self.models]
        if everywhere:
            self.bench.run(sweep_all(self.bench.dsn))
        else:
            self.bench.run(sweep_tenant(self.bench.app, self._id(of)))
        for n in [0, 1] if everywhere else [of]:
            now = self.bench.run(self.bench.superuser.fetchval(LAST_END, self._id(n)))
            if now is not None:
                self.models[n].sweep(now)
            self._compare(n)
        assert before <= [len(model.movements) for model in self.models]

    def play(self, scene: Scene) -> None:
        """Go through a scene instead of random steps, in the first shop."""
        self.open_shops(shop=opening(), held=[], ordered=[])
        for step in scene:
            match step:
                case int():
                    self.pass_time(hours=step)
                case "sweep":
                    self.sweep(of=0, everywhere=False)
                case list():
                    self._decide(0, step)
                case _:
                    self._decide(0, [step])

    # -- both sides -------------------------------------------------------------------------

    def _id(self, of: int) -> UUID:
        return self.models[of].state.tenant.id

    def _numbered(self, of: int, drawn: Sequence[Any]) -> list[Command]:
        return self.numbers[of](self.models[of].state, drawn)

    def _transact(self, of: int, drawn: Sequence[Any]) -> None:
        commands = self._numbered(of, drawn)
        if commands:
            self._decide(of, commands)

    def _decide(self, of: int, commands: Sequence[Command]) -> None:
        answers = self.bench.run(Transaction(self._id(of), commands).run(self.bench.app))
        (seen,) = self.bench.take_seen()
        assert answers == self.models[of].decide(commands, seen.now, seen.brought)
        self._compare(of)

    def _compare(self, of: int) -> None:
        self.bench.steps += 1
        model = self.models[of]
        stored = self.bench.run(read_back(self.bench.superuser, model.state.tenant))
        expected = model.stored()
        for part, found, due in _parts(stored, expected):
            assert found == due, part
        check_orders(stored.state, stored.movements)


LAST_END = (
    "SELECT max(released_at) FROM stock_reservations WHERE tenant_id = $1 AND status = 'EXPIRED'"
)


PARTS = ("levels", "negotiations", "reservations", "reserve_answers", "answers", "orders")


def _parts(found: helpers.Stored, expected: helpers.Stored) -> Iterator[tuple[str, Any, Any]]:
    for name in PARTS:
        yield name, getattr(found.state, name), getattr(expected.state, name)
    yield "movements", found.movements, expected.movements
    yield "notifications", found.notifications, expected.notifications
