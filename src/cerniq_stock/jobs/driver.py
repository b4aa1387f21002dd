"""PgQueuer on a pool, over outages of the database."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
from pgqueuer.db import AsyncpgPoolDriver


class PoolDriver(AsyncpgPoolDriver):
    """Gives the connection on which it listens back to the pool, whatever became of it.

    PgQueuer resets the connection first, and where that fails keeps it: with each outage the pool
    would have one less, until a worker has none left, and would wait for them when it is closed.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self.listening = asyncio.Event()
        """Is set once somebody hears what is notified."""

    async def add_listener(self, channel: str, callback: Any) -> None:
        """Listen on a channel."""
        await super().add_listener(channel, callback)
        self.listening.set()

    async def __aexit__(self, *error: object) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            listening = self._listener_connection
            if listening is not None and not self._entered:
                self._listener_connection = None
                with suppress(asyncpg.InterfaceError):  # asyncpg may have taken it back itself
                    listening.terminate()
