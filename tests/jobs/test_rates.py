"""Token buckets: never more than there are, never less than were promised."""

import asyncio
from uuid import uuid4

import pytest

from cerniq_stock.jobs.rates import HORIZON_S, Rates

KIND = "stock:reserve:create"


async def later(town, seconds: float) -> None:
    """Let time go by for all buckets."""
    await town.operator.execute(
        "UPDATE cerniq_queue.rates SET at = at - $1 * interval '1 second',"
        " back_at = back_at - $1 * interval '1 second'",
        seconds,
    )


@pytest.mark.parametrize("rate", [0.2, 1.5, 2.9, 10.7])
async def test_a_limit_is_what_it_says_with_its_fraction(town, rate):
    rates = Rates(town.operator, {KIND: rate}, {})
    await rates.take(KIND, 1000)
    taken = 0
    for _ in range(100):
        await later(town, 0.9)
        taken += await rates.take(KIND, 1000)
    assert 90 * rate - 2 <= taken <= 90 * rate + 3


async def test_what_was_taken_for_nothing_is_given_back(town):
    rates = Rates(town.operator, {KIND: 1.0}, {})
    assert await rates.take(KIND, 5) == 1
    assert await rates.take(KIND, 5) == 0
    await rates.give_back(KIND, 1)
    assert await rates.take(KIND, 5) == 1


async def test_many_at_once_take_no_more_than_there_are(town):
    rates = Rates(town.operator, {KIND: 50.0}, {})
    began = await town.operator.fetchval("SELECT clock_timestamp()")
    taken = await asyncio.gather(*(rates.take(KIND, 3) for _ in range(200)))
    took_s = (await town.operator.fetchval("SELECT clock_timestamp()") - began).total_seconds()
    assert min(taken) >= 0
    assert 50 <= sum(taken) <= 51 + 50 * took_s + 1


async def test_those_who_find_none_are_told_times_as_far_apart_as_tokens_come(town):
    rates = Rates(town.operator, {}, {KIND: 0.5})
    tenant = uuid4()
    waits = [await rates.wait_s(KIND, tenant) for _ in range(40)]
    assert waits[0] == 0.0
    assert waits[1:4] == pytest.approx([2, 4, 6], abs=0.5)
    assert max(waits) <= HORIZON_S
    assert await rates.wait_s(KIND, uuid4()) == 0.0


async def test_one_of_all_workers_has_the_turn(town):
    workers = [Rates(town.operator, {}, {}) for _ in range(4)]

    async def turns() -> int:
        return sum(await asyncio.gather(*(worker.turn("upkeep", 30.0) for worker in workers)))

    assert await turns() == 1
    assert await turns() == 0
    await later(town, 30.0)
    assert await turns() == 1
