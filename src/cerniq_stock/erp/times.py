"""Moments as systems write them, in UTC.

A time without a zone is local to the source. In the hour that autumn has twice the earlier of the
two moments is taken, so that reading again from there misses nothing; a time that spring skips is
read as if the clock had not been put forward yet.
"""

import re
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

_DOTTED = re.compile(
    r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(?:[ T]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?)?"
)
_CLOCK = re.compile(r"(?:PT)?([0-9]{1,2})[:H]([0-9]{1,2})(?:[:M](?:([0-9]{1,2})S?)?)?")
_FIRST_YEAR = 1900
"""Business Central writes the year 1 for "never"."""


def moment(value: object, zone: ZoneInfo) -> datetime | None:
    """Read a moment or a day (`2026-11-19 12:04:05`, `…T10:04:05.9Z`, `19.11.2026 12:04`).

    Returns None for what is none. `19/11/2026` is none: it means other days in other countries.
    """
    if isinstance(value, datetime):
        return to_utc(value, zone)
    if isinstance(value, date):
        return to_utc(datetime.combine(value, time()), zone)
    if not isinstance(value, str):
        return None
    return _read(value.strip(), zone)


def _read(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        if parts := _DOTTED.fullmatch(text):
            day, month, year, hour, minute, second = (int(part or 0) for part in parts.groups())
            return to_utc(datetime(year, month, day, hour, minute, second), zone)  # noqa: DTZ001 - the zone follows
        return to_utc(datetime.fromisoformat(text), zone) if text.isascii() else None
    except ValueError:
        return None


def is_day(value: object) -> bool:
    """Tell whether a moment was written without its time."""
    return isinstance(value, str) and 0 < len(value.strip()) <= len("2026-11-19")


def day(value: object) -> date | None:
    """Read a day, with or without a time that is of no interest; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        return date.fromisoformat(value.strip()[:10])
    except ValueError:
        return None


def local_day(value: object, zone: ZoneInfo) -> date | None:
    """Read the day, there, of anything that `moment` reads."""
    found = moment(value, zone)
    return None if found is None else found.astimezone(zone).date()


def clock(value: object) -> time | None:
    """Read a time of day: `12:03:55`, `12:03`, or `PT12H3M55S` as OData 3 has it; else None."""
    parts = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if parts is None:
        return None
    try:
        return time(int(parts[1]), int(parts[2]), int(parts[3] or 0))
    except ValueError:
        return None


def to_utc(value: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the moment in UTC; None for one that no system means, such as the year 1."""
    if value.year < _FIRST_YEAR:
        return None
    local = value if value.tzinfo is not None else value.replace(tzinfo=zone)
    try:
        return local.astimezone(UTC)
    except OverflowError:
        return None


def written(value: datetime) -> str:
    """Write a moment in UTC: `2026-11-19T10:04:05Z`, with a fraction where there is one."""
    text = value.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"
