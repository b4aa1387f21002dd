"""Availability at the rate at which salespeople and agents ask: concurrent questions share queries.

While one query runs, the next one gathers, as in `writer`: no timer, no waiting for company. A
question never joins a query that was sent before it was asked, so whoever was told of a commit
sees it in the next answer. Nothing is cached: each answer is one statement's snapshot.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate, repeat, takewhile
from operator import mul, sub
from typing import NamedTuple, Self
from uuid import UUID

import asyncpg

from cerniq_stock.errors import (
    CerniqError,
    CommandFailedError,
    InvalidInputError,
    OverloadedError,
    UnavailableError,
)
from cerniq_stock.store.database import KEY_LOOKUPS, connect, plan_again
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.trouble import LOST
from cerniq_stock.views import Availability

log = logging.getLogger(__name__)

NO_ANSWER = (*LOST, asyncpg.QueryCanceledError)
"""The connection is gone or too slow. A read is simply repeated."""

RECONNECT_DELAY_S = 0.1
RETRY_AFTER_S = 0.25
QUERY_S = 5.0
CLOSED = "The engine is closed"
DROPPED = "The question was dropped"

SHARE = 32
"""So many questions are worth a query of their own when another connection is free."""

SET_TENANT = "SELECT set_config('app.tenant', $1, false)"
THOUSANDTH = Decimal("0.001")

Answers = dict[str, Availability]


class Limits(NamedTuple):
    """Bounds of the reader. `waiting` and `waiting_per_tenant` count SKUs."""

    waiting: int = 200_000
    waiting_per_tenant: int = 100_000
    query_skus: int = 2_000
    answer_s: float = 10.0


class Question(NamedTuple):
    """The SKUs of one caller, who waits for `answer`: what is known of at least these."""

    skus: Sequence[str]
    answer: "asyncio.Future[Answers]"


class Gathering:
    """Questions of one tenant that wait for the next query. `skus` counts theirs."""

    __slots__ = ("deadline", "questions", "skus", "tenant_id")

    def __init__(self, tenant_id: UUID, deadline: float) -> None:
        self.tenant_id = tenant_id
        self.deadline = deadline
        self.questions: list[Question] = []
        self.skus = 0

    def fitting(self, most_skus: int) -> int:
        """Count the questions that fit one query; the first one always does."""
        if self.skus <= most_skus:
            return len(self.questions)
        sums = accumulate(len(question.skus) for question in self.questions)
        return max(1, sum(1 for _ in takewhile(lambda skus: skus <= most_skus, sums)))

    def split(self, count: int) -> "Gathering":
        """Leave the first `count` questions here and return the rest."""
        rest = Gathering(self.tenant_id, self.deadline)
        rest.questions = self.questions[count:]
        rest.skus = sum([len(question.skus) for question in rest.questions])
        del self.questions[count:]
        self.skus -= rest.skus
        return rest

    def wanted(self) -> list[str]:
        """Return the SKUs to look up, each once; nothing for callers who have gone."""
        skus: set[str] = set()
        for question in self.questions:
            if not question.answer.done():
                skus.update(question.skus)
        return list(skus)

    def answer(self, answers: Answers) -> None:
        """Answer every caller who still waits."""
        for _, answer in self.questions:
            if not answer.done():
                answer.set_result(answers)

    def fail(self, error: type[CerniqError], *details: str) -> None:
        """Tell every caller who still waits; each gets an exception of its own."""
        for _, answer in self.questions:
            if not answer.done():
                answer.set_exception(error(*details))


class AvailabilityReader:
    """Says how much can be promised. Enter it to start; connections open with the first question.

    Tenants that have questions stand in a ring; a free connection serves the next one.
    """

    _loop: asyncio.AbstractEventLoop

    def __init__(self, dsn: str, connections: int = 2, limits: Limits | None = None) -> None:
        self._dsn = dsn
        self._connections = connections
        self._limits = limits or Limits()
        self._gathering: dict[UUID, Gathering] = {}
        self._ring: deque[Gathering] = deque()
        self._free: deque[asyncio.Future[None]] = deque()
        self._waiting = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        """Start the workers."""
        self._loop = asyncio.get_running_loop()
        for _ in range(self._connections):
            self._start_worker()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer what was asked, then stop."""
        self._closing = True
        while self._free:
            self._wake()
        try:
            await asyncio.gather(*self._workers, return_exceptions=True)
        finally:
            while self._ring:
                self._next().fail(UnavailableError, CLOSED)

    @property
    def waiting(self) -> int:
        """SKUs that callers wait for."""
        return self._waiting

    async def get(self, tenant_id: UUID, skus: Sequence[str]) -> Answers:
        """Say how much of each SKU can be promised, over all warehouses; the unknown are absent.

        All rows of up to 2,000 SKUs are of one instant, their `as_of`. Cancelling a caller
        disturbs nobody. Raises OverloadedError (not taken), UnavailableError (the database stays
        away) or InvalidInputError (not text, or text that no database can hold).
        """
        size = len(skus)
        if size > self._limits.query_skus:
            return await self._get_many(tenant_id, skus)
        if self._waiting >= self._limits.waiting:
            raise OverloadedError(self._waiting, RETRY_AFTER_S)
        gathering = self._gathering.get(tenant_id)
        if gathering is None:
            gathering = self._gather(tenant_id)
        elif gathering.skus >= self._limits.waiting_per_tenant:
            raise OverloadedError(gathering.skus, RETRY_AFTER_S)
        answer: asyncio.Future[Answers] = self._loop.create_future()
        gathering.questions.append(Question(skus, answer))
        gathering.skus += size
        self._waiting += size
        try:
            answers = await answer
        finally:
            self._waiting -= size
        return {sku: answers[sku] for sku in skus if sku in answers}

    async def _get_many(self, tenant_id: UUID, skus: Sequence[str]) -> Answers:
        answers: Answers = {}
        step = self._limits.query_skus
        for start in range(0, len(skus), step):
            answers.update(await self.get(tenant_id, skus[start : start + step]))
        return answers

    def _gather(self, tenant_id: UUID) -> Gathering:
        if self._closing:
            raise UnavailableError(CLOSED)
        gathering = Gathering(tenant_id, self._loop.time() + self._limits.answer_s)
        self._enqueue(gathering)
        return gathering

    def _enqueue(self, gathering: Gathering) -> None:
        self._gathering[gathering.tenant_id] = gathering
        self._ring.append(gathering)
        self._wake()

    def _wake(self) -> None:
        while self._free:
            waker = self._free.popleft()
            if not waker.done():
                waker.set_result(None)
                return

    # -- workers ----------------------------------------------------------------------------

    def _start_worker(self) -> None:
        task = asyncio.create_task(self._work())
        self._workers.add(task)
        task.add_done_callback(self._worker_ended)

    def _worker_ended(self, task: "asyncio.Task[None]") -> None:
        """Supervise: a worker that dies of a bug is replaced; its callers were told already."""
        self._workers.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("availability reader died and is started again", exc_info=task.exception())
            if not self._closing:
                self._start_worker()

    async def _work(self) -> None:
        link = Link(self._dsn)
        try:
            while await self._has_work():
                gathering = self._next()
                try:
                    await self._serve(link, gathering)
                except BaseException:
                    gathering.fail(UnavailableError, DROPPED)
                    raise
                # let those who were just answered ask again: they make the next query
                await asyncio.sleep(0)
        finally:
            link.close()

    async def _has_work(self) -> bool:
        while not self._ring:
            if self._closing:
                return False
            waker = self._loop.create_future()
            self._free.append(waker)
            await waker
        return True

    def _next(self) -> Gathering:
        """Take what one query may hold, or this connection's share of it."""
        gathering = self._ring.popleft()
        del self._gathering[gathering.tenant_id]
        count = gathering.fitting(self._limits.query_skus)
        if self._free and count >= 2 * SHARE:
            count //= 2
        if count < len(gathering.questions):
            self._enqueue(gathering.split(count))
        return gathering

    async def _serve(self, link: "Link", gathering: Gathering) -> None:
        """Answer every caller; a question that the database cannot read fails alone."""
        try:
            skus = gathering.wanted()
            answers = _answers(await link.look_up(gathering, skus)) if skus else {}
        except UnavailableError as error:
            gathering.fail(UnavailableError, str(error))
        except (asyncpg.DataError, TypeError) as error:
            if len(gathering.questions) == 1:
                gathering.fail(InvalidInputError, "skus", str(error))
                return
            rest = gathering.split(len(gathering.questions) // 2)
            try:
                await self._serve(link, gathering)
                await self._serve(link, rest)
            finally:
                rest.fail(UnavailableError, DROPPED)
        except Exception as error:
            log.exception("availability could not be read")
            gathering.fail(CommandFailedError, f"Nothing could be read: {type(error).__name__}")
        else:
            gathering.answer(answers)


class Link:
    """One connection of the reader, opened again when it breaks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None
        self._tenant_id: UUID | None = None
        self._queries = 0

    async def look_up(self, gathering: Gathering, skus: list[str]) -> asyncpg.Record:
        """Read the levels of the SKUs. Raises UnavailableError when the database stays away."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await self._fetch(gathering.tenant_id, skus)
            except NO_ANSWER as error:
                self.close()
                if loop.time() > gathering.deadline:
                    raise UnavailableError("The database does not answer") from error
                await asyncio.sleep(RECONNECT_DELAY_S)

    async def _fetch(self, tenant_id: UUID, skus: list[str]) -> asyncpg.Record:
        connection = await self._connected_as(tenant_id)
        self._queries += 1
        if plan_again(self._queries):
            await connection.execute("DISCARD PLANS", timeout=QUERY_S)
        levels = await connection.fetchrow(SQL["availability"], tenant_id, skus, timeout=QUERY_S)
        assert levels is not None
        return levels

    async def _connected_as(self, tenant_id: UUID) -> asyncpg.Connection:
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await connect(self._dsn, settings=KEY_LOOKUPS)
            self._tenant_id = None
            self._queries = 0
        if self._tenant_id != tenant_id:
            self._tenant_id = None
            await connection.execute(SET_TENANT, str(tenant_id), timeout=QUERY_S)
            self._tenant_id = tenant_id
        return connection

    def close(self) -> None:
        """Drop the connection without ceremony: nothing is in flight that matters."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


_PUT = [Availability.__dict__[name].__set__ for name in Availability.__slots__]


def _answers(levels: asyncpg.Record) -> Answers:
    """Make the answers, column by column.

    A frozen dataclass sets its fields one by one in Python; here C does it, in half the time.
    """
    as_of, skus, *facts, total, reserved, blocked, due = levels
    if skus is None:
        return {}
    held = map(sub, reserved, due)
    quantities = [total, list(held), blocked]
    if len(set(skus)) < len(skus):
        quantities = [_sums(skus, column) for column in quantities]
        facts = [_firsts(skus, column) for column in facts]
        skus = list(dict.fromkeys(skus))
    total, held, blocked = quantities
    quantities.append(map(sub, map(sub, total, held), blocked))
    ids, units, statuses, restock = facts
    decimals = [map(mul, column, repeat(THOUSANDTH)) for column in quantities]
    views = list(map(object.__new__, repeat(Availability, len(skus))))
    columns = (skus, ids, units, statuses, *decimals, restock, repeat(as_of))
    for put, column in zip(_PUT, columns, strict=True):
        deque(map(put, views, column), maxlen=0)
    return dict(zip(skus, views, strict=True))


def _sums(skus: Sequence[str], column: Sequence[int]) -> list[int]:
    """Add up what belongs to one SKU: its warehouses."""
    sums = dict.fromkeys(skus, 0)
    for sku, quantity in zip(skus, column, strict=True):
        sums[sku] += quantity
    return list(sums.values())


def _firsts(skus: Sequence[str], column: Sequence[object]) -> list[object]:
    """Leave one fact for each SKU, in the order of `_sums`; they are all the same."""
    return list(dict(zip(skus, column, strict=True)).values())
