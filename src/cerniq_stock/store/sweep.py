"""The sweep: writes down what has expired.

Expiry itself needs nobody: what is past its time holds nothing, for every read and every decision.
The sweep gives it its final form (status, figures, movements) soon after, so that little is due at
any time. It works set-based, a chunk of one tenant's reservations per transaction, and takes its
locks in the engine's order: levels, then reservations.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID

import asyncpg

from cerniq_stock.store.database import KEY_LOOKUPS, connect, plan_again
from cerniq_stock.store.ids import id_block
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.trouble import ATTEMPTS, LOST, TRANSIENT

log = logging.getLogger(__name__)

CHUNK = 500
"""Lines per transaction. Twice as many are hardly faster and keep writers waiting twice as long."""

SETTINGS = {
    **KEY_LOOKUPS,
    # Nobody is told of a sweep, and one that a crash undoes is due again: no reason to keep the
    # levels locked while the disk writes. Whoever takes the goods waits for the disk, and so for
    # the sweep before him.
    "synchronous_commit": "off",
}
"""For the connection of `sweep_tenant`."""

UPKEEP_INTERVAL_S = 3600.0
UPKEEP_RETRY_S = 60.0
RECONNECT_DELAY_S = 0.1
RECONNECT_DELAY_MAX_S = 5.0
STOP_TIMEOUT_S = 5.0

_TURNS = 0x73776570  # "swep": the advisory locks by which sweeps take turns at a tenant

_UPKEEP = "SET LOCAL lock_timeout = '100ms'; SELECT ensure_movement_partitions()"
"""A new partition locks all movements for a moment. Who waits for that lock makes every writer
wait behind him, so better try again later than wait for a long reader."""

_POISON = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class Chunk(NamedTuple):
    """What one transaction ended, and whether it left anything due."""

    ended: int
    more: bool


class _PoisonError(Exception):
    """At least one of these reservations cannot be ended: its rows contradict each other."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(f"{len(ids)} reservations")
        self.ids = ids


async def due_tenants(connection: asyncpg.Connection) -> list[UUID]:
    """List the tenants with anything due. `connection` acts as cerniq_operator."""
    return [row["id"] for row in await connection.fetch(SQL["due_tenants"])]


async def sweep_tenant(
    connection: asyncpg.Connection, tenant_id: UUID, *, limit: int = CHUNK
) -> int:
    """End due reservations of one tenant, up to `limit` lines of them, in one transaction.

    `connection` acts as cerniq_app, with SETTINGS. Returns how many ended; 0: nothing was due.
    What cannot end is logged and left. Raises what the database says when the transaction lost a
    race (`writer.TRANSIENT`): try again.
    """
    return (await _chunk_around_poison(connection, tenant_id, limit, set())).ended


async def _chunk_around_poison(
    connection: asyncpg.Connection, tenant_id: UUID, limit: int, stuck: set[str]
) -> Chunk:
    """Sweep a chunk; what cannot be ended is found, added to `stuck`, and left aside."""
    size = limit
    while True:
        try:
            chunk = await _chunk(connection, tenant_id, size, stuck)
        except _PoisonError as error:
            if len(error.ids) > 1:
                size = max(size // 2, 1)
                continue
            log.exception("reservation %s of tenant %s cannot end", error.ids[0], tenant_id)
            stuck.update(error.ids)
            size = limit
        else:
            return Chunk(chunk.ended, chunk.more or size < limit)


async def _chunk(
    connection: asyncpg.Connection, tenant_id: UUID, limit: int, stuck: Collection[str]
) -> Chunk:
    async with _turn(connection, tenant_id):
        picked = await connection.fetchrow(SQL["pick_due"], tenant_id, limit, list(stuck))
        assert picked is not None
        if not picked["ids"]:
            return Chunk(0, more=False)
        movement_ids = id_block(picked["now"], picked["lines"])
        try:
            ended = await connection.fetchval(
                SQL["expire_due"], tenant_id, picked["ids"], movement_ids
            )
        except TRANSIENT:
            raise
        except _POISON as error:
            raise _PoisonError(picked["ids"]) from error
    return Chunk(ended, more=picked["lines"] >= limit)


@asynccontextmanager
async def _turn(connection: asyncpg.Connection, tenant_id: UUID) -> AsyncIterator[None]:
    """Enter a transaction on one tenant's rows, alone among the sweeps.

    Without turns, the sweeps of several processes would all pick the same chunk.
    """
    turn = int.from_bytes(tenant_id.bytes[-4:], signed=True)
    try:
        await connection.execute(
            f"BEGIN; SET LOCAL app.tenant = '{tenant_id}'; "
            f"SELECT pg_advisory_xact_lock({_TURNS}, {turn})"
        )
        yield
        await connection.execute("COMMIT")
    except BaseException:
        await _roll_back(connection)
        raise


async def _roll_back(connection: asyncpg.Connection) -> None:
    """Leave the transaction, or the connection where that fails; the first error matters more."""
    try:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("ROLLBACK")
    except Exception:  # noqa: BLE001 - whatever it is, the server rolls back what it lost
        connection.terminate()


class _Sweep:
    """The two connections of a sweep, and what it found that cannot end."""

    def __init__(self, app: asyncpg.Connection, operator: asyncpg.Connection, limit: int) -> None:
        self._app = app
        self._operator = operator
        self._limit = limit
        self._looks = 0
        self.stuck: set[str] = set()

    async def look(self) -> list[UUID]:
        """List the tenants with anything due."""
        self._looks += 1
        if plan_again(self._looks):
            await self._app.execute("DISCARD PLANS")
            await self._operator.execute("DISCARD PLANS")
        return await due_tenants(self._operator)

    async def chunk(self, tenant_id: UUID) -> Chunk:
        """End a chunk, again after lost races. Raises TRANSIENT when it keeps losing them."""
        attempts = 0
        while True:
            try:
                return await _chunk_around_poison(self._app, tenant_id, self._limit, self.stuck)
            except TRANSIENT:
                attempts += 1
                if attempts >= ATTEMPTS:
                    raise

    async def keep_partitions(self) -> None:
        """Make the partitions of the coming months, unless a long reader is in the way."""
        await self._operator.execute(_UPKEEP)


@asynccontextmanager
async def _open(dsn: str, limit: int) -> AsyncIterator[_Sweep]:
    app = await connect(dsn, settings=SETTINGS)
    try:
        operator = await connect(dsn, "cerniq_operator", KEY_LOOKUPS)
        try:
            yield _Sweep(app, operator, limit)
        finally:
            operator.terminate()
    finally:
        app.terminate()


async def sweep_all(dsn: str, *, tenant_id: UUID | None = None, limit: int = CHUNK) -> int:
    """End all that is due, of one tenant or of every one in turn. Returns how many ended.

    What cannot be ended (`verify` tells why) is logged and left.
    """
    total = 0
    async with _open(dsn, limit) as sweep:
        while ended := await _sweep_round(sweep, tenant_id):
            total += ended
    return total


async def _sweep_round(sweep: _Sweep, tenant_id: UUID | None) -> int:
    """End what is due now, a chunk of each tenant in turn."""
    due = deque([tenant_id] if tenant_id is not None else await sweep.look())
    ended = 0
    while due:
        chunk = await sweep.chunk(due[0])
        ended += chunk.ended
        due.rotate(-1)
        if not chunk.more:
            due.pop()
    return ended


class Sweeper:
    """Sweeps in the background of a process, within a second of every expiry. To be entered.

    Any number of processes may run one. It goes on after lost connections and whatever else
    happens, and logs it; a tenant whose rows make trouble does not hold the others up.
    """

    def __init__(self, dsn: str, interval_s: float = 0.5, *, limit: int = CHUNK) -> None:
        self._dsn = dsn
        self._interval_s = interval_s
        self._limit = limit
        self._stop = asyncio.Event()
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start sweeping. The first connection is made in the background."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop after the transaction under way."""
        assert self._task is not None
        self._stop.set()
        await asyncio.wait([self._task], timeout=STOP_TIMEOUT_S)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                async with _open(self._dsn, self._limit) as sweep:
                    await self._sweep_until_stopped(sweep)
            except LOST as error:
                log.warning("the sweep has no connection: %r", error)
            except Exception:
                log.exception("the sweep failed and starts again")
            self._failures += 1
            delay_s = RECONNECT_DELAY_S * 2 ** min(self._failures, 10)
            await self._pause(min(delay_s, RECONNECT_DELAY_MAX_S))

    async def _sweep_until_stopped(self, sweep: _Sweep) -> None:
        clock = asyncio.get_running_loop().time
        due: deque[UUID] = deque()
        look_at = upkeep_at = clock()
        while not self._stop.is_set():
            if clock() >= upkeep_at:
                upkeep_at = clock() + await self._upkeep(sweep)
            if clock() >= look_at:
                known = set(due)
                due.extend(id_ for id_ in await sweep.look() if id_ not in known)
                look_at = clock() + self._interval_s
                self._failures = 0
            if not due:
                await self._pause(look_at - clock())
            elif await self._sweep_chunk(sweep, due[0]):
                due.rotate(-1)
            else:
                due.popleft()

    async def _sweep_chunk(self, sweep: _Sweep, tenant_id: UUID) -> bool:
        """Sweep a chunk; tell whether to come back to the tenant before the next look."""
        try:
            return (await sweep.chunk(tenant_id)).more
        except LOST:
            raise
        except Exception:
            log.exception("the sweep of tenant %s failed; the others go on", tenant_id)
            return False

    async def _upkeep(self, sweep: _Sweep) -> float:
        """Do what is due every hour. Returns in how many seconds to come back."""
        sweep.stuck.clear()
        try:
            await sweep.keep_partitions()
        except asyncpg.LockNotAvailableError:
            log.info("no partitions made: movements are being read; trying again later")
            return UPKEEP_RETRY_S
        except LOST:
            raise
        except Exception:
            log.exception("no partitions made; the default partition takes what has none")
        return UPKEEP_INTERVAL_S

    async def _pause(self, delay_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), max(delay_s, 0))
