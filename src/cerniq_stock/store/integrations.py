"""Integrations with ERPs as rows. What is secret of them comes and goes sealed.

Each change is one small transaction of its tenant. Nothing here can open a configuration.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import asyncpg.pool

from cerniq_stock.errors import InvalidInputError, NotFoundError, UnavailableError
from cerniq_stock.store.availability import NO_ANSWER
from cerniq_stock.store.database import as_tenant
from cerniq_stock.store.queries import SQL

TABLE, COLUMN = "erp_integrations", "config_encrypted"
"""Where the sealed configurations lie; part of what they are bound to."""
URL_TABLE, URL_COLUMN = "erp_subscriptions", "url_encrypted"
"""The same of the addresses to which ERPs tell of changes."""


@dataclass(frozen=True, slots=True)
class Row:
    """An integration as it is stored. `sync_schedule` None: the common one.

    `revision` counts the changes of the configuration.
    """

    tenant_id: UUID
    id: UUID
    erp_system: str
    name: str
    enabled: bool
    sync_schedule: str | None
    options: Mapping[str, Any]
    last_sync_at: datetime | None
    last_sync_status: str | None
    created_at: datetime
    updated_at: datetime
    watermark: Mapping[str, Any] | None
    revision: int
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class New:
    """An integration to be made. `pull`: there is something to fetch; files may be handed over."""

    id: UUID
    erp_system: str
    name: str
    enabled: bool
    sealed: bytes = field(repr=False)
    sync_schedule: str | None
    options: Mapping[str, Any]
    pull: bool = True


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where an ERP tells of changes. `id` is the ERP's; `expires_at` None: it does not end."""

    id: str
    sealed: bytes = field(repr=False)
    made_at: datetime
    renewed_at: datetime
    renew_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sealed:
    """Something sealed of one tenant, as the operator sees it."""

    tenant_id: UUID
    id: UUID
    sealed: bytes = field(repr=False)
    table: str = TABLE


async def insert(app: asyncpg.Pool, tenant_id: UUID, new: New) -> None:
    """Make an integration. Raises InvalidInputError where the tenant has one of this system."""
    try:
        async with _writing(app, tenant_id) as connection:
            await connection.execute(
                SQL["insert_integration"],
                tenant_id,
                new.id,
                new.erp_system,
                new.name,
                new.enabled,
                new.sealed,
                new.sync_schedule,
                _json(new.options),
                new.pull,
            )
    except asyncpg.UniqueViolationError:
        raise InvalidInputError(
            "system", f"There is an integration with {new.erp_system} already; change that one"
        ) from None


async def listed(app: asyncpg.Pool, tenant_id: UUID) -> tuple[Row, ...]:
    """List a tenant's integrations by system."""
    return await _rows(app, tenant_id, None)


async def find(app: asyncpg.Pool, tenant_id: UUID, erp_system: str) -> Row:
    """Look one up. Raises NotFoundError."""
    found = await _rows(app, tenant_id, erp_system)
    if not found:
        raise NotFoundError(f"No integration with {erp_system}")
    return found[0]


async def _rows(app: asyncpg.Pool, tenant_id: UUID, erp_system: str | None) -> tuple[Row, ...]:
    async with _writing(app, tenant_id) as connection:
        rows = await connection.fetch(SQL["integrations_of_tenant"], tenant_id, erp_system)
    return tuple(_row(tenant_id, row) for row in rows)


def _row(tenant_id: UUID, row: asyncpg.Record) -> Row:
    values = dict(row)
    revision, sealed = values.pop("config_revision"), values.pop("config_encrypted")
    watermark = values.pop("watermark")
    return Row(
        tenant_id=tenant_id,
        options=json.loads(values.pop("options")),
        watermark=None if watermark is None else json.loads(watermark),
        revision=revision,
        sealed=sealed,
        **values,
    )


async def spelled(app: asyncpg.Pool, tenant_id: UUID) -> dict[str, str]:
    """Return the SKUs that may be written with a cedilla or a comma below, by `sku_key`."""
    async with _writing(app, tenant_id) as connection:
        rows = await connection.fetch(SQL["skus_of_two_spellings"], tenant_id)
    return {row["key"]: row["sku"] for row in rows}


async def update(
    app: asyncpg.Pool,
    tenant_id: UUID,
    id_: UUID,
    *,
    name: str | None = None,
    enabled: bool | None = None,
    options: Mapping[str, Any] | None = None,
    sealed: bytes | None = None,
    pull: bool | None = None,
) -> None:
    """Change what is given. Another configuration lets the next run begin from the beginning."""
    told = None if options is None else _json(options)
    given = name, enabled, told, sealed, pull
    await _change(app, "update_integration", tenant_id, id_, *given)


async def schedule(app: asyncpg.Pool, tenant_id: UUID, id_: UUID, expression: str | None) -> None:
    """Set when it is synchronised; None for the common schedule."""
    await _change(app, "schedule_integration", tenant_id, id_, expression)


async def _change(
    app: asyncpg.Pool, statement: str, tenant_id: UUID, id_: UUID, *more: object
) -> None:
    async with _writing(app, tenant_id) as connection:
        if await connection.fetchval(SQL[statement], tenant_id, id_, *more) is None:
            raise NotFoundError("The integration is gone")


# -- keys -------------------------------------------------------------------------------------


_PAGES = {TABLE: "sealed_integrations", URL_TABLE: "sealed_subscriptions"}
_SWAPS = {TABLE: "swap_sealed", URL_TABLE: "swap_sealed_subscription"}


async def sealed_after(
    operator: asyncpg.Pool, after: tuple[UUID, UUID], limit: int, table: str = TABLE
) -> tuple[Sealed, ...]:
    """Page through what all tenants have sealed in a table, by tenant and id."""
    async with _answering(), operator.acquire() as connection:
        rows = await connection.fetch(SQL[_PAGES[table]], *after, limit)
    return tuple(Sealed(row[0], row[1], row[2], table) for row in rows)


async def swap_sealed(app: asyncpg.Pool, row: Sealed, new: bytes) -> bool:
    """Put `new` in the place of what `row` saw there; False where that has changed since."""
    async with _writing(app, row.tenant_id) as connection:
        swapped = await connection.fetchval(
            SQL[_SWAPS[row.table]], row.tenant_id, row.id, row.sealed, new
        )
    return swapped is not None


# -- subscriptions ----------------------------------------------------------------------------


async def subscription(app: asyncpg.Pool, tenant_id: UUID, id_: UUID) -> Subscription | None:
    """Look up where the ERP of an integration tells of changes."""
    async with _writing(app, tenant_id) as connection:
        row = await connection.fetchrow(SQL["subscription_of"], tenant_id, id_)
    return None if row is None else Subscription(*row)


async def keep_subscription(
    app: asyncpg.Pool,
    tenant_id: UUID,
    id_: UUID,
    subscription_id: str,
    sealed: bytes,
    renew_at: datetime,
    expires_at: datetime | None,
) -> None:
    """Write down a subscription that was made, in the place of another one."""
    new = subscription_id, sealed, renew_at, expires_at
    async with _writing(app, tenant_id) as connection:
        await connection.execute(SQL["keep_subscription"], tenant_id, id_, *new)


async def renew_subscription(
    app: asyncpg.Pool,
    tenant_id: UUID,
    id_: UUID,
    before: str,
    subscription_id: str,
    renew_at: datetime,
    expires_at: datetime | None,
) -> bool:
    """Write down that `before` was renewed, or is another one now; then all is read anew.

    False: it is no longer wanted.
    """
    new = subscription_id, renew_at, expires_at
    async with _writing(app, tenant_id) as connection:
        found = await connection.fetchval(SQL["renew_subscription"], tenant_id, id_, before, *new)
        if found is not None and before != subscription_id:
            await connection.execute(SQL["read_all_next"], tenant_id, id_)
    return found is not None


async def drop_subscription(app: asyncpg.Pool, tenant_id: UUID, id_: UUID) -> None:
    """Forget a subscription."""
    async with _writing(app, tenant_id) as connection:
        await connection.execute(SQL["drop_subscription"], tenant_id, id_)


# -- how --------------------------------------------------------------------------------------


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@asynccontextmanager
async def _writing(
    app: asyncpg.Pool, tenant_id: UUID
) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    async with _answering(), as_tenant(app, tenant_id) as connection:
        yield connection


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Say in the engine's words what the driver raises."""
    try:
        yield
    except (*NO_ANSWER, asyncpg.LockNotAvailableError) as error:
        raise UnavailableError("The database does not answer") from error
    except asyncpg.ForeignKeyViolationError:
        raise NotFoundError(
            "No such tenant, or something still refers to the integration"
        ) from None
