"""ULIDs that sort in the order in which this process made them, by the block or one by one.

A batch needs hundreds at once, so only the head is made by the library: ids of one block share
their time and 62 random bits, and differ in the last 18 bits, which count.
"""

import secrets
from datetime import datetime
from itertools import product

from ulid import ULID

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TAILS = ["".join(tail) for tail in product(_ALPHABET[:8], *[_ALPHABET] * 3)]


def id_block(now: datetime, count: int) -> list[str]:
    """Make `count` ULIDs of one moment that sort in their order."""
    assert count <= len(_TAILS)
    head = str(ULID.from_datetime(now))[:22]
    start = secrets.randbelow(len(_TAILS) - count + 1)
    return [head + tail for tail in _TAILS[start : start + count]]


def new_id() -> str:
    """Make one ULID (26 characters) from this process's clock."""
    return str(ULID())
