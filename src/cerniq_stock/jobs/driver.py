"""PgQueuer on a pool, over outages of the database."""

from contextlib import suppress

import asyncpg
from pgqueuer.db import AsyncpgPoolDriver


class PoolDriver(AsyncpgPoolDriver):
    """Gives the connection on which it listens back to the pool, whatever became of it.

    PgQueuer resets the connection first, and where that fails keeps it: with each outage the pool
    would have one less, until a worker has none left, and would wait for them when it is closed.
    """

    async def __aexit__(self, *error: object) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            listening = self._listener_connection
            if listening is not None and not self._entered:
                self._listener_connection = None
                with suppress(asyncpg.InterfaceError):  # asyncpg may have taken it back itself
                    listening.terminate()
