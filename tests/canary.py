"""How every credential of the tests begins, and how it is looked for.

Letters and a hyphen stay in a URL, in JSON and in a form as they are. In Base64 and as hexadecimal
digits they are looked for by what stays the same wherever in a text they stand.
"""

import base64
import traceback
from collections.abc import Iterable

import asyncpg

WORDS = ("canary-", "kanarienvogel-")
"""Another credential of a test or of a fake ERP begins with the first."""

_TABLES = """
SELECT format('%I.%I', nspname, relname) FROM pg_class
JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname LIKE 'cerniq%'
"""


def _forms(word: str) -> Iterable[str]:
    yield word
    yield word.encode().hex()
    for before in range(3):
        packed = base64.b64encode(b"\0" * before + word.encode() + b"\0\0").decode()
        # a letter has six bits; those that it shares with what stands beside the word may vary
        yield packed[-(-8 * before // 6) : 8 * (before + len(word)) // 6]


FORMS = tuple({form for word in WORDS for form in _forms(word)})


def seen(text: str, more: Iterable[str] = ()) -> list[str]:
    """Return what stands in a text and should not, each with what is around it."""
    lower = text.lower()
    found = []
    for form in (*FORMS, *more):
        # Base64 knows small and large letters; the words may be written as anybody likes
        where = lower.find(form) if form in WORDS else text.find(form)
        if where >= 0:
            found.append(f"{form}: …{text[max(0, where - 60) : where + 60]}…")
    return found


async def left_open(dsn: str) -> list[str]:
    """Return which credentials lie open in a database, where it has any ERP at all."""
    connection = await asyncpg.connect(dsn)
    try:
        if not await connection.fetchval("SELECT to_regclass('cerniq.erp_integrations')"):
            return []
        if not await connection.fetchval("SELECT EXISTS (TABLE cerniq.erp_integrations)"):
            return []
    finally:
        await connection.close()
    return seen(await dumped(dsn))


async def dumped(dsn: str) -> str:
    """All rows of all tables of ours as text."""
    connection = await asyncpg.connect(dsn)
    try:
        names = [row[0] for row in await connection.fetch(_TABLES)]
        rows = [
            f"{name} {row[0]}"
            for name in names
            for row in await connection.fetch(f"SELECT t::text FROM {name} AS t")
        ]
        return "\n".join(rows)
    finally:
        await connection.close()


def chain(error: BaseException | None) -> str:
    """All that an exception says, with those that led to it, as a log would have it.

    The lines of source that a traceback repeats are left out: these tests name their secrets.
    """
    parts = []
    while error is not None:
        lines = "".join(traceback.format_exception(error)).splitlines()
        parts += [line for line in lines if not line.startswith("    ")]
        parts += [repr(error), str(error), repr(error.args)]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)
