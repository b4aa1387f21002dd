"""Sales told to an ERP, once each: written down, sent, and then written down as booked.

A sale is durable as SENDING, with the document it goes into, before the ERP is asked; so a process
may end at any moment. What it leaves open is sent again as the same document, which the adapter
looks for first. That waits until the ERP cannot be at work on it any more: one that is just making
a document does not show it yet.

Movements are found by what is not written down, from the first moment on that was not looked
through. Their times are those of their transactions' beginnings, and these do not end in that
order, so the last hour is always looked through again; no transaction of the engine lasts minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from time import monotonic
from uuid import UUID

import asyncpg

from cerniq_stock import validate
from cerniq_stock.domain.outcomes import Wire
from cerniq_stock.erp.connection import booking
from cerniq_stock.erp.options import SyncOptions
from cerniq_stock.erp.rows import PayloadError
from cerniq_stock.erp.session import Connection
from cerniq_stock.erp.source import Booking, Sale, Source
from cerniq_stock.erp.trouble import BadAnswerError, ErpError, RefusedError
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.integrations import Integrations, Opened
from cerniq_stock.store.database import as_tenant
from cerniq_stock.store.ids import id_block
from cerniq_stock.store.pushing import SQL, Batch, Ledger, Sold, first_id, push_turn

OVERLAP = timedelta(hours=1)
SETTLE_S = 120.0
"""Besides the longest answer: for so long an ERP may be at work on what nobody waits for."""
MOST_TROUBLES = 3
"""Documents in trouble, one after the other, that end a run: the ERP is, and not one sale."""
DOCUMENTS = 20
"""That are looked for and written down together."""
MOST_TOLD = 100
NOTHING_BOOKED = frozenset({None, 400, 404, 405, 413, 415, 422})
"""Statuses of refusals that say so for sure; None: nothing was sent.

A 409 may be of a key that is booked, a 403 of a guard who did not let the answer out.
"""
UNSURE = "it may be booked all the same: look there before it is sent again"


class PushOffError(InvalidInputError):
    """Sales are not pushed to this ERP, or not now."""


@dataclass(frozen=True, slots=True)
class PushError(Wire):
    """A sale that the ERP does not take, or has not taken yet."""

    movement_id: str
    sku: str
    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class PushResult(Wire):
    """What a run did, in sales. `waiting` are tried again by the next one.

    `more`: the run has ended before it had looked for all.
    """

    success: bool
    erp_system: str
    booked: int
    refused: int
    waiting: int
    more: bool
    documents: tuple[str, ...]
    errors: tuple[PushError, ...]


@dataclass(frozen=True, slots=True)
class PushView(Wire):
    """What became of one sale. A negative quantity came back."""

    movement_id: str
    sku: str
    warehouse: str
    quantity: Decimal
    sold_at: datetime
    state: str
    document: str | None
    error: str | None
    attempts: int
    tried_at: datetime | None
    ended_at: datetime | None


class Pushes:
    """Sales and their way to ERPs, by tenant and system. `app` acts as cerniq_app."""

    def __init__(
        self,
        dsn: str,
        app: asyncpg.Pool,
        integrations: Integrations,
        *,
        settle_s: float | None = None,
    ) -> None:
        self._dsn = dsn
        self._app = app
        self._integrations = integrations
        self._settle_s = settle_s

    async def run(self, tenant_id: UUID, system: str, *, most_s: float | None = None) -> PushResult:
        """Send what is to be sent, for `most_s` seconds; whatever was begun is ended.

        Raises NotFoundError, PushOffError, BusyError, and ErpError where none can be sent.
        """
        opened = await self._integrations.open(tenant_id, system)
        takes = _takes(opened)
        async with (
            push_turn(self._dsn, opened.tenant_id, opened.id) as ledger,
            self._integrations.session(opened) as source,
        ):
            run = _Run(ledger, source, takes, opened.options, self._settled(opened), most_s)
            return await run.result(opened.system.value)

    async def again(
        self, tenant_id: UUID, system: str, movement_ids: Sequence[str] | None = None
    ) -> int:
        """Let refused sales be sent again, all of them by default; returns how many.

        Raises NotFoundError where one of these is none that was refused.
        """
        of = await self._of(tenant_id, system)
        wanted = None if movement_ids is None else list(dict.fromkeys(movement_ids))
        async with as_tenant(self._app, of[0]) as connection:
            rows = await connection.fetch(SQL["refused_pushes"], *of, wanted)
            found = [row["movement_id"] for row in rows]
            for missing in sorted(set(wanted or ()) - set(found)):
                raise NotFoundError(f"No sale {missing} was refused by {system}")
            now = await connection.fetchval("SELECT statement_timestamp()")
            await connection.execute(SQL["push_again"], *of, found, id_block(now, len(found)))
        return len(found)

    async def listed(
        self, tenant_id: UUID, system: str, *, state: str | None = None, limit: int = 50
    ) -> tuple[PushView, ...]:
        """List what became of sales, the newest first."""
        of = await self._of(tenant_id, system)
        async with as_tenant(self._app, of[0]) as connection:
            rows = await connection.fetch(SQL["pushes"], *of, state, validate.rows(limit))
        return tuple(PushView(**dict(row)) for row in rows)

    async def _of(self, tenant_id: UUID, system: str) -> tuple[UUID, UUID]:
        tenant_id = validate.uuid("tenantId", tenant_id)
        view = await self._integrations.get(tenant_id, system)
        return tenant_id, view.id

    def _settled(self, opened: Opened) -> float:
        if self._settle_s is not None:
            return self._settle_s
        assert isinstance(opened.connection, Connection)
        return SETTLE_S + opened.connection.timeout_s


def _takes(opened: Opened) -> Booking:
    """Return how the connection takes sales, if it is to be told of any."""
    if not opened.enabled:
        raise PushOffError("system", f"The integration with {opened.system} is disabled")
    if not opened.options.push:
        raise PushOffError("push", f"Sales are not pushed to {opened.system}: push is off")
    takes = booking(opened.connection, opened.parse)
    if takes is None:
        raise PushOffError("push", f"{opened.system} takes no sales, as it is configured")
    return takes


class _Run:
    """One run, in its turn."""

    def __init__(
        self,
        ledger: Ledger,
        source: Source,
        takes: Booking,
        options: SyncOptions,
        settle_s: float,
        most_s: float | None,
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._takes = takes
        self._options = options
        self._settle_s = settle_s
        self._ends_at = None if most_s is None else monotonic() + most_s
        self._troubles = 0
        self._booked = self._refused = 0
        self._documents: dict[str, None] = {}
        self._errors: list[PushError] = []

    async def result(self, system: str) -> PushResult:
        """Send what was never tried, then what is new, then what was in trouble before."""
        fresh = await self._ledger.waiting(fresh=True, settle_s=self._settle_s)
        tried = await self._ledger.waiting(fresh=False, settle_s=self._settle_s)
        done = (
            await self._send_all(fresh) and await self._send_new() and await self._send_all(tried)
        )
        return PushResult(
            success=not self._errors,
            erp_system=system,
            booked=self._booked,
            refused=self._refused,
            waiting=await self._ledger.count_waiting(),
            more=not done,
            documents=tuple(self._documents)[:MOST_TOLD],
            errors=tuple(self._errors[:MOST_TOLD]),
        )

    @property
    def _over(self) -> bool:
        late = self._ends_at is not None and monotonic() >= self._ends_at
        return late or self._troubles >= MOST_TROUBLES

    async def _send_new(self) -> bool:
        """Find what was sold since, and send it; returns whether that was all."""
        now, since = await self._ledger.since()
        places = await self._places()
        if since is None or not places:
            return True
        after, most = first_id(since), DOCUMENTS * self._takes.most
        while rows := await self._ledger.unpushed(after, since, places, most):
            batches = await self._ledger.put(_grouped(rows, self._takes.most))
            after = rows[-1]["movement_id"]
            await self._ledger.looked_through(min(rows[-1]["sold_at"], now) - OVERLAP)
            if not await self._send_all(batches):
                return False
        await self._ledger.looked_through(now - OVERLAP)
        return True

    async def _places(self) -> list[str]:
        """Our warehouses whose sales are this ERP's: those it tells of; at first, all."""
        known = await self._ledger.warehouses()
        if not self._takes.places:
            return [self._options.default_warehouse or known[0][0]]
        return [name for name, told in known if told] or [name for name, _ in known]

    async def _send_all(self, batches: Sequence[Batch]) -> bool:
        for batch in batches:
            if self._over:
                return False
            await self._send(batch)
        return not self._over

    async def _send(self, batch: Batch) -> None:
        attempt = await self._ledger.trying(batch)
        try:
            document = await self._push(batch)
        except RefusedError as error:
            self._troubles = 0
            settled = attempt == 1 or self._takes.finds_repeats
            await self._refuse(batch, error, sure=settled and error.status in NOTHING_BOOKED)
        except (ErpError, PayloadError) as error:
            await self._ledger.troubled(batch, str(error))
            self._tell(batch, error)
            # credentials and addresses are no better for the next one; an answer may be
            if isinstance(error, ErpError) and not error.retryable:
                raise
            self._troubles += 1
        else:
            self._troubles = 0
            await self._ledger.booked(batch, document)
            self._booked += len(batch.sales)
            if document is not None:
                self._documents[document] = None

    async def _push(self, batch: Batch) -> str | None:
        """Have it booked. A redirect refuses no sale, and may come after it was booked."""
        try:
            return await self._source.push([self._sale(sold) for sold in batch.sales])
        except RefusedError as error:
            if error.status is not None and 300 <= error.status < 400:
                raise BadAnswerError(str(error), status=error.status) from None
            raise

    async def _refuse(self, batch: Batch, error: RefusedError, *, sure: bool) -> None:
        """Find out which one it was; alone each has another key, so nothing may be booked yet."""
        if len(batch.sales) > 1 and sure:
            for part in await self._ledger.apart(batch):
                if not self._over:
                    await self._send(part)
            return
        why = str(error) if sure else f"{error}; {UNSURE}"
        await self._ledger.refused(batch, why)
        self._refused += len(batch.sales)
        self._tell(batch, error, why)

    def _tell(self, batch: Batch, error: ErpError | PayloadError, why: str | None = None) -> None:
        code, retryable = error.code, bool(error.retryable)
        self._errors += [
            PushError(sold.movement_id, sold.sku, code, why or str(error), retryable)
            for sold in batch.sales
        ]

    def _sale(self, sold: Sold) -> Sale:
        return Sale(sold.movement_id, sold.sku, self._theirs(sold.warehouse), sold.quantity)

    def _theirs(self, warehouse: str) -> str | None:
        """Return the ERP's name of a warehouse: the first that means ours, else ours."""
        if not self._takes.places:
            return None
        pairs = self._options.warehouses.items()
        return next((theirs for theirs, ours in pairs if ours == warehouse), warehouse)


def _grouped(rows: Sequence[asyncpg.Record], most: int) -> list[Sequence[asyncpg.Record]]:
    """Put sales into documents; what came back first, as it may be what was sold again."""
    back = [row for row in rows if row["quantity"] < 0]
    gone = [row for row in rows if row["quantity"] > 0]
    return [part[n : n + most] for part in (back, gone) for n in range(0, len(part), most)]
