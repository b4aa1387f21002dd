"""ULIDs that sort in the order in which this process made them, by the block or one by one.

Only the head of an id is made by the library, once for many: ids of one block share their time
and 62 random bits, and differ in the last 18 bits, which count. Ten times faster than one by one,
and every reservation needs two.
"""

import os
import secrets
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product

from ulid import ULID

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TAILS = ["".join(tail) for tail in product(_ALPHABET[:8], *[_ALPHABET] * 3)]
_ROOM = 1 << 16
"""At least so many tails are left behind where a block starts."""


def _start() -> int:
    return secrets.randbelow(len(_TAILS) - _ROOM)


def id_block(now: datetime, count: int) -> list[str]:
    """Make `count` ULIDs of one moment that sort in their order.

    Where one head is not enough for all, the next one is of a millisecond later.
    """
    ids: list[str] = []
    while len(ids) < count:
        head = str(ULID.from_datetime(now))[:22]
        start = _start()
        ids += [head + tail for tail in _TAILS[start : start + count - len(ids)]]
        now += timedelta(milliseconds=1)
    return ids


def _block(now_ms: int) -> tuple[int, str, Iterator[str]]:
    head = str(ULID.from_timestamp(now_ms))[:22]
    return now_ms, head, map(_TAILS.__getitem__, range(_start(), len(_TAILS)))


_current = _block(0)


def _forget() -> None:
    """Let a forked child not go on with its parent's block."""
    global _current  # noqa: PLW0603 - the one place where this process's ids come from
    _current = _block(0)


os.register_at_fork(after_in_child=_forget)


def new_id() -> str:
    """Make one ULID (26 characters) from this process's clock."""
    global _current  # noqa: PLW0603 - the one place where this process's ids come from
    now_ms = time.time_ns() // 1_000_000
    made_ms, head, tails = _current
    if now_ms != made_ms:
        _current = _, head, tails = _block(now_ms)
    return head + next(tails)
