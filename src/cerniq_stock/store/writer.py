"""The batching writer: concurrent commands of a tenant queue up and commit together.

While one batch commits, the next one gathers: a batch is one command when the engine is idle and
hundreds under load. No timer, no waiting for company.

A tenant's commands are spread over a few *lanes* by what they touch first, so that commands on
one product meet in one batch. A lane has at most one batch under way. Lanes that have work stand
in a ring and any free connection serves the next one, so a tenant that floods the queue waits for
its own turn, not the others for theirs.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol, Self
from uuid import UUID
from zlib import crc32

import asyncpg

from cerniq_stock.domain.commands import (
    Command,
    CreateOrder,
    Extend,
    OrderCommand,
    Release,
    Reserve,
    SetNegotiation,
)
from cerniq_stock.errors import CommandFailedError, OverloadedError, UnavailableError
from cerniq_stock.store.begin import PREPARE
from cerniq_stock.store.database import KEY_LOOKUPS, connect, plan_again
from cerniq_stock.store.transaction import Result, Transaction
from cerniq_stock.store.trouble import ATTEMPTS, BLOCKED, LOST, TRANSIENT

log = logging.getLogger(__name__)

RECONNECT_DELAY_S = 0.1
RETRY_AFTER_S = 0.25
IMPATIENT_LOCK_TIMEOUT_MS = 50
PATIENCE_S = 1.0
"""How long the parts of a batch may take all together after a lock that did not come."""


class Limits(NamedTuple):
    """Bounds of the writer. `tenant` is how many commands of one tenant may wait."""

    connections: int = 4
    lanes_per_tenant: int = 2
    waiting: int = 10_000
    waiting_per_tenant: int = 5_000
    batch: int = 500
    batch_lines: int = 2_000
    reconnect_s: float = 15.0


class Observer(Protocol):
    """Is told what the writer does."""

    def batch_committed(self, commands: int) -> None:
        """So many commands were committed together."""
        ...

    def batch_retried(self) -> None:
        """A batch lost a race or its connection and runs again."""
        ...

    def overloaded(self) -> None:
        """A command was not taken."""
        ...


class Waiting(NamedTuple):
    """A command and the caller who waits for its answer."""

    command: Command
    answer: "asyncio.Future[Result]"


class Lane:
    """Commands of one tenant that wait for the next batch."""

    __slots__ = ("queued", "tenant_id", "waiting")

    def __init__(self, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.waiting: deque[Waiting] = deque()
        self.queued = False

    def take(self, limits: Limits) -> list[Waiting]:
        """Take the next batch, without those whose caller has gone."""
        batch: list[Waiting] = []
        lines = 0
        while self.waiting and len(batch) < limits.batch and lines < limits.batch_lines:
            entry = self.waiting.popleft()
            if not entry.answer.done():
                batch.append(entry)
                lines += _size(entry.command)
        return batch


def _size(command: Command) -> int:
    return len(command.items) if isinstance(command, (Reserve, CreateOrder)) else 1


def _shard(command: Command) -> bytes:
    """What the command touches first. Any choice is safe; a good one keeps lanes apart."""
    match command:
        case Reserve():
            return command.items[0].sku.encode()
        case Release() | Extend() if command.reservation_id is not None:
            return command.reservation_id.encode()
        case Release() | SetNegotiation():
            return str(command.negotiation_id).encode()
        case Extend():
            raise AssertionError(command)
        case OrderCommand():
            return command.order_id.bytes
        case _:
            return command.sku.encode()


class Writer:
    """Takes commands, answers each. Enter it to open its connections."""

    def __init__(
        self, dsn: str, limits: Limits | None = None, observer: Observer | None = None
    ) -> None:
        self._dsn = dsn
        self._observer = observer
        self._limits = limits or Limits()
        self._lanes: dict[tuple[UUID, int], Lane] = {}
        self._ring: deque[Lane] = deque()
        self._free: deque[asyncio.Future[None]] = deque()
        self._waiting = 0
        self._waiting_of: dict[UUID, int] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        """Start the workers. Connections open with the first batch."""
        for _ in range(self._limits.connections):
            self._start_worker()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer what is waiting, then stop."""
        self._closing = True
        self._wake(len(self._free))
        try:
            await asyncio.gather(*self._workers, return_exceptions=True)
        finally:
            for lane in self._lanes.values():
                self._fail(lane.waiting, UnavailableError("The engine was closed"))

    @property
    def waiting(self) -> int:
        """Commands that wait for a batch or are in one."""
        return self._waiting

    async def submit(self, tenant_id: UUID, command: Command) -> Result:
        """Decide one command durably and return its answer.

        Cancelling the caller disturbs nobody; the command may take effect all the same. Raises
        OverloadedError (not taken), UnavailableError (repeat with the same key) or
        CommandFailedError (a bug; no effect).
        """
        limits = self._limits
        of_tenant = self._waiting_of.get(tenant_id, 0)
        if self._waiting >= limits.waiting or of_tenant >= limits.waiting_per_tenant:
            if self._observer is not None:
                self._observer.overloaded()
            raise OverloadedError(self._waiting, RETRY_AFTER_S)
        if self._closing:
            raise UnavailableError("The engine is closing")
        lane_key = (tenant_id, crc32(_shard(command)) % limits.lanes_per_tenant)
        lane = self._lanes.get(lane_key)
        if lane is None:
            lane = self._lanes[lane_key] = Lane(tenant_id)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        lane.waiting.append(Waiting(command, answer))
        self._waiting += 1
        self._waiting_of[tenant_id] = of_tenant + 1
        if not lane.queued:
            self._enqueue(lane)
        try:
            return await answer
        finally:
            self._waiting -= 1
            left = self._waiting_of[tenant_id] - 1
            if left:
                self._waiting_of[tenant_id] = left
            else:
                del self._waiting_of[tenant_id]

    def _enqueue(self, lane: Lane) -> None:
        lane.queued = True
        self._ring.append(lane)
        self._wake(1)

    def _wake(self, count: int) -> None:
        while count and self._free:
            waker = self._free.popleft()
            if not waker.done():
                waker.set_result(None)
                count -= 1

    # -- workers ----------------------------------------------------------------------------

    def _start_worker(self) -> None:
        task = asyncio.create_task(self._work())
        self._workers.add(task)
        task.add_done_callback(self._worker_ended)

    def _worker_ended(self, task: "asyncio.Task[None]") -> None:
        """Supervise: a worker that dies is replaced; its callers were told already."""
        self._workers.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            log.error("writer died and is started again", exc_info=error)
            if not self._closing:
                self._start_worker()

    async def _work(self) -> None:
        link = Link(self._dsn, self._limits.reconnect_s, self._observer)
        try:
            while (lane := await self._next_lane()) is not None:
                batch = lane.take(self._limits)
                try:
                    await self._serve(link, lane.tenant_id, batch)
                except BaseException as error:
                    self._fail(batch, _as_failure(error))
                    raise
                finally:
                    lane.queued = False
                    self._keep_or_drop(lane)
                # let those who were just answered ask again: they make the next batch
                await asyncio.sleep(0)
        finally:
            await link.close()

    def _keep_or_drop(self, lane: Lane) -> None:
        """Back to the end of the ring if there is more; idle lanes are forgotten."""
        if lane.waiting:
            self._enqueue(lane)
        else:
            for number in range(self._limits.lanes_per_tenant):
                if self._lanes.get((lane.tenant_id, number)) is lane:
                    del self._lanes[lane.tenant_id, number]

    async def _next_lane(self) -> Lane | None:
        while not self._ring:
            if self._closing:
                return None
            waker = asyncio.get_running_loop().create_future()
            self._free.append(waker)
            await waker
        return self._ring.popleft()

    async def _serve(
        self, link: "Link", tenant_id: UUID, batch: list[Waiting], patience: float | None = None
    ) -> None:
        """Answer every caller of the batch; one poisonous command fails alone.

        After a lock that did not come, the parts of the batch wait for theirs only briefly, and
        what is left at `patience` (on the loop's clock) fails.
        """
        if not batch:
            return
        transaction = Transaction(
            tenant_id,
            [entry.command for entry in batch],
            lock_timeout_ms=None if patience is None else IMPATIENT_LOCK_TIMEOUT_MS,
        )
        try:
            answers = await link.run(transaction)
        except UnavailableError as error:
            self._fail(batch, error)
        except Exception as error:
            if transaction.proof is not None:
                # a COMMIT was lost on the wire and may have taken effect: decide nothing anew
                self._fail(batch, UnavailableError("The connection was lost while committing"))
                return
            now = asyncio.get_running_loop().time()
            if len(batch) == 1 or (patience is not None and now > patience):
                names = ", ".join(sorted({type(entry.command).__name__ for entry in batch}))
                log.exception("command failed: %s", names)
                self._fail(batch, _as_failure(error))
                return
            if isinstance(error, BLOCKED) and patience is None:
                patience = now + PATIENCE_S
            middle = len(batch) // 2
            await self._serve(link, tenant_id, batch[:middle], patience)
            await self._serve(link, tenant_id, batch[middle:], patience)
        else:
            for entry, answer in zip(batch, answers, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(answer)

    @staticmethod
    def _fail(batch: Iterable[Waiting], error: Exception) -> None:
        for entry in batch:
            if not entry.answer.done():
                entry.answer.set_exception(error)


def _as_failure(error: BaseException) -> Exception:
    if isinstance(error, UnavailableError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return UnavailableError("The engine was stopped; the outcome is not known")
    if isinstance(error, BLOCKED):
        return UnavailableError("Another session holds the stock locked")
    if isinstance(error, TRANSIENT):
        return UnavailableError("Other sessions were faster again and again; nothing was done")
    return CommandFailedError(f"The command had no effect: {type(error).__name__}")


class Link:
    """One connection of the writer, opened again when it breaks."""

    def __init__(self, dsn: str, reconnect_s: float, observer: Observer | None = None) -> None:
        self._dsn = dsn
        self._reconnect_s = reconnect_s
        self._observer = observer
        self._connection: asyncpg.Connection | None = None
        self._batches = 0
        self._lost_at: float | None = None

    async def run(self, transaction: Transaction) -> tuple[Result, ...]:
        """Run a batch to a known end, over lost connections and lost races.

        Raises UnavailableError when the database stays away (where it has been away for that
        long already: at the first attempt); whatever else the batch itself raises passes through.
        """
        clock = asyncio.get_running_loop().time
        attempts = 0
        while True:
            try:
                answers = await transaction.run(await self._connected())
            except LOST as error:
                await self.close()
                if self._lost_at is None:
                    self._lost_at = clock()
                if clock() > self._lost_at + self._reconnect_s:
                    raise UnavailableError("The database does not answer") from error
                await asyncio.sleep(RECONNECT_DELAY_S)
            except Exception as error:
                self._lost_at = None  # whatever it says, the database is there
                attempts += 1
                if not isinstance(error, TRANSIENT) or attempts >= ATTEMPTS:
                    raise
            else:
                self._lost_at = None
                if self._observer is not None:
                    self._observer.batch_committed(len(answers))
                return answers
            if self._observer is not None:
                self._observer.batch_retried()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, settings=KEY_LOOKUPS)
            self._batches = 0
            await self._connection.execute(PREPARE)
        self._batches += 1
        if plan_again(self._batches):
            await self._connection.execute("DISCARD PLANS")
        return self._connection

    async def close(self) -> None:
        """Drop the connection without ceremony: nothing is in flight that matters."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
