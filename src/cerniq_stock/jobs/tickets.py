"""What stands in PgQueuer's table for an unfinished job, and where that table is."""

import json
from typing import Any, NamedTuple
from uuid import UUID

from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder
from pgqueuer.db import AsyncpgDriver
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.queries import Queries

SETTINGS = DBSettings(db_schema="cerniq_queue", durability=Durability.balanced)
PRIORITY_STEP = 1 << 20
"""Turns of one priority; see the migration's `next_turn`."""

_TENANT = 36


class Ticket(NamedTuple):
    """All that is needed to run a job without looking it up."""

    tenant_id: UUID
    job_id: str
    effect_key: str
    trace_id: str | None
    payload: dict[str, Any]


def pack(ticket: Ticket) -> bytes:
    """Write a ticket. Its first 36 bytes are the tenant: row-level security reads them."""
    rest = json.dumps(ticket[1:], separators=(",", ":"))
    return f"{ticket.tenant_id}{rest}".encode()


def unpack(data: bytes) -> Ticket:
    """Read a ticket."""
    return Ticket(UUID(data[:_TENANT].decode()), *json.loads(data[_TENANT:]))


def priority(of: int, turn: int) -> int:
    """PgQueuer's priority, of which the highest is served first."""
    return -(of * PRIORITY_STEP + min(turn, PRIORITY_STEP - 1))


def builders() -> dict[str, Any]:
    """What tells PgQueuer's queries where its tables are."""
    return {"qbe": QueryBuilderEnvironment(SETTINGS), "qbq": QueryQueueBuilder(SETTINGS)}


def queries(connection: Any) -> Queries:
    """PgQueuer on one connection, within its transaction."""
    return Queries(AsyncpgDriver(connection), **builders())
