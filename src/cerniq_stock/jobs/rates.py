"""How many jobs may begin per second, for each kind and for each tenant. Off by default.

The figures are shared by all workers: a row for each bucket that is in use.
"""

from collections.abc import Mapping
from uuid import UUID

import asyncpg

_TAKE = """
INSERT INTO cerniq_queue.rates AS r (bucket, tokens, at)
VALUES ($1, $2 - 1, clock_timestamp())
ON CONFLICT (bucket) DO UPDATE
SET tokens = least(
        $2, r.tokens + extract(epoch FROM clock_timestamp() - r.at)::float8 * $2
    ) - 1,
    at = clock_timestamp()
RETURNING tokens
"""


class Rates:
    """Token buckets, a second's worth deep. `pool` acts as cerniq_operator."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        per_second: Mapping[str, float],
        per_second_of_tenant: Mapping[str, float],
    ) -> None:
        self._pool = pool
        self._per_second = per_second
        self._of_tenant = per_second_of_tenant

    async def wait_s(self, name: str, tenant_id: UUID) -> float:
        """Take a token of each bucket the job falls into; how long to wait if there is none.

        A job that has to wait has its place: the debt it leaves is what the next one waits for.
        """
        waits = [0.0]
        if name in self._per_second:
            waits.append(await self._take(name, self._per_second[name]))
        if name in self._of_tenant:
            waits.append(await self._take(f"{name} {tenant_id}", self._of_tenant[name]))
        return max(waits)

    async def _take(self, bucket: str, rate: float) -> float:
        async with self._pool.acquire() as connection:
            tokens: float = await connection.fetchval(_TAKE, bucket, rate)
        return max(0.0, -tokens / rate)
