"""Moments of a source without a zone, in UTC."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from cerniq_stock.erp.times import clock, day, moment, written

BUCHAREST = ZoneInfo("Europe/Bucharest")

MOMENTS = [
    ("2026-11-19 12:04:05", "2026-11-19T10:04:05Z"),
    ("2026-07-19 12:04:05", "2026-07-19T09:04:05Z"),
    ("2026-11-19T12:04:05+02:00", "2026-11-19T10:04:05Z"),
    ("2026-11-19T10:15:23.987Z", "2026-11-19T10:15:23.987Z"),
    ("2026-11-19T10:15:23.9870000Z", "2026-11-19T10:15:23.987Z"),
    ("2026-11-19", "2026-11-18T22:00:00Z"),
    ("19.11.2026 12:04", "2026-11-19T10:04:00Z"),
    ("1.2.2026", "2026-01-31T22:00:00Z"),
    # the hour that autumn has twice: the earlier moment, so that nothing is missed
    ("2026-10-25 03:30:00", "2026-10-25T00:30:00Z"),
    # the hour that spring skips
    ("2026-03-29 03:30:00", "2026-03-29T01:30:00Z"),
    ("0001-01-01T00:00:00Z", None),
    ("9999-12-31T23:59:59-12:00", None),
    ("19/11/2026", None),
    ("31.02.2026", None),
    ("yesterday", None),
    ("", None),
    ("\u0662026-11-19", None),
    (1763546645, None),
    (None, None),
    (True, None),
    (datetime(2026, 11, 19, 12, 4, 5), "2026-11-19T10:04:05Z"),  # noqa: DTZ001 - as XLSX has it
    (date(2026, 11, 19), "2026-11-18T22:00:00Z"),
]


@pytest.mark.parametrize(("value", "expected"), MOMENTS)
def test_a_moment_in_utc(value, expected):
    found = moment(value, BUCHAREST)
    assert (None if found is None else written(found)) == expected
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12:03:55", "12:03:55"),
        ("12:03", "12:03:00"),
        ("PT12H3M55S", "12:03:55"),
        ("PT12H3M", "12:03:00"),
        ("24:00:00", None),
        ("", None),
        (None, None),
        (120355, None),
    ],
)
def test_times_of_day(text, expected):
    found = clock(text)
    assert (None if found is None else found.isoformat()) == expected


def test_days():
    assert day("2026-11-19T00:00:00Z") == date(2026, 11, 19)
    assert day("nothing") is None
    assert day(None) is None
