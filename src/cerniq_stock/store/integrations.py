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
    """An integration to be made."""

    id: UUID
    erp_system: str
    name: str
    enabled: bool
    sealed: bytes = field(repr=False)
    sync_schedule: str | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sealed:
    """One tenant's sealed configuration, as the operator sees it."""

    tenant_id: UUID
    id: UUID
    sealed: bytes = field(repr=False)


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


async def update(
    app: asyncpg.Pool,
    tenant_id: UUID,
    id_: UUID,
    *,
    name: str | None = None,
    enabled: bool | None = None,
    options: Mapping[str, Any] | None = None,
    sealed: bytes | None = None,
) -> None:
    """Change what is given. Another configuration lets the next run begin from the beginning."""
    told = None if options is None else _json(options)
    await _change(app, "update_integration", tenant_id, id_, name, enabled, told, sealed)


async def schedule(app: asyncpg.Pool, tenant_id: UUID, id_: UUID, expression: str | None) -> None:
    """Set when it is synchronised; None for the common schedule."""
    await _change(app, "schedule_integration", tenant_id, id_, expression)


async def delete(app: asyncpg.Pool, tenant_id: UUID, id_: UUID) -> None:
    """Delete an integration and what is secret of it. The log of its runs stays."""
    await _change(app, "delete_integration", tenant_id, id_)


async def _change(
    app: asyncpg.Pool, statement: str, tenant_id: UUID, id_: UUID, *more: object
) -> None:
    async with _writing(app, tenant_id) as connection:
        if await connection.fetchval(SQL[statement], tenant_id, id_, *more) is None:
            raise NotFoundError("The integration is gone")


# -- keys -------------------------------------------------------------------------------------


async def sealed_after(
    operator: asyncpg.Pool, after: tuple[UUID, UUID], limit: int
) -> tuple[Sealed, ...]:
    """Page through all tenants' sealed configurations, by tenant and id."""
    async with _answering(), operator.acquire() as connection:
        rows = await connection.fetch(SQL["sealed_integrations"], *after, limit)
    return tuple(Sealed(*row) for row in rows)


async def swap_sealed(app: asyncpg.Pool, row: Sealed, new: bytes) -> bool:
    """Put `new` in the place of what `row` saw there; False where that has changed since."""
    async with _writing(app, row.tenant_id) as connection:
        swapped = await connection.fetchval(
            SQL["swap_sealed"], row.tenant_id, row.id, row.sealed, new
        )
    return swapped is not None


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
