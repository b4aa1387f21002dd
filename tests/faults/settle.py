"""After the last kill: every unknown outcome is made a known one, and every answer is asked again.

A key that is asked a second time must change nothing and bring the first answer, whoever asks.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg

from cerniq_stock.errors import CerniqError
from cerniq_stock.service import Stock
from cerniq_stock.wiring import open_stock
from tests.faults.intents import Intent, Story, send
from tests.faults.oracle import Finding, examine

KINDS = ["lost", "doubled", "differs"]
ASKING = 200
GIVE_UP_AFTER = 100

_FIGURES = """
SELECT
    (SELECT count(*) FROM stock_movements) AS movements,
    (SELECT count(*) FROM stock_reservations) AS reservations,
    (SELECT count(*) FROM stock_commands) AS commands,
    (SELECT sum(total) FROM stock_levels) AS total,
    (SELECT sum(reserved) FROM stock_levels) AS reserved
"""

_STORED = """
SELECT key, created_at FROM stock_commands
UNION ALL
SELECT reservation_key, created_at FROM stock_reservations
"""

_COMMITTED = f"""
SELECT count(*)
FROM unnest($1::text[], $2::timestamptz[]) AS q (key, doubted_at)
JOIN ({_STORED}) AS stored USING (key)
WHERE stored.created_at < q.doubted_at
"""

_MISSING = f"""
SELECT q.key
FROM unnest($1::text[]) AS q (key) LEFT JOIN ({_STORED}) AS stored USING (key)
WHERE stored.key IS NULL
"""


class Verdict(NamedTuple):
    """What is left to be said when all is known."""

    intents: int
    acknowledged: int
    unknown: int
    unknown_committed: int
    repeated: int
    movements: int
    reservations: int
    verify: str
    findings: list[Finding]

    def count(self, kind: str) -> int:
        return sum(finding.kind == kind for finding in self.findings)


async def settle(dsn: str, story: Story) -> Verdict:
    """Ask everything again, then look at everything."""
    acknowledged, unknown, effective = len(story.answers), story.unknown, story.effective
    for intent in unknown:
        story.doubt(intent.key, time.time())
    committed = await _committed(dsn, story.doubted_at)
    # now or never: a lost command is done anew when it is asked again, and then it is there
    findings = await _missing(dsn, effective)
    async with open_stock(dsn, sweep=False) as stock:
        await repeat(stock, story, unknown)
        before = await _figures(dsn)
        await repeat(stock, story, effective)
        after = await _figures(dsn)
        report = await stock.verify()
    if before != after:
        text = f"asking again what was acknowledged made {before} into {after}"
        findings.append(Finding("doubled", "the database", text))
    findings += await examine(dsn, story)
    findings += [
        Finding("differs", f"verify: {difference.rule} {difference.subject}", str(difference))
        for difference in report.differences
    ]
    findings.sort(key=lambda finding: KINDS.index(finding.kind))
    return Verdict(
        intents=len(story.intents),
        acknowledged=acknowledged,
        unknown=len(story.doubted_at),
        unknown_committed=committed,
        repeated=len(effective),
        movements=after["movements"],
        reservations=after["reservations"],
        verify="clean" if report.ok else f"{len(report.differences)} differences",
        findings=findings,
    )


async def repeat(stock: Stock, story: Story, intents: Sequence[Intent]) -> None:
    """Ask again, many at a time; the story hears every answer."""
    left = iter(intents)

    async def ask() -> None:
        for intent in left:
            story.hear(intent.key, await _definite(stock, intent))

    async with asyncio.TaskGroup() as group:
        for _ in range(ASKING):
            group.create_task(ask())


async def _definite(stock: Stock, intent: Intent) -> dict[str, object]:
    for _ in range(GIVE_UP_AFTER):
        try:
            return await send(stock, intent)
        except CerniqError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError(f"no answer to {intent}")


async def _missing(dsn: str, effective: Sequence[Intent]) -> list[Finding]:
    """What was acknowledged and has left no key behind."""
    rows = await fetch(dsn, _MISSING, [intent.key for intent in effective])
    return [Finding("lost", row["key"], "acknowledged, but not in the database") for row in rows]


async def _committed(dsn: str, doubted_at: Mapping[str, float]) -> int:
    """How many had taken effect when nobody knew: what they wrote is older than the doubt."""
    (row,) = await fetch(
        dsn,
        _COMMITTED,
        list(doubted_at),
        [datetime.fromtimestamp(at, UTC) for at in doubted_at.values()],
    )
    count: int = row["count"]
    return count


async def _figures(dsn: str) -> dict[str, int]:
    return dict((await fetch(dsn, _FIGURES))[0])


async def fetch(dsn: str, query: str, *args: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    try:
        return await connection.fetch(query, *args)
    finally:
        await connection.close()
