"""What every Source keeps, whatever its system: `source_cases.CASES` run all of it."""

import asyncio
import gc
import io
import logging
import traceback
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import structlog

from cerniq_stock.erp.connection import capabilities, read_connection
from cerniq_stock.erp.fakes.base import FakeClock, Reply
from cerniq_stock.erp.gather import gather
from cerniq_stock.erp.rows import ErpRow, PayloadError
from cerniq_stock.erp.trouble import ErpError, OffOriginError, RefusedError, UnauthorizedError
from cerniq_stock.errors import CerniqError, InvalidInputError
from tests.erp.source_cases import CASES, Case, open_case, sku, stock_requests

ALWAYS = 10**9
PAGE = Reply("<!DOCTYPE html><title>canary</title>", 200, [("Content-Type", "text/html")])
TROUBLES = {
    "a page": PAGE,
    "half": Reply('{"data": [{"canary": 1}, ', 200),
    "nothing": Reply(None, 200),
    "no list": Reply({"status": 200, "data": None, "items": "canary", "value": {}}, 200),
    "an empty object": Reply({}, 200),
    "in trouble": Reply({"error": "canary"}, 503),
    "refused": Reply({"error": {"message": "canary"}, "statusMessage": "canary"}, 400),
    "forbidden": Reply({"error": "canary"}, 403),
    "redirect": Reply(None, 302, [("Location", "http://127.0.0.1:9/canary")]),
    "broken off": Reply(lost=True),
}
PASSING = ("a page", "half", "nothing", "in trouble", "broken off")


def by_case(*, if_: Any = None):
    cases = [case for case in CASES if if_ is None or if_(case)]
    return pytest.mark.parametrize("case", cases, ids=str)


def over_a_network():
    return by_case(if_=lambda case: case.speaks)


def can(case):
    return capabilities(case.system)


@dataclass
class Opened:
    fake: Any
    source: Any
    clock: FakeClock


@asynccontextmanager
async def opened(case: Case, *, fill=True, ours: FakeClock | None = None, change=lambda _: _):
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(case.fake(clock))
        if fill:
            case.fill(fake, case.count)
        settings = change(case.settings(fake))
        opening = open_case(case, fake, ours or clock, settings)
        source = await stack.enter_async_context(opening)
        yield Opened(fake, source, clock)


async def pages(iterator):
    return [page async for page in iterator]


def rows(found):
    whole = gather(found)
    assert not whole.errors
    return {(row.sku, row.warehouse): (row.total, row.available) for row in whole.rows}


async def read(iterator):
    return rows(await pages(iterator))


def of(figures, *skus):
    return {key: value for key, value in figures.items() if key[0] in skus}


# -- the whole ---------------------------------------------------------------------------------


@by_case()
async def test_everything_is_exactly_what_is_there_and_twice_the_same(case):
    async with opened(case) as erp:
        expected = case.figures(erp.fake)
        assert len(expected) >= case.count
        found = await pages(erp.source.everything())
        assert rows(found) == expected
        assert (len(found) > 1) == case.pages
        assert await read(erp.source.everything()) == expected


@by_case()
async def test_nothing_there_is_nothing(case):
    async with opened(case, fill=False) as erp:
        assert await read(erp.source.everything()) == {}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
@over_a_network()
async def test_the_last_page_in_trouble_is_no_end(case, trouble):
    async with opened(case) as erp:
        await pages(erp.source.everything())
        last, seen = stock_requests(erp.fake, case), 0

        def late(request):
            nonlocal seen
            seen += 1
            return trouble if seen >= last else None

        erp.fake.trouble(late, path=case.data, times=ALWAYS)
        with pytest.raises((ErpError, PayloadError)) as raised:
            await pages(erp.source.everything())
        assert seen >= last
        assert "canary" not in _told(raised.value)


@pytest.mark.parametrize("name", PASSING)
@over_a_network()
async def test_trouble_that_passes_is_survived(case, name):
    async with opened(case) as erp:
        erp.fake.trouble(TROUBLES[name], path=case.data)
        assert await read(erp.source.everything()) == case.figures(erp.fake)
        limited = Reply({"error": "slowly"}, 429, [("Retry-After", "7")])
        erp.fake.trouble(limited, path=case.data)
        before = erp.clock.now
        assert await read(erp.source.everything()) == case.figures(erp.fake)
        assert erp.clock.now >= before + 7


@by_case(if_=lambda case: case.expire)
async def test_a_token_that_ends_between_pages_is_renewed(case):
    async with opened(case) as erp:
        case.expire(erp.fake)
        assert await read(erp.source.everything()) == case.figures(erp.fake)


@by_case(if_=lambda case: case.mislead)
async def test_links_to_another_server_are_refused(case):
    async with opened(case) as erp:
        case.mislead(erp.fake)
        with pytest.raises(OffOriginError):
            await pages(erp.source.everything())


@by_case(if_=lambda case: case.pages)
async def test_pages_come_one_by_one_and_are_not_kept(case):
    async with opened(case) as erp:
        reading = erp.source.everything()
        first = await anext(reading)
        assert stock_requests(erp.fake, case) <= 3
        whole = len(case.figures(erp.fake))
        del first
        most = 0
        async for page in reading:
            del page
            gc.collect()
            most = max(most, sum(isinstance(one, ErpRow) for one in gc.get_objects()))
        assert most < whole


@by_case(if_=lambda case: case.pages)
async def test_who_stops_early_may(case):
    async with opened(case) as erp:
        reading = erp.source.everything()
        await anext(reading)
        await reading.aclose()
        assert await read(erp.source.everything()) == case.figures(erp.fake)


# -- what changed ------------------------------------------------------------------------------


@by_case(if_=lambda case: not can(case).incremental)
async def test_without_changes_there_is_no_watermark(case):
    async with opened(case) as erp:
        await pages(erp.source.everything())
        assert erp.source.watermark is None
        with pytest.raises(RefusedError):
            await pages(erp.source.changed({}))


@by_case(if_=lambda case: can(case).incremental)
async def test_what_changes_while_it_is_read_is_found_the_next_time(case):
    async with opened(case) as erp:
        await _read_while_sold(erp, case)
        case.sold(erp.fake, sku(1), "1")
        mark = erp.source.watermark
        erp.clock.now += 5 * 86_400
        case.sold(erp.fake, sku(2), "1")
        found = await read(erp.source.changed(mark))
        expected = of(case.figures(erp.fake), sku(0), sku(1), sku(2))
        assert {key: found.get(key) for key in expected} == expected
        assert erp.source.watermark != mark


async def _read_while_sold(erp, case):
    """Once the first page is out, or is about to be: its goods go."""
    sold = []

    def sells(*_):
        if len(sold) < 2:
            sold.append(case.sold(erp.fake, sku(0), "1"))

    if case.speaks:
        erp.fake.trouble(sells, path=case.data, times=ALWAYS)
        await pages(erp.source.everything())
    else:
        async for _ in erp.source.everything():
            sells()
    assert len(sold) > 0


@pytest.mark.parametrize("ahead_s", [-3 * 86_400, 3 * 86_400])
@by_case(if_=lambda case: can(case).incremental and case.tells_date)
async def test_the_watermark_is_by_the_clock_of_the_erp(case, ahead_s):
    ours = FakeClock(FakeClock().now + ahead_s)
    async with opened(case, ours=ours) as erp:
        await pages(erp.source.everything())
        mark = erp.source.watermark
        erp.clock.now += 60
        case.sold(erp.fake, sku(3), "1")
        found = await read(erp.source.changed(mark))
        assert of(found, sku(3)).items() <= of(case.figures(erp.fake), sku(3)).items()
        assert of(found, sku(3))
        erp.clock.now += 30 * 86_400
        ours.now += 30 * 86_400
        await pages(erp.source.changed(mark))
        assert await read(erp.source.changed(erp.source.watermark)) == {}


@by_case(if_=lambda case: can(case).incremental and can(case).by_sku)
async def test_reading_of_some_moves_no_watermark(case):
    async with opened(case) as erp:
        await pages(erp.source.everything())
        mark = erp.source.watermark
        erp.clock.now += 5 * 86_400
        await pages(erp.source.of_skus([sku(0)]))
        await erp.source.check()
        assert erp.source.watermark == mark


# -- some of it --------------------------------------------------------------------------------


@by_case(if_=lambda case: can(case).by_sku)
async def test_single_products_and_only_those(case):
    async with opened(case) as erp:
        figures = case.figures(erp.fake)
        assert await read(erp.source.of_skus([sku(1), "unknown", sku(4)])) == of(
            figures, sku(1), sku(4)
        )
        assert await read(erp.source.of_skus([])) == {}


@by_case(if_=lambda case: can(case).by_sku)
async def test_many_single_products(case):
    case = replace(case, count=max(case.count, 130))
    async with opened(case) as erp:
        some = [sku(number) for number in range(1, 120)]
        assert await read(erp.source.of_skus(some)) == of(case.figures(erp.fake), *some)


@by_case(if_=lambda case: case.event)
async def test_what_a_webhook_announces_is_read(case):
    async with opened(case) as erp:
        case.sold(erp.fake, sku(2), "1")
        found = await read(erp.source.announced(case.event(erp.fake, [sku(2)])))
        expected = of(case.figures(erp.fake), sku(2))
        assert of(found, sku(2)) == expected


# -- check, and secrets ------------------------------------------------------------------------


@by_case()
async def test_a_check_tells_how_fast(case):
    async with opened(case) as erp:
        assert 0 <= (await erp.source.check()).latency_s < 10


@over_a_network()
async def test_a_check_of_what_answers_with_a_page_fails(case):
    async with opened(case) as erp:
        erp.fake.trouble(PAGE, times=ALWAYS)
        with pytest.raises(ErpError):
            await erp.source.check()


@over_a_network()
async def test_wrong_credentials_are_told_as_such(case):
    async with opened(case, change=_spoiled) as erp:
        for ask in (erp.source.check(), pages(erp.source.everything())):
            with pytest.raises(UnauthorizedError):
                await ask


def _spoiled(given):
    """Settings with every secret replaced by another one."""
    if isinstance(given, dict):
        return {name: _spoiled(value) for name, value in given.items()}
    return "another-canary" if isinstance(given, str) and "canary" in given else given


def _told(error):
    """Everything that an error and those before it say."""
    text, seen = "".join(traceback.format_exception(error, chain=True)), []
    while error and error not in seen:
        seen.append(error)
        text += f"{error!s} {error!r}"
        error = error.__cause__ or error.__context__
    # a traceback quotes the lines of these tests
    return "\n".join(line for line in text.split("\n") if not line.startswith("    "))


@over_a_network()
async def test_no_secret_is_told_anywhere(case, caplog):
    # of httpx2 and httpcore2 nothing comes even so: they would show headers and queries
    caplog.set_level(logging.DEBUG)
    told = io.StringIO()
    with structlog.testing.capture_logs() as lines:
        async with opened(case) as erp:
            told.write(
                repr(erp.source) + repr(read_connection(case.system, case.settings(erp.fake)))
            )
            await erp.source.check()
            await pages(erp.source.everything())
            erp.fake.trouble(Reply({"error": "no"}, 401), times=ALWAYS)
            for ask in (erp.source.check(), pages(erp.source.everything())):
                with pytest.raises(UnauthorizedError) as raised:
                    await ask
                told.write(_told(raised.value))
    assert lines
    assert "canary" not in f"{told.getvalue()} {lines} {caplog.text}"


@over_a_network()
async def test_an_echoed_secret_is_told_neither(case):
    async with opened(case) as erp:
        secrets = _canaries(case.settings(erp.fake))
        assert secrets
        body = {"error": {"message": secrets[0]}, "status": 500, "statusMessage": secrets[0]}
        for status in (200, 400, 500):
            erp.fake.trouble(Reply(body, status), path=case.data, times=ALWAYS)
            with pytest.raises(CerniqError) as raised:
                await pages(erp.source.everything())
            assert "canary" not in _told(raised.value)


def _canaries(given):
    if isinstance(given, dict):
        return [one for value in given.values() for one in _canaries(value)]
    return [given] if isinstance(given, str) and "canary" in given else []


@over_a_network()
async def test_bad_settings_are_named_and_not_repeated(case):
    async with case.fake(FakeClock()) as fake:
        good = case.settings(fake)
    for key, value in (("canary-key", 1), ("baseUrl", "canary://canary"), ("timeoutS", "canary")):
        with pytest.raises(InvalidInputError) as raised:
            read_connection(case.system, {**good, key: value})
        assert "canary" not in _told(raised.value).replace("canary-key", "")
        assert raised.value.field in {key, "base_url", "timeout_s"}


async def test_a_session_ends_while_something_is_asked():
    """Whoever is cancelled in the middle leaves nothing behind."""
    async with opened(CASES[0]) as erp:
        task = asyncio.ensure_future(pages(erp.source.everything()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read(erp.source.everything()) == CASES[0].figures(erp.fake)
