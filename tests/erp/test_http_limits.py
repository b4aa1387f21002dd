"""Bytes, seconds and tries of the client: all of them have a limit."""

import asyncio
import email.utils
import gzip
import io
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.bodies import Gunzip, retry_after
from cerniq_stock.erp.http import (
    Timeouts,
)
from cerniq_stock.erp.trouble import (
    BadAnswerError,
    RateLimitedError,
    TimedOutError,
    TooLargeError,
)
from tests.erp.http_client import HEAD, MEGABYTE, OK, ONCE, Told, client
from tests.erp.http_server import Answer, Endless, Server, bomb, raw, stall

# limits


async def test_a_silent_server_is_left():
    quick = Timeouts(read_s=0.02)
    for answer in (stall(), stall(HEAD), stall(HEAD + b"Content-Length: 9\r\n\r\n{")):
        async with Server(answer) as server, client(server, retry=ONCE, timeouts=quick) as erp:
            with pytest.raises(TimedOutError):
                await erp.get("x")


async def test_a_server_that_trickles_is_left_after_the_total():
    async def trickle(writer):
        writer.write(HEAD + b"\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.005)

    limits = Timeouts(read_s=30, total_s=0.05)
    async with Server(trickle) as server, client(server, retry=ONCE, timeouts=limits) as erp:
        with pytest.raises(TimedOutError):
            await erp.get("x")


async def test_an_endless_body_is_cut_at_the_cap():
    endless = Endless()
    async with Server(endless) as server, client(server, max_bytes=MEGABYTE) as erp:
        with pytest.raises(TooLargeError):
            await erp.get("x")
        # what the sockets' buffers hold comes on top
        assert endless.sent < 16 * MEGABYTE
        assert len(server.requests) == 1


async def test_a_bomb_is_cut_at_the_cap_with_little_memory():
    huge, small = bomb(400 * MEGABYTE), bomb(MEGABYTE // 2)
    sink = io.BytesIO()
    async with Server(huge, huge, small) as server, client(server, max_bytes=MEGABYTE) as erp:
        tracemalloc.start()
        with pytest.raises(TooLargeError):
            await erp.get("x")
        with pytest.raises(TooLargeError):
            await erp.download("x", sink)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * MEGABYTE
        assert (await erp.download("x", sink)).size == MEGABYTE // 2


async def test_packed_parts_without_content_are_not_unpacked_for_ever():
    nothing = gzip.compress(b"")
    head = HEAD + b"Content-Encoding: gzip\r\n\r\n"
    many = Endless(head, nothing * 3000)
    async with Server(many) as server, client(server, retry=ONCE) as erp:
        with pytest.raises(BadAnswerError, match="too many parts"):
            await erp.get("x")
    # stored blocks of no length: one member, all of it on the wire, none of it content
    empty = Endless(head + nothing[:10], b"\0\0\0\xff\xff" * 10_000)
    async with Server(empty) as server, client(server, max_bytes=MEGABYTE) as erp:
        with pytest.raises(TooLargeError):
            await erp.get("x")


@given(st.binary(max_size=3000), st.integers(1, 50), st.integers(1, 3))
def test_unpacking_gives_what_was_packed_however_it_is_cut(content, step, members):
    packed = gzip.compress(content) * members
    unpack = Gunzip()
    parts = [packed[i : i + step] for i in range(0, len(packed), step)]
    assert b"".join(p for part in parts for p in unpack.feed(part)) == content * members
    assert unpack.done


def test_unpacking_ends_where_a_piece_ends_exactly():
    for size in (MEGABYTE - 1, MEGABYTE, MEGABYTE + 1, 3 * MEGABYTE):
        unpack = Gunzip()
        assert sum(map(len, unpack.feed(gzip.compress(os.urandom(9) + b"0" * (size - 9))))) == size
        assert unpack.done


async def test_downloads_go_to_the_file_and_start_over_after_a_break(tmp_path):
    broken = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"old;" * 9000)
    whole = Answer(b"sku;qty\nA;1\n", headers={"Content-Type": "text/csv"})
    with (tmp_path / "stock.csv").open("w+b") as file:
        async with Server(broken, whole) as server, client(server) as erp:
            answer = await erp.download("x", file)
        assert file.read() == b"sku;qty\nA;1\n"
    assert answer.size == 12


async def test_a_login_page_is_no_download():
    page = Answer(b"\n<!DOCTYPE html><p>", headers={"Content-Type": "text/csv"})
    async with Server(page) as server, client(server, retry=ONCE) as erp:
        with pytest.raises(BadAnswerError):
            await erp.download("x", io.BytesIO())


# patience and pace


def date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 1),
        ({"retry-after": date(1_000_030), "date": date(1_000_000)}, 30),
        ({"retry-after": date(2_000_030)}, 30),
        ({"retry-after": date(2_000_030).replace("GMT", "-0000")}, 30),
        ({"retry-after": date(1_000_000), "date": date(1_000_030)}, 1),
        ({"retry-after": "99999999"}, 3600),
        ({"retry-after": date(9_000_000), "date": date(1_000_000)}, 3600),
        *(({"retry-after": text}, None) for text in ("", "-5", "soon", "1.5", "٣", "9" * 400)),
        ({"retry-after": "Fri, 99 Foo 2026 99:99:99 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers, 2_000_000) == seconds


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_it(wish, now):
    found = retry_after({"retry-after": wish, "date": now}, 0)
    assert found is None or 1 <= found <= 3600


async def test_an_erps_wish_is_granted_in_both_forms():
    told = Told()
    first = Answer({}, 429, {"Retry-After": "7"})
    second = Answer({}, 503, {"Retry-After": date(1_000_030), "Date": date(1_000_000)})
    async with Server(first, second, OK) as server, client(server, told) as erp:
        await erp.get("x")
    assert told.sleeps == [7, 30]


async def test_an_erp_that_wants_to_be_left_alone_for_long_is():
    told = Told()
    blocked = Answer({}, 429, {"Retry-After": "600"})
    async with Server(blocked, OK) as server, client(server, told) as erp:
        with pytest.raises(RateLimitedError) as limited:
            await erp.get("x")
        assert len(server.requests) == 1
    assert limited.value.retry_after_s == 600
    assert told.sleeps == []


async def test_requests_keep_their_distance_also_those_at_once_and_repeated():
    told = Told()
    async with Server(Answer({}, 500), OK) as server, client(server, told, rate=2) as erp:
        began = told.now
        await asyncio.gather(*(erp.get(str(number)) for number in range(3)))
        assert len(server.requests) == 4
        assert told.now - began >= 1.5
    told = Told()
    async with Server(OK) as server, client(server, told) as erp:
        await asyncio.gather(*(erp.get(str(number)) for number in range(3)))
    assert told.sleeps == []
