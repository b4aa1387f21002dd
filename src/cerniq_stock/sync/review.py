"""What people do about syncs: look at runs, resolve conflicts, apply a dry run (READING 28, 30)."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter, ValidationError

from cerniq_stock import validate
from cerniq_stock.domain.commands import SyncLevel
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.model import ZERO
from cerniq_stock.domain.outcomes import Refused, SyncedLevel, Wire
from cerniq_stock.domain.sync import Chosen, Figure, Remembered, Strategy, Verdict
from cerniq_stock.errors import InvalidInputError, NotFoundError, OutdatedError
from cerniq_stock.store.database import as_tenant
from cerniq_stock.store.syncing import SQL, turn
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.writer import Link
from cerniq_stock.sync.applying import RECONNECT_S
from cerniq_stock.sync.result import SyncResult

_RESULT = TypeAdapter(SyncResult)


class Resolution(StrEnum):
    """What a person may decide; GONE is what nobody had to."""

    ACCEPT_ERP = "ACCEPT_ERP"
    KEEP_LOCAL = "KEEP_LOCAL"
    SET_VALUE = "SET_VALUE"


@dataclass(frozen=True, slots=True)
class Conflict(Wire):
    """A conflict as it was seen last: both values, when and where they came from."""

    id: str
    erp_system: str
    sync_id: str
    sku: str
    product_id: UUID
    warehouse: str
    field: str
    reason: str
    local_value: Decimal
    erp_value: Decimal
    last_agreed: Decimal | None
    first_seen_at: datetime
    seen_at: datetime
    resolution: str | None
    resolved_value: Decimal | None
    resolved_by: str | None
    resolved_because: str | None
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunView(Wire):
    """A run as it was logged. Times are the worker's."""

    id: str
    erp_system: str
    sync_type: str
    status: str
    dry_run: bool
    applied_as: str | None
    changes_count: int
    conflicts_count: int
    errors_count: int
    error_message: str | None
    started_at: datetime
    completed_at: datetime
    duration_ms: int


class Review:
    """`app` acts as cerniq_app."""

    def __init__(self, dsn: str, app: asyncpg.Pool) -> None:
        self._dsn = dsn
        self._app = app

    async def runs(
        self, tenant_id: UUID, *, system: str | None = None, limit: int = 50
    ) -> tuple[RunView, ...]:
        """List runs, the newest first."""
        rows = await self._rows("runs", tenant_id, system, validate.rows(limit))
        return tuple(_made(RunView, row) for row in rows)

    async def result(self, tenant_id: UUID, sync_id: str) -> SyncResult:
        """What a run has told when it ended. Raises NotFoundError, OutdatedError."""
        rows = await self._rows("told", tenant_id, validate.made_id("sync", sync_id))
        if not rows:
            raise NotFoundError(f"No sync {sync_id}")
        if rows[0]["result_json"] is None:
            how = "is under way" if rows[0]["status"] == "RUNNING" else "was cut off"
            raise OutdatedError("sync", f"Sync {sync_id} {how}: it has told nothing")
        try:
            return _RESULT.validate_json(rows[0]["result_json"])
        except ValidationError:
            told = f"What sync {sync_id} told is not understood by this release"
        raise OutdatedError("sync", told)

    async def conflicts(
        self,
        tenant_id: UUID,
        *,
        system: str | None = None,
        ended: bool = False,
        after_id: str | None = None,
        limit: int = 50,
    ) -> tuple[Conflict, ...]:
        """List conflicts, the oldest first: those that are open, or all."""
        asked = system, ended, after_id, validate.rows(limit)
        rows = await self._rows("conflicts", tenant_id, *asked)
        return tuple(_made(Conflict, row) for row in rows)

    async def resolve(
        self,
        tenant_id: UUID,
        conflict_id: str,
        how: Resolution,
        *,
        value: Decimal | int | str | None = None,
        by: str | None = None,
        because: str | None = None,
    ) -> Conflict:
        """Decide an open conflict; the level is changed and the decision kept with who and why.

        `by`, who decides, has to be named.

        SOFT reservations give way to it, HARD ones do not: then it stays open. So it does where the
        level has moved since it was seen. Raises NotFoundError, InvalidInputError, BusyError.
        """
        conflict_id = validate.made_id("conflict", conflict_id)
        how = validate.choice("how", Resolution, how)
        total = None
        if how is Resolution.SET_VALUE:
            if value is None:
                raise InvalidInputError("value", "set-value needs a value")
            total = validate.number("value", value)
            if total < 0:
                raise InvalidInputError("value", f"value cannot be below zero: {value}")
        elif value is not None:
            raise InvalidInputError("value", "Only SET_VALUE takes a value")
        who = validate.text("by", by, most=validate.MAX_NAME)
        if who.isspace():
            raise InvalidInputError("by", "by must be a non-empty text")
        why = validate.optional_text("because", because, most=500)
        row = await self._open(tenant_id, conflict_id)
        async with turn(self._dsn, tenant_id, row["integration_id"]):
            row = await self._open(tenant_id, conflict_id)
            version = None
            if how is not Resolution.KEEP_LOCAL:
                version = await self._as_seen(tenant_id, row)
            answer = await self._change(tenant_id, row, how, total, who, version)
            kept = conflict_id, how.value, answer.total, who, why
            await self._rows("resolve_conflict", tenant_id, *kept)
        (row,) = await self._rows("open_conflict", tenant_id, conflict_id)
        decided: Conflict = _made(Conflict, row)
        return decided

    async def _open(self, tenant_id: UUID, conflict_id: str) -> asyncpg.Record:
        rows = await self._rows("open_conflict", tenant_id, conflict_id)
        if not rows:
            raise NotFoundError(f"No conflict {conflict_id}")
        if rows[0]["resolution"] is not None:
            raise OutdatedError("conflict", f"Conflict {conflict_id} is resolved already")
        return rows[0]

    async def _as_seen(self, tenant_id: UUID, row: asyncpg.Record) -> int:
        """The version of the level, whose total is what the person has seen."""
        levels = await self._rows("level_of_conflict", tenant_id, row["id"])
        total, version = levels[0] if levels else (ZERO, 0)
        if total != row["local_value"]:
            raise await self._moved(tenant_id, row["id"], total)
        return int(version)

    async def _moved(self, tenant_id: UUID, conflict_id: str, now: Decimal) -> OutdatedError:
        await self._rows("see_conflict", tenant_id, conflict_id, now)
        there_are = f"It has moved: there are {plain(now)} here; look again"
        return OutdatedError("conflict", there_are)

    async def _change(
        self,
        tenant_id: UUID,
        row: asyncpg.Record,
        how: Resolution,
        total: Decimal | None,
        by: str,
        version: int | None,
    ) -> SyncedLevel:
        place = row["integration_id"], row["product_id"], row["warehouse"]
        found = await self._rows("remembered", tenant_id, *place)
        known = Remembered(*found[0]) if found else None
        command = SyncLevel(
            None,
            b"",
            by,
            f"conflict {row['id']}: {how.value}",
            row["sku"],
            row["warehouse"],
            Figure(row["erp_value"], row["erp_available"]),
            known,
            Strategy.ERP_WINS,
            row["integration_id"],
            row["sync_id"],
            force=how is Resolution.ACCEPT_ERP,
            chosen=None if how is Resolution.ACCEPT_ERP else Chosen(total),
            version=version,
        )
        link = Link(self._dsn, RECONNECT_S)
        try:
            (answer,) = await link.run(Transaction(tenant_id, [command]))
        finally:
            await link.close()
        if isinstance(answer, Refused):
            raise InvalidInputError("conflict", answer.message)
        assert isinstance(answer, SyncedLevel), answer
        if answer.verdict is Verdict.MOVED:
            raise await self._moved(tenant_id, row["id"], answer.previous_total)
        if answer.verdict is Verdict.SHORT:
            raise InvalidInputError(
                "conflict", f"{row['sku']}: that is less than is firmly reserved and blocked"
            )
        return answer

    async def _rows(self, name: str, tenant_id: UUID, *arguments: Any) -> list[asyncpg.Record]:
        async with as_tenant(self._app, validate.uuid("tenantId", tenant_id)) as connection:
            return await connection.fetch(SQL[name], tenant_id, *arguments)


def _made(kind: Any, row: asyncpg.Record) -> Any:
    return kind(**{name: row[name] for name in kind.__dataclass_fields__})
