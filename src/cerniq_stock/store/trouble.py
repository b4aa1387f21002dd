"""What the database and its connections say when something is wrong, by what follows from it."""

import asyncpg

TRANSIENT = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.UniqueViolationError,
)
"""Try the same batch again: another process was faster. A repeated key then reads as a replay."""

LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # what asyncpg says of a connection whose server has said goodbye but not yet hung up
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
)
"""The connection is gone, and whether the batch was committed is not known."""

BLOCKED = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
"""Somebody else holds a lock for too long: the commands that need it fail, the others go on."""

ATTEMPTS = 5
"""How often a batch that lost a race is tried."""
