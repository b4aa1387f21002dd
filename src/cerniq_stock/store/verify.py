"""The proof: everything that must always hold, looked for where it does not.

Every level is rebuilt from its movements, every `reserved` from the lines that live, every header
from its lines. Read-only, in one snapshot, beside running traffic; SQL does the work, in one pass
over each table, so its memory and its time do not depend on how the figures came about.
"""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg

from cerniq_stock.store.database import connect
from cerniq_stock.store.queries import VERIFY
from cerniq_stock.views import Difference, Report

CHECKS = ("levels", "lines", "reservations", "totals", "negotiations", "orders", "products")
"""The queries of `verify.sql`, each of which looks for several rules at once."""

DIFFERENCES_MAX = 1_000
"""Of one rule. More would not tell more."""

RULES = {
    "level.figures": "total - reserved - blocked = available, and none of them is below 0",
    "level.total": "a level's total is the sum of its movements",
    "level.reserved": "a level's reserved is the sum of its movements",
    "level.blocked": "a level's blocked is the sum of its movements",
    "level.version": "a level's version is the number of its movements",
    "level.held": "a level's reserved is what the lines of ACTIVE reservations hold of it",
    "product.level": "every product has a level",
    "movement.level": "every movement has a level",
    "movement.sequence": "a level's movements are numbered 1, 2, 3, … without gap or repeat",
    "movement.chain": "a movement starts from what the one before left, the first from 0",
    "movement.figures": "a movement's new available is the previous plus its deltas, not below 0",
    "line.reservation": "every line has a reservation",
    "line.level": "what holds goods has a level",
    "line.figures": "reserved = held + consumed + released of a line, and none is below 0",
    "line.expiry": "a line expires with its reservation",
    "line.held": "a reservation that ended holds nothing",
    "line.movements": "what a reservation holds of a level is the sum of the movements it caused",
    "reservation.pending": "no reservation is stored undecided",
    "reservation.failed": "a reservation failed exactly if nothing could be reserved",
    "reservation.requested": "no more is reserved than was requested",
    "reservation.total": "a reservation's total reserved is the sum of its lines",
    "reservation.holds": "an ACTIVE reservation holds something",
    "reservation.early": "a reservation does not expire before its time",
    "reservation.end": "what has ended, and only that, has a time and a fitting reason of its end",
    "reservation.negotiation": "a reservation's negotiation is one of its tenant's",
    "negotiation.ended": "a negotiation that ended holds nothing",
    "order.reserved": "what an order's line has reserved is what its reservation holds for it",
    "order.moved": "what of an order was deducted and returned is the sum of its movements",
    "order.figures": "no more of an order's line is reserved, sold and released than was ordered",
    "order.released": "what an order's reservation gave back, and what it never held, was released",
    "order.reservation": "an order has one reservation, without end; which it names exists",
    "order.negotiation": "an order's negotiation is one of its tenant's",
    "order.lines": "an order has lines",
    "order.status": "an order's status follows from its lines",
}
"""What must always hold, by the name under which a difference is reported."""

_SETTINGS = {
    # one tenant or all: the plans differ, and each runs once
    "plan_cache_mode": "force_custom_plan",
    "statement_timeout": "1h",
    # The aggregates over all movements stay in memory up to some 400,000 levels. The planner
    # overrates their number and would sort ten million rows instead: three times as slow.
    "work_mem": "256MB",
    "enable_sort": "off",
    # whole tables are read; at the price of a cached page the planner would walk an index instead
    "random_page_cost": "4",
}

Progress = Callable[[str, int, int], None]
"""Called with the name of a check, and 0 of 1 before it, 1 of 1 after it."""


async def verify(
    dsn: str, *, tenant_id: UUID | None = None, progress: Progress | None = None
) -> Report:
    """Check all RULES, of one tenant or of all, in one snapshot of the database.

    Of each rule at most DIFFERENCES_MAX differences are listed; one more, whose subject is "…",
    says that there were more. Raises what the database says when it cannot be read.
    """
    started = time.perf_counter()
    connection = await connect(dsn, "cerniq_operator", _SETTINGS)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            differences = await _differences(connection, tenant_id, progress or _say_nothing)
            counts = await connection.fetchrow(VERIFY["counts"], tenant_id)
    finally:
        connection.terminate()
    assert counts is not None
    return Report(
        ok=not differences,
        differences=tuple(differences),
        **counts,
        duration_s=time.perf_counter() - started,
    )


async def _differences(
    connection: asyncpg.Connection, tenant_id: UUID | None, progress: Progress
) -> list[Difference]:
    differences: list[Difference] = []
    for check in CHECKS:
        progress(check, 0, 1)
        rows = await connection.fetch(_capped(VERIFY[check]), tenant_id, DIFFERENCES_MAX + 1)
        differences += [_difference(row) for row in rows]
        progress(check, 1, 1)
    return differences


def _capped(query: str) -> str:
    """Let at most `$2` rows of each rule pass."""
    return (
        "SELECT * FROM ("  # noqa: S608 - of our own statements
        " SELECT d.*, row_number() OVER (PARTITION BY d.rule ORDER BY d.tenant_id, d.subject) AS n"
        f" FROM ({query.rstrip(';')}) AS d) AS numbered WHERE n <= $2 ORDER BY rule, n"
    )


def _difference(row: Any) -> Difference:
    if row["n"] > DIFFERENCES_MAX:
        more = f"more than {DIFFERENCES_MAX} differences, the rest is not listed"
        return Difference(row["rule"], row["tenant_id"], "…", "", more)
    return Difference(row["rule"], row["tenant_id"], row["subject"], row["expected"], row["found"])


def _say_nothing(check: str, done: int, total: int) -> None:
    pass
