"""BullMQ on Redis: what both sides share. G1 to G4 are guards against traps of its Python port.

An optional extra: nothing but this transport imports it.
"""

import asyncio
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from redis.exceptions import RedisError

from cerniq_stock.errors import InvalidInputError, UnavailableError
from cerniq_stock.jobs.port import PLATFORM

NO_DATABASE = "0"
ANSWER_S = 5.0


def wire_name(name: str) -> str:
    """A kind's name as a queue's: current BullMQ refuses colons (READING 39; G4)."""
    return name.replace(":", "-")


def connection(url: str) -> dict[str, Any]:
    """The options of a connection. Raises InvalidInputError.

    As a dictionary, because only that can say that reading waits as long as it takes (G1):
    otherwise an idle worker goes deaf for seconds.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise InvalidInputError("redisUrl", "The address must be like redis://host:6379/0")
    number = parts.path.lstrip("/") or NO_DATABASE
    if not number.isdecimal():
        raise InvalidInputError("redisUrl", f"Redis has databases by number, not {number!r}")
    options: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port or 6379,
        "db": int(number),
        "socket_timeout": None,
    }
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)
    if parts.scheme == "rediss":
        options["ssl"] = True
    return options


def tenant_of(payload: Any) -> UUID:
    """Whose job it is: BullMQ knows no tenants, the payload does; else it is the platform's."""
    try:
        return UUID(payload["tenantId"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return PLATFORM


async def answers(client: Any) -> None:
    """Return when Redis does, or raise UnavailableError: BullMQ itself would wait for ever."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await client.ping()
    except (OSError, TimeoutError, RedisError) as error:
        raise UnavailableError("Redis does not answer") from error


def effect_key(queue: str, job_id: str, timestamp: int) -> str:
    """The key of an effect. In an emptied Redis ids are counted anew; the time tells them apart."""
    asked = f"{queue}/{job_id}/{timestamp}".encode()
    return f"bull_{blake2b(asked, digest_size=16).hexdigest()}"
