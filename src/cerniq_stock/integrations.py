"""Tenants' ERPs: stored, changed, tried, opened. Secrets lie sealed and leave only as a session.

Whatever is shown of a configuration has `***` for every secret that is set, and errors name keys,
never values. A sealed configuration is bound to its tenant and row; it opens nowhere else.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from pydantic import BaseModel

from cerniq_stock import cron, validate
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.connection import open_source
from cerniq_stock.erp.csv_source import CsvSettings, Place, naming, open_csv
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.options import SyncOptions, check_warehouses, read_options
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.secrets import (
    Keys,
    LostKeysError,
    NoKeysError,
    SecretsError,
    rewrap,
    seal,
    unseal,
)
from cerniq_stock.erp.secrets import Place as SealedPlace
from cerniq_stock.erp.session import Connection
from cerniq_stock.erp.source import Health, Source, Watermark
from cerniq_stock.erp.stored import Configuration, check_push, read_configuration
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.store import integrations as store
from cerniq_stock.store.database import as_tenant
from cerniq_stock.store.integrations import New, Row, Sealed
from cerniq_stock.store.removal import Removal
from cerniq_stock.store.syncing import SQL
from cerniq_stock.views import (
    IntegrationView,
    NotRewrapped,
    RemovedIntegration,
    Rotation,
    StoredCredentials,
)

Json = bytes | str | Mapping[str, Any]

MAX_NAME = 100
PAGE = 100
"""Rows that a change of keys looks at together; it changes one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An integration at hand, secrets in the open: not to be stored, logged or passed around.

    `revision` counts the changes of the configuration: a watermark is stored for this one only.
    """

    tenant_id: UUID
    id: UUID
    system: SystemName
    name: str
    enabled: bool
    options: SyncOptions
    watermark: Watermark | None
    revision: int
    connection: BaseModel = field(repr=False)
    parse: ErpConfig = field(repr=False)


class Integrations:
    """What is stored of tenants' ERPs. `wiring.open_integrations` makes one.

    `app` and `operator` are pools of these roles. `keys` is asked whenever something is sealed or
    opened; it raises SecretsError where none are configured. `files` is where CSV_IMPORT reads,
    `ca_file` has authorities besides the system's.
    """

    def __init__(
        self,
        app: asyncpg.Pool,
        operator: asyncpg.Pool,
        *,
        keys: Callable[[], Keys],
        policy: Policy,
        files: Path | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._app = app
        self._operator = operator
        self._keys = keys
        self._policy = policy
        self._files = files
        self._ca_file = ca_file

    # -- changing ---------------------------------------------------------------------------

    async def add(
        self,
        tenant_id: UUID,
        system: SystemName | str,
        *,
        name: str,
        config: Json,
        options: Json | None = None,
        schedule: str | None = None,
        enabled: bool = True,
    ) -> IntegrationView:
        """Store an integration; a tenant has one of each system.

        `config` is `{"connection": {…}, "parse": {…}}`, as an object or as JSON. Raises
        InvalidInputError naming the key, SecretsError, and NotFoundError for the tenant.
        """
        tenant_id, system, id_ = validate.uuid("tenantId", tenant_id), _system(system), uuid4()
        read, chosen = read_configuration(system, config), read_options(options or {})
        check_push(system, read, chosen)
        await self._check_warehouses(tenant_id, chosen)
        keys = await self._keys_to_begin_with()
        new = New(
            id_,
            system,
            validate.text("name", name, most=MAX_NAME),
            enabled,
            seal(keys, _place(tenant_id, id_), read.written()),
            _schedule(schedule),
            chosen.chosen(),
            read.pulls,
        )
        await store.insert(self._app, tenant_id, new)
        return await self.get(tenant_id, system)

    async def change(
        self,
        tenant_id: UUID,
        system: SystemName | str,
        *,
        name: str | None = None,
        config: Json | None = None,
        options: Json | None = None,
        enabled: bool | None = None,
    ) -> IntegrationView:
        """Change what is given; a configuration and options are given whole.

        With another configuration the next sync reads everything.
        """
        row = await self._find(tenant_id, system)
        read = None if config is None else read_configuration(_system(system), config)
        chosen = None if options is None else read_options(options)
        if (chosen is not None and chosen.push) or (read is not None and row.options.get("push")):
            check_push(
                _system(system), read or self._unsealed(row), chosen or read_options(row.options)
            )
        if chosen is not None:
            await self._check_warehouses(row.tenant_id, chosen)
        await store.update(
            self._app,
            row.tenant_id,
            row.id,
            name=validate.optional_text("name", name, most=MAX_NAME),
            enabled=enabled,
            options=None if chosen is None else chosen.chosen(),
            sealed=None if read is None else self._sealed(row.tenant_id, row.id, read),
            pull=None if read is None else read.pulls,
        )
        return await self.get(tenant_id, system)

    async def schedule(
        self, tenant_id: UUID, system: SystemName | str, expression: str | None
    ) -> IntegrationView:
        """Set when it is synchronised: a cron expression of five fields; None: as all others."""
        row, checked = await self._find(tenant_id, system), _schedule(expression)
        await store.schedule(self._app, row.tenant_id, row.id, checked)
        return await self.get(tenant_id, system)

    async def remove(self, tenant_id: UUID, system: SystemName | str) -> RemovedIntegration:
        """Delete it with its secrets; the log of its runs stays.

        What the ERP has committed, and is blocked here for it, is free again; conflicts that wait
        for a person are over. What dies in the middle is gone on with when it is called again.
        Raises NotFoundError, BusyError while a sync is under way, UnavailableError.
        """
        row = await self._find(tenant_id, system)
        return await Removal(row.tenant_id, row.id, row.erp_system).run(self._app)

    # -- looking ----------------------------------------------------------------------------

    async def listed(self, tenant_id: UUID) -> tuple[IntegrationView, ...]:
        """List a tenant's integrations by system."""
        return tuple(map(_view, await store.listed(self._app, tenant_id)))

    async def get(self, tenant_id: UUID, system: SystemName | str) -> IntegrationView:
        """Look one up. Raises NotFoundError."""
        return _view(await self._find(tenant_id, system))

    async def configuration(self, tenant_id: UUID, system: SystemName | str) -> dict[str, Any]:
        """Show its configuration, `***` in the place of secrets. Raises SecretsError."""
        row = await self._find(tenant_id, system)
        return self._unsealed(row).shown()

    # -- using ------------------------------------------------------------------------------

    async def open(self, tenant_id: UUID, system: SystemName | str) -> Opened:
        """Open one for use. Raises NotFoundError, SecretsError, or InvalidInputError.

        The last where a newer release no longer understands what an older one stored.
        """
        row = await self._find(tenant_id, system)
        read = self._unsealed(row)
        return Opened(
            tenant_id=row.tenant_id,
            id=row.id,
            system=_system(row.erp_system),
            name=row.name,
            enabled=row.enabled,
            options=read_options(row.options),
            watermark=row.watermark,
            revision=row.revision,
            connection=read.connection,
            parse=read.parse,
        )

    @asynccontextmanager
    async def session(
        self, opened: Opened, *, upload: bytes | None = None, file: str | None = None
    ) -> AsyncIterator[Source]:
        """Open a session with its source.

        Of CSV_IMPORT, `upload` is a file that was handed over, and `file` names one below the
        tenant's folder, instead of what the settings say. Raises InvalidInputError.
        """
        if isinstance(opened.connection, CsvSettings):
            usual = opened.connection
            settings = usual if file is None else naming(usual, file)
            aside = usual.looks and (upload is not None or file is not None)
            place = Place(self._files, opened.tenant_id)
            async with open_csv(settings, opened.parse, place, upload=upload, aside=aside) as files:
                yield files
            return
        if upload is not None or file is not None:
            raise InvalidInputError("file", f"{opened.system} is asked; it takes no files")
        assert isinstance(opened.connection, Connection)
        async with open_source(
            opened.system,
            opened.connection,
            self._policy,
            opened.parse,
            ca_file=self._ca_file,
        ) as source:
            yield source

    async def test(self, tenant_id: UUID, system: SystemName | str) -> Health:
        """Log in and ask for as little as possible. Raises ErpError, PayloadError."""
        async with self.session(await self.open(tenant_id, system)) as source:
            return await source.check()

    # -- keys -------------------------------------------------------------------------------

    async def rotate_keys(self, *, dry_run: bool = False) -> Rotation:
        """Put every tenant's data keys under the first key, row by row, while all goes on.

        It can be stopped and run again at any time. What does not open is reported and left.
        """
        keys = await self._keys_to_begin_with()
        counts = {"current": 0, "rewrapped": 0, "missed": 0}
        failed: list[NotRewrapped] = []
        for table in (store.TABLE, store.URL_TABLE):
            after = _FIRST
            while rows := await store.sealed_after(self._operator, after, PAGE, table):
                for row in rows:
                    try:
                        counts[await self._rewrapped(keys, row, dry_run=dry_run)] += 1
                    except SecretsError as error:
                        failed.append(NotRewrapped(row.tenant_id, row.id, str(error)))
                after = rows[-1].tenant_id, rows[-1].id
        return Rotation(keys.first, dry_run, **counts, failed=tuple(failed))

    async def _rewrapped(self, keys: Keys, row: Sealed, *, dry_run: bool) -> str:
        new = rewrap(keys, _place(row.tenant_id, row.id, row.table), row.sealed)
        if new is None:
            return "current"
        if dry_run or await store.swap_sealed(self._app, row, new):
            return "rewrapped"
        return "missed"

    async def stored(self) -> StoredCredentials:
        """Count what is stored of all tenants, and what of it does not open. Changes nothing."""
        keys, reason = None, None
        try:
            keys = self._keys_of_stored()
        except SecretsError as error:
            reason = str(error)
        stored, closed, readers, after = 0, 0, list[UUID](), _FIRST
        while rows := await store.sealed_after(self._operator, after, PAGE):
            for row in rows:
                stored += 1
                try:
                    readers += [row.tenant_id] * _reads_files(_opened(keys, row))
                except SecretsError as error:
                    closed, reason = closed + 1, reason or str(error)
            after = rows[-1].tenant_id, rows[-1].id
        missing = await asyncio.to_thread(self._without_folder, set(readers))
        return StoredCredentials(
            stored, closed, reason, len(readers), sum(one in missing for one in readers)
        )

    def _without_folder(self, tenants: Collection[UUID]) -> set[UUID]:
        root = self._files
        return {one for one in tenants if root is None or not (root / str(one)).is_dir()}

    # -- secrets beside the configuration ----------------------------------------------------

    def seal_url(self, tenant_id: UUID, id_: UUID, url: str) -> bytes:
        """Seal the address to which an ERP tells of changes: some know it by nothing else."""
        return seal(self._keys_of_stored(), _place(tenant_id, id_, store.URL_TABLE), url.encode())

    def unseal_url(self, tenant_id: UUID, id_: UUID, sealed: bytes) -> str:
        """Open it again. Raises SecretsError."""
        place = _place(tenant_id, id_, store.URL_TABLE)
        return unseal(self._keys_of_stored(), place, sealed).decode()

    # -- how --------------------------------------------------------------------------------

    async def _check_warehouses(self, tenant_id: UUID, options: SyncOptions) -> None:
        """Refuse options that name warehouses which the tenant does not have."""
        async with as_tenant(self._app, tenant_id) as connection:
            names = await connection.fetchval(SQL["warehouses"], tenant_id)
        if names is not None:  # whoever stores it will say that there is no tenant
            check_warehouses(options, names)

    async def _find(self, tenant_id: UUID, system: SystemName | str) -> Row:
        tenant_id = validate.uuid("tenantId", tenant_id)
        return await store.find(self._app, tenant_id, _system(system))

    def _sealed(self, tenant_id: UUID, id_: UUID, read: Configuration) -> bytes:
        return seal(self._keys_of_stored(), _place(tenant_id, id_), read.written())

    def _unsealed(self, row: Row) -> Configuration:
        plain = unseal(self._keys_of_stored(), _place(row.tenant_id, row.id), row.sealed)
        return read_configuration(_system(row.erp_system), plain)

    def _keys_of_stored(self) -> Keys:
        """Return the keys, for what is stored already: a new one would be no help."""
        try:
            return self._keys()
        except NoKeysError:
            raise LostKeysError from None

    async def _keys_to_begin_with(self) -> Keys:
        """Return the keys; without any, what to do depends on whether something is stored."""
        try:
            return self._keys()
        except NoKeysError:
            if await store.sealed_after(self._operator, _FIRST, 1):
                raise LostKeysError from None
            raise


_FIRST = UUID(int=0), UUID(int=0)
"""Where to page on from at the beginning."""
_COLUMNS = {store.TABLE: store.COLUMN, store.URL_TABLE: store.URL_COLUMN}


def _place(tenant_id: UUID, id_: UUID, table: str = store.TABLE) -> SealedPlace:
    return SealedPlace(str(tenant_id), table, _COLUMNS[table], str(id_))


def _opened(keys: Keys | None, row: Sealed) -> bytes:
    if keys is None:
        raise LostKeysError
    return unseal(keys, _place(row.tenant_id, row.id, row.table), row.sealed)


def _reads_files(opened: bytes) -> bool:
    """Tell whether a configuration has files looked for: only that of CSV_IMPORT has such keys."""
    connection = json.loads(opened).get("connection", {})
    return any(connection.get(key) is not None for key in ("file", "folder"))


def _system(system: SystemName | str) -> SystemName:
    return validate.choice("system", SystemName, system)


def _schedule(expression: str | None) -> str | None:
    return None if expression is None else cron.expression("schedule", expression)


def _view(row: Row) -> IntegrationView:
    return IntegrationView(
        row.id,
        row.erp_system,
        row.name,
        row.enabled,
        row.sync_schedule,
        row.options,
        row.last_sync_at,
        row.last_sync_status,
        row.created_at,
        row.updated_at,
    )
