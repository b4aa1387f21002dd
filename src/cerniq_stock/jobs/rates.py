"""How many jobs may begin per second, for each kind and for each tenant. Off by default.

The figures are shared by all workers: a row for each bucket that is in use. A token is taken by
what begins and by nothing else, so a backlog leaves no debt for those who come after it.
"""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import asyncpg

HORIZON_S = 60.0
"""A job that found no token asks again within this, however many wait before it."""

LEAST_WAIT_S = 0.01

_TAKE = """
UPDATE cerniq_queue.rates AS r
SET tokens = x.tokens - x.taken,
    at = x.now,
    back_at = CASE
        WHEN x.taken > 0 THEN r.back_at
        WHEN r.back_at <= x.now THEN x.now + (1 - x.tokens) / x.rate * interval '1 second'
        ELSE least(r.back_at + interval '1 second' / x.rate, x.now + $4)
    END
FROM (
    SELECT b.bucket, p.rate, f.now, g.tokens, greatest(least($3, floor(g.tokens)), 0) AS taken
    FROM cerniq_queue.rates AS b
    CROSS JOIN (SELECT $2::float8 AS rate) AS p
    -- who waited for the row finds a time in it that is later than his own
    CROSS JOIN LATERAL (SELECT greatest(clock_timestamp(), b.at) AS now) AS f
    CROSS JOIN LATERAL (
        SELECT least(
            p.rate + 1, b.tokens + extract(epoch FROM f.now - b.at)::float8 * p.rate
        ) AS tokens
    ) AS g
    WHERE b.bucket = $1
    FOR UPDATE OF b
) AS x
WHERE r.bucket = x.bucket
RETURNING x.taken::int4 AS taken, extract(epoch FROM r.back_at - x.now)::float8 AS back_in_s
"""
"""A second's worth is the most that gathers, and one more: who comes a little late loses nothing.
Those that get no token are told times to come back, spread as the tokens are."""
_OPEN = """
INSERT INTO cerniq_queue.rates (bucket, tokens, at)
VALUES ($1, greatest($2::float8, 1), clock_timestamp())
ON CONFLICT (bucket) DO NOTHING
"""
_GIVE_BACK = "UPDATE cerniq_queue.rates SET tokens = tokens + $2 WHERE bucket = $1"


class Rates:
    """Token buckets. `pool` acts as cerniq_operator."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        per_second: Mapping[str, float],
        per_second_of_tenant: Mapping[str, float],
    ) -> None:
        self._pool = pool
        self._per_second = per_second
        self._of_tenant = per_second_of_tenant

    def of(self, name: str) -> float | None:
        """How many of a kind may begin per second; None: any."""
        return self._per_second.get(name)

    async def take(self, name: str, most: int) -> int:
        """Take what there is of a kind's tokens, so many at most."""
        return (await self._take(name, self._per_second[name], most))[0]

    async def give_back(self, name: str, tokens: int) -> None:
        """Return what was taken for nothing."""
        if tokens:
            await self._pool.execute(_GIVE_BACK, name, tokens)

    async def wait_s(self, name: str, tenant_id: UUID) -> float:
        """Take a token of the tenant's; how long to wait before asking again if there is none."""
        rate = self._of_tenant.get(name)
        if rate is None:
            return 0.0
        taken, back_in_s = await self._take(f"{name} {tenant_id}", rate, 1)
        return 0.0 if taken else max(back_in_s, LEAST_WAIT_S)

    async def turn(self, of: str, every_s: float) -> bool:
        """Whether it is this worker's turn to do what one of them does every so often."""
        return (await self._take(of, 1 / every_s, 1))[0] == 1

    async def _take(self, bucket: str, rate: float, most: int) -> tuple[int, float]:
        async with self._pool.acquire() as connection:
            asked = bucket, rate, most, timedelta(seconds=HORIZON_S)
            row = await connection.fetchrow(_TAKE, *asked)
            if row is None:
                await connection.execute(_OPEN, bucket, rate)
                row = await connection.fetchrow(_TAKE, *asked)
        assert row is not None, bucket
        return row["taken"], row["back_in_s"]
