"""Removes an integration: what it had blocked is free again, what it remembered is forgotten.

All of it is done by the connection that has the integration's turn, so that no sync can come in
between. A level is freed, and that remembered, in one transaction: who dies in the middle is run
again and goes on with the levels that are left. The integration itself goes last.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import asyncpg
import asyncpg.pool
from ulid import ULID

from cerniq_stock.domain.commands import SyncLevel
from cerniq_stock.domain.outcomes import SyncedLevel
from cerniq_stock.domain.sync import Figure, Remembered, Strategy
from cerniq_stock.errors import UnavailableError
from cerniq_stock.store.database import KEY_LOOKUPS
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.syncing import SETTINGS, take_turn
from cerniq_stock.store.transaction import Transaction
from cerniq_stock.store.trouble import BLOCKED, LOST, TRANSIENT
from cerniq_stock.views import RemovedIntegration

CHUNK = 500
"""Levels that are freed together."""

Proxy = asyncpg.pool.PoolConnectionProxy

_SET = "SELECT set_config(k, v, false) FROM unnest($1::text[], $2::text[]) AS x (k, v)"


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to be removed."""

    tenant_id: UUID
    id: UUID
    erp_system: str

    async def run(self, app: asyncpg.Pool) -> RemovedIntegration:
        """Do it. Raises BusyError, NotFoundError, UnavailableError; then it can be run again."""
        async with self._turn(app) as connection:
            freed = await self._free(connection)
            async with connection.transaction():
                of = self.tenant_id, self.id
                ended = await connection.fetchval(SQL["end_all_conflicts"], *of, self._notes)
                await connection.execute(SQL["forget_levels"], *of)
                await connection.execute(SQL["delete_integration"], *of)
        return RemovedIntegration(self.erp_system, freed, ended)

    @asynccontextmanager
    async def _turn(self, app: asyncpg.Pool) -> AsyncIterator[Proxy]:
        """A connection of the pool that has the turn; the pool ends that when it is given back."""
        settings = {**SETTINGS, **KEY_LOOKUPS, "app.tenant": str(self.tenant_id)}
        try:
            async with app.acquire() as connection:
                await connection.execute(_SET, list(settings), list(settings.values()))
                await take_turn(connection, self.tenant_id, self.id)
                yield connection
        except LOST as error:
            raise UnavailableError("The database does not answer; remove it again") from error
        except (*BLOCKED, *TRANSIENT) as error:
            raise UnavailableError("Others hold its stock locked; remove it again") from error

    async def _free(self, connection: Proxy) -> int:
        """Free what the ERP has committed, chunk by chunk; count the levels where there was any."""
        freed, sync_id = 0, str(ULID())
        after: tuple[UUID, str] = UUID(int=0), ""
        while rows := await connection.fetch(
            SQL["committed_levels"], self.tenant_id, self.id, *after, CHUNK
        ):
            freed += await self._free_chunk(connection, rows, sync_id)
            after = rows[-1]["product_id"], rows[-1]["warehouse"]
        return freed

    async def _free_chunk(
        self, connection: Proxy, rows: Sequence[asyncpg.Record], sync_id: str
    ) -> int:
        commands = [self._freeing(row, sync_id) for row in rows]
        freed = 0
        transaction = Transaction(self.tenant_id, commands)
        # a pool's connection does all that a connection does
        answers = await transaction.run(cast("asyncpg.Connection", connection))
        for answer in answers:
            assert isinstance(answer, SyncedLevel), answer
            assert answer.total == answer.previous_total, answer
            freed += answer.available > answer.previous_available
        return freed

    def _freeing(self, row: asyncpg.Record, sync_id: str) -> SyncLevel:
        """The ERP says the same total as the last time, and that nothing of it is committed.

        So the total stays, whatever was sold here since, and the ERP's own part of what is blocked
        is free. Should the integration be kept after all, it knows all that it has known.
        """
        names = "erp_total", "local_total", "agreed_total", "pending", "blocked"
        known = Remembered(*(row[name] for name in names))
        return SyncLevel(
            None,
            b"",
            f"erp:{self.erp_system}",
            self._notes,
            row["sku"],
            row["warehouse"],
            Figure(known.erp, known.erp),
            known,
            Strategy.LOCAL_WINS,
            self.id,
            sync_id,
        )

    @property
    def _notes(self) -> str:
        return f"{self.erp_system} was removed"
