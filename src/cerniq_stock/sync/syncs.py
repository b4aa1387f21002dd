"""Syncs as the rest of the engine asks for them: by tenant and system, or a dry run by its id."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from uuid import UUID

import asyncpg

from cerniq_stock import validate
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.csv_source import CsvSource
from cerniq_stock.erp.systems import SYSTEMS
from cerniq_stock.erp.trouble import ErpError
from cerniq_stock.errors import CommandFailedError, InvalidInputError, NotFoundError, OutdatedError
from cerniq_stock.integrations import Integrations, Opened
from cerniq_stock.store.database import as_tenant
from cerniq_stock.store.integrations import spelled
from cerniq_stock.store.syncing import PLANS_KEPT, SQL
from cerniq_stock.sync.applying import Progress
from cerniq_stock.sync.push import Pushes
from cerniq_stock.sync.result import Asked, Integration, SyncResult, SyncType
from cerniq_stock.sync.review import Review
from cerniq_stock.sync.run import Run
from cerniq_stock.sync.subscriptions import Subscriptions

MOST_MOVED = 5
"""SKUs that a refusal names."""


class DisabledError(InvalidInputError):
    """The integration is switched off."""


async def _silent(_: int) -> None:
    pass


class Syncs:
    """`app` acts as cerniq_app."""

    def __init__(self, dsn: str, app: asyncpg.Pool, integrations: Integrations) -> None:
        self._dsn = dsn
        self._app = app
        self._integrations = integrations
        self.review = Review(dsn, app)
        self.pushes = Pushes(dsn, app, integrations)
        self.subscriptions = Subscriptions(app, integrations)

    async def run(
        self,
        tenant_id: UUID,
        system: str,
        asked: Asked,
        *,
        upload: bytes | None = None,
        progress: Progress = _silent,
    ) -> SyncResult:
        """Synchronise; of CSV_IMPORT with an `upload`, if there is one.

        Raises NotFoundError, InvalidInputError, BusyError, SnapshotRefusedError, ErpError,
        PayloadError, and CommandFailedError (a bug).
        """
        asked = _checked(asked)
        if upload is not None and not isinstance(upload, bytes):
            raise InvalidInputError("upload", "upload must be bytes")
        opened = await self._opened(tenant_id, system)
        can = SYSTEMS[opened.system].capabilities
        integration = await self._integration(opened)
        async with self._integrations.session(opened, upload=upload, file=asked.file) as source:
            if isinstance(source, CsvSource):
                asked = await _whole_file(source, asked, opened, given=upload is not None)
            run = Run(self._dsn, integration, asked, progress=progress)
            with _storing():
                return await run.result(source, incremental=can.incremental, by_sku=can.by_sku)

    async def apply(self, tenant_id: UUID, sync_id: str) -> SyncResult:
        """Apply what a dry run would have changed, if nothing has moved since (READING 30)."""
        sync_id = validate.made_id("sync", sync_id)
        log = await self._planned(tenant_id, sync_id)
        opened = await self._opened(tenant_id, log["erp_system"])
        if opened.id != log["integration_id"]:
            raise OutdatedError("sync", "It was of another integration, which was removed")
        told = json.loads(log["asked"])
        asked = Asked(
            kind=SyncType(log["sync_type"]),
            force=told["force"],
            strategy=Strategy(told["strategy"]),
            accept=True,  # somebody has seen what it does
        )
        run = Run(self._dsn, _as_planned(await self._integration(opened)), asked, progress=_silent)
        with _storing():
            result = await run.applied(sync_id)
        async with as_tenant(self._app, tenant_id) as connection:
            await connection.execute(SQL["mark_applied"], tenant_id, sync_id, result.sync_id)
            await connection.execute(SQL["drop_plan"], tenant_id, sync_id)
        return result

    async def _opened(self, tenant_id: UUID, system: str) -> Opened:
        opened = await self._integrations.open(tenant_id, system)
        if not opened.enabled:
            raise DisabledError("system", f"The integration with {opened.system} is disabled")
        return opened

    async def _planned(self, tenant_id: UUID, sync_id: str) -> asyncpg.Record:
        async with as_tenant(self._app, tenant_id) as connection:
            log = await connection.fetchrow(SQL["dry_run"], tenant_id, sync_id, PLANS_KEPT)
            if log is None:
                raise NotFoundError(f"No dry run {sync_id}")
            if log["applied_as"] is not None:
                raise OutdatedError("sync", f"It was applied before, as {log['applied_as']}")
            if log["too_old"]:
                raise OutdatedError("sync", "It was long ago; make a new dry run")
            if log["overtaken"]:
                raise OutdatedError("sync", "Another sync has run since; make a new dry run")
            moved = await connection.fetch(SQL["moved"], tenant_id, sync_id, MOST_MOVED)
            if moved:
                names = ", ".join(row["sku"] for row in moved)
                raise OutdatedError("sync", f"Stock has moved since, of {names}; run it anew")
            return log

    async def _integration(self, opened: Opened) -> Integration:
        async with as_tenant(self._app, opened.tenant_id) as connection:
            warehouses = await connection.fetchval(SQL["warehouses"], opened.tenant_id)
        return Integration(
            tenant_id=opened.tenant_id,
            id=opened.id,
            erp_system=opened.system.value,
            options=opened.options,
            warehouses=tuple(warehouses),
            watermark=opened.watermark,
            revision=opened.revision,
            spelled=await spelled(self._app, opened.tenant_id),
        )


@contextmanager
def _storing() -> Iterator[None]:
    """What the database takes for bad input is nobody's but ours: a part may be applied already."""
    try:
        yield
    except asyncpg.DataError as error:
        what = f"The database cannot store what the sync wrote: {type(error).__name__}"
        raise CommandFailedError(f"{what}; what was applied before it stays") from error


def _checked(asked: Asked) -> Asked:
    """Words of the library's users, as the words of ours."""
    strategy = asked.strategy
    if strategy is not None:
        strategy = validate.choice("strategy", Strategy, strategy)
    kind = validate.choice("kind", SyncType, asked.kind)
    if asked.skus and kind is not SyncType.SELECTIVE:
        raise InvalidInputError("skus", "skus are of a SELECTIVE sync only")
    return replace(asked, kind=kind, strategy=strategy)


async def _whole_file(source: CsvSource, asked: Asked, opened: Opened, *, given: bool) -> Asked:
    """A file that is news is the whole catalogue, with all that guards one, whoever asks."""
    if asked.kind not in (SyncType.INCREMENTAL, SyncType.SELECTIVE):
        return asked
    news = given or asked.file is not None or opened.watermark is None
    with suppress(ErpError):  # the run will meet it, too, and log it
        news = news or await source.is_news(opened.watermark or {})
    if asked.kind is SyncType.INCREMENTAL:
        return replace(asked, kind=SyncType.FULL) if news else asked
    if not news:  # something newer may have been handed over since
        raise InvalidInputError("file", "This file was read before; for single products name it")
    return asked


def _as_planned(of: Integration) -> Integration:
    """What the options had to say is in the plan."""
    said = {"create_unknown": True, "use_erp_available": True, "sync_prices": True}
    return replace(of, options=of.options.model_copy(update={**said, "sync_status": True}))
