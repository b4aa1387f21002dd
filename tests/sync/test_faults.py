"""ERPs in trouble, through a whole sync: nothing is changed, it is said, and the next run mends it.

A stored integration, a session over HTTP to a server that misbehaves on a later page, PostgreSQL.
"""

import time
import tracemalloc
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from cerniq_stock.erp.fakes.base import FakeClock, Reply
from cerniq_stock.erp.fakes.rest import FakeRest, FakeTokenServer
from cerniq_stock.erp.http import MEGABYTE
from cerniq_stock.erp.trouble import ErpError
from tests.erp.http_server import Endless, bomb, raw, stall
from tests.sync.whole import Logged, ours, whole

SKUS = [f"SKU-{number}" for number in range(8)]
PAGE = 3
"""Rows of a page; there are sixteen."""
ALWAYS = 10**9
CAP = 64 * MEGABYTE

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CUT = HEAD + b'Content-Length: 4000\r\n\r\n{"items": [{"code": "SKU-7", "stock": {"total": 9'
CUT_CHUNK = HEAD + b'Transfer-Encoding: chunked\r\n\r\n40\r\n{"items": [{"code"'
HTML = Reply("<!DOCTYPE html><title>Maintenance</title>", 200, [("Content-Type", "text/html")])
ELSEWHERE = "http://127.0.0.1:9/v1/stock", "http://169.254.169.254/latest/meta-data", "//erp.test/x"


@asynccontextmanager
async def shop(database, *, auth="bearer", paging="cursor", **settings):
    """A tenant and its ERP, that have synchronised once; then much has changed in the ERP."""
    clock = FakeClock(time.time())
    tokens = FakeTokenServer(clock)
    async with (
        tokens,
        FakeRest(clock, auth=auth, paging=paging, page=PAGE, token_server=tokens) as fake,
        whole(database, fake, tokens, skus=SKUS) as place,
    ):
        for number, sku in enumerate(SKUS):
            fake.received(sku, str(number + 5))
            fake.received(sku, "2.5", "02")
        await place.connect({**fake.settings(), **settings})
        await place.sync()
        assert await place.figures() == ours(fake)
        clock.now += 3600
        for sku in SKUS[:-1]:
            fake.sold(sku, "1")
        fake.ordered(SKUS[-1], "2")
        yield place, fake


def late(fake, trouble, *, times=ALWAYS, after=2):
    """Answer so from the third page on."""
    seen = 0

    def answer(request):
        nonlocal seen
        seen += 1
        if seen <= after:
            return None
        return trouble(request) if callable(trouble) else trouble

    fake.trouble(answer, path="/v1/stock", times=times)


async def fails(place, fake, code, kind="FULL"):
    """A sync that fails changes nothing but its log; the ERP well again, the next one is clean."""
    before, asked = await place.state(), len(fake.requests)
    with pytest.raises(ErpError) as raised:
        await place.sync(kind)
    assert raised.value.code == code
    assert len(fake.requests) - asked > 2, "it failed on a later page"
    assert await place.state() == before
    assert await place.logged() == Logged("FAILED", code, str(raised.value))
    fake.well()
    fake.token_server.well()
    await place.sync(kind)
    assert (await place.state())["watermarks"] != before["watermarks"]
    await clean(place, fake)


async def clean(place, fake):
    """What is here is what is there, each change told by one movement."""
    assert await place.figures() == ours(fake)
    assert (await place.logged()).status == "SUCCESS"
    changed = await place.owner.fetchval(
        "SELECT max(n) FROM (SELECT count(*) AS n FROM stock_movements WHERE type = 'SYNC'"
        " GROUP BY tenant_id, product_id, warehouse) AS counts"
    )
    assert changed == 2, "the first snapshot, and what changed since"
    report = await place.stock.verify()
    assert report.ok, report


LASTING = {
    "cut in mid-body": (Reply(raw=raw(CUT)), "UNREACHABLE"),
    "cut in a chunk": (Reply(raw=raw(CUT_CHUNK)), "UNREACHABLE"),
    "stalls before its answer": (Reply(raw=stall()), "TIMEOUT"),
    "stalls in mid-body": (Reply(raw=stall(CUT)), "TIMEOUT"),
    "in trouble for ever": (Reply({"error": "no"}, 500), "UNREACHABLE"),
    "a page with status 200": (HTML, "BAD_ANSWER"),
    "half the JSON": (Reply('{"items": [{"code": "SKU-7"'), "BAD_ANSWER"),
    "no list": (Reply({"items": None}), "BAD_ANSWER"),
    "redirects": (Reply(None, 302, [("Location", ELSEWHERE[0])]), "REFUSED"),
    "asks to wait for an hour": (Reply(None, 429, [("Retry-After", "3600")]), "RATE_LIMITED"),
}


@pytest.mark.parametrize("name", LASTING)
async def test_trouble_that_lasts_changes_nothing(database, name):
    trouble, code = LASTING[name]
    async with shop(database, timeoutS=0.2) as (place, fake):
        late(fake, trouble)
        await fails(place, fake, code)


@pytest.mark.parametrize("name", ["cut in mid-body", "redirects"])
async def test_what_changed_is_read_as_carefully(database, name):
    trouble, code = LASTING[name]
    async with shop(database) as (place, fake):
        late(fake, trouble)
        await fails(place, fake, code, "INCREMENTAL")


PASSING = {
    "cut in mid-body": Reply(raw=raw(CUT)),
    "in trouble": Reply({"error": "no"}, 500),
    "a page": HTML,
    "asks to wait": Reply(None, 429, [("Retry-After", "1")]),
}


@pytest.mark.parametrize("name", PASSING)
async def test_trouble_that_passes_leaves_no_trace(database, name):
    async with shop(database) as (place, fake):
        late(fake, PASSING[name], times=2)
        await place.sync()
        await clean(place, fake)


@pytest.mark.parametrize("target", ELSEWHERE)
async def test_nobody_is_led_elsewhere(database, target):
    """By a redirect, or by the link to the next page."""
    async with shop(database, paging="next_url") as (place, fake):
        late(fake, Reply({"items": [], "next": target}))
        await fails(place, fake, "OFF_ORIGIN")


async def test_a_redirect_is_not_followed_to_a_server_that_would_answer(database):
    async with FakeRest() as other, shop(database) as (place, fake):
        late(fake, Reply(None, 307, [("Location", f"{other.url}/v1/stock")]))
        await fails(place, fake, "REFUSED")
        assert other.requests == []


# -- more than anybody wants -------------------------------------------------------------------


async def test_a_body_without_end_is_left_at_the_cap(database):
    endless = Endless()
    async with shop(database) as (place, fake):
        late(fake, Reply(raw=endless))
        async with memory_below(3 * CAP):
            await fails(place, fake, "TOO_LARGE")
    assert CAP <= endless.sent < CAP + 16 * MEGABYTE, "what is in the sockets besides"


async def test_five_gigabytes_are_not_taken(database):
    said = HEAD + b"Content-Length: 5368709120\r\n\r\n"
    endless = Endless(head=said, part=b" " * 65536)
    async with shop(database) as (place, fake):
        late(fake, Reply(raw=endless))
        async with memory_below(3 * CAP):
            await fails(place, fake, "TOO_LARGE")
    assert endless.sent < CAP + 16 * MEGABYTE


async def test_what_unpacks_to_more_than_the_cap_is_left_there(database):
    packed = bomb(4 * CAP)
    reply = Reply(packed.body, 200, list(packed.headers.items()))
    async with shop(database) as (place, fake):
        late(fake, reply)
        async with memory_below(3 * CAP):
            await fails(place, fake, "TOO_LARGE")


@asynccontextmanager
async def memory_below(most):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


# -- tokens ------------------------------------------------------------------------------------


async def test_a_token_that_ends_between_pages_is_renewed(database):
    async with shop(database, auth="oauth2") as (place, fake):
        fake.token_server.tokens.uses = 2
        given = len(fake.token_server.tokens.given)
        await place.sync()
        assert len(fake.token_server.tokens.given) - given > 1
        await clean(place, fake)


async def test_a_token_that_is_not_renewed_changes_nothing(database):
    async with shop(database, auth="oauth2") as (place, fake):

        def ends(_):
            fake.token_server.trouble(Reply({"error": "invalid_client"}, 401), times=ALWAYS)
            return Reply({"message": "expired"}, 401)

        late(fake, ends)
        await fails(place, fake, "UNAUTHORIZED")


# -- rows that move between pages --------------------------------------------------------------


async def test_a_row_that_moves_to_the_next_page_comes_once(database):
    """While page two is asked for, a new row pushes the others on."""
    async with shop(database, paging="offset") as (place, fake):
        between_pages(fake, lambda: put_first(fake, "NEW", "4"))
        result = await place.sync()
        assert (result.errors, result.unknown, result.missing) == ((), (), ())
        assert await place.figures() == {k: v for k, v in ours(fake).items() if k[0] != "NEW"}
        assert (await place.stock.verify()).ok


async def test_a_row_that_moves_to_the_page_before_is_missing_and_not_zeroed(database):
    async with shop(database, paging="offset") as (place, fake):
        fake.sold(SKUS[1], "1", "02")
        before = await place.figures()
        between_pages(fake, lambda: fake.shelves.pop((SKUS[0], "01", None)))
        result = await place.sync()
        skipped = (SKUS[1], "DEPOT")  # the fourth row has become the third
        found = await place.figures()
        assert found[skipped] == before[skipped]
        assert not result.errors
        await place.sync()
        gone = SKUS[0], "MAIN"
        assert await place.figures() == {**ours(fake), gone: found[gone]}
        assert (await place.stock.verify()).ok


async def test_a_row_that_moves_and_changes_is_left_alone(database):
    """It came twice, with two figures: nobody guesses which one holds."""
    async with shop(database, paging="offset") as (place, fake):
        before = await place.figures()

        def moves():
            put_first(fake, "NEW", "4")
            fake.received(SKUS[1], "7")

        between_pages(fake, moves)
        result = await place.sync()
        assert [(x.sku, x.code) for x in result.errors] == [(SKUS[1], "CONFLICTING_DUPLICATE")]
        assert (await place.logged()).status == "PARTIAL"
        assert (await place.figures())[SKUS[1], "MAIN"] == before[SKUS[1], "MAIN"]
        await place.sync()
        assert (await place.figures())[SKUS[1], "MAIN"] == (Decimal(12), Decimal(12))


def between_pages(fake, change):
    """Let something happen in the ERP when its second page is asked for."""
    asked = 0

    def answer(_):
        nonlocal asked
        asked += 1
        if asked == 2:
            change()

    fake.trouble(answer, path="/v1/stock", times=ALWAYS)


def put_first(fake, sku, quantity):
    others = dict(fake.shelves)
    fake.shelves.clear()
    fake.received(sku, quantity)
    fake.shelves.update(others)
