"""Paging: nothing is read as all that is a part, and no circle is walked twice."""

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import Answer as Read
from cerniq_stock.erp.http import ErpClient
from cerniq_stock.erp.paging import (
    Limits,
    by_cursor,
    by_link,
    by_position,
    header_link,
    parse_links,
)
from cerniq_stock.erp.trouble import BadAnswerError, LoopError, OffOriginError, TooLargeError
from tests.erp.http_server import Answer, Server


async def gathered(pages):
    return [rows async for rows in pages]


def items(answer):
    return answer.data["value"]


def next_in_body(answer):
    return answer.data.get("next")


def page(rows, **more):
    return Read(200, httpx2.Headers(), "", {"value": rows, **more})


def asked(**answers):
    """A fetch of links: each name is a page."""

    async def fetch(link):
        answer = answers[link]
        return Read(200, httpx2.Headers(), f"https://h/{link}", answer)

    return fetch


def links(fetch, **options):
    return gathered(by_link(fetch, "a", items=items, next_link=next_in_body, **options))


# links


async def test_links_are_followed_to_the_last_page_through_empty_ones():
    fetch = asked(
        a={"value": [1], "next": "b"}, b={"value": [], "next": "c"}, c={"value": [2], "next": None}
    )
    assert await links(fetch) == [[1], [], [2]]


@pytest.mark.parametrize("last", ["a", "b"])
async def test_a_circle_is_an_error(last):
    fetch = asked(a={"value": [1], "next": "b"}, b={"value": [2], "next": last})
    with pytest.raises(LoopError):
        await links(fetch)


async def test_limits_are_errors_not_ends():
    fetch = asked(a={"value": [1, 2], "next": "b"}, b={"value": [3]})
    assert await links(fetch, limits=Limits(pages=2, rows=3)) == [[1, 2], [3]]
    for limits in (Limits(pages=1), Limits(rows=2)):
        with pytest.raises(TooLargeError):
            await links(fetch, limits=limits)


@pytest.mark.parametrize("value", [None, {}, "text", 5])
async def test_rows_that_are_no_list_are_no_empty_list(value):
    with pytest.raises(BadAnswerError):
        await links(asked(a={"value": value}))
    with pytest.raises(BadAnswerError):
        await links(asked(a={"value": [1], "next": ["b"]}))


async def test_links_over_the_wire_stay_at_home():
    def answers(request):
        if request.target.endswith("skip=2"):
            return Answer({"value": [3], "next": "http://127.0.0.1:1/b1s/v1/Items"})
        return Answer({"value": [1, 2], "next": "Items?$skip=2"})

    async with Server(answers) as server:
        policy = Policy.parse(f"127.0.0.1:{server.port}")
        async with ErpClient(f"{server.url}/b1s/v1", policy) as erp:
            pages = by_link(erp.get, "Items", items=items, next_link=next_in_body)
            assert await anext(pages) == [1, 2]
            assert await anext(pages) == [3]
            with pytest.raises(OffOriginError):
                await anext(pages)
        assert server.targets == ["/b1s/v1/Items", "/b1s/v1/Items?$skip=2"]


HEADERS = [
    ("", None),
    ("<https://h/p?page=2>; rel=next", "https://h/p?page=2"),
    ('<https://h/p?page=2>; rel="next"', "https://h/p?page=2"),
    ('<https://h/p?a=1,2;3>; rel="prev next"; title="x"', "https://h/p?a=1,2;3"),
    ('<https://h/1>; rel="prev", <https://h/3>; rel="next"', "https://h/3"),
    ('<https://h/1>; title="a, <b>; rel=next", <https://h/3>; REL=NEXT', "https://h/3"),
    ('<https://h/1>; title="a \\" , b"; rel="next"', "https://h/1"),
    ("<?page=2>;rel=next", "https://h/x/y?page=2"),
    ("<z>; rel=next", "https://h/x/z"),
    ("</z> ; rel = next", "https://h/z"),
    ("<//evil/z>; rel=next", "https://evil/z"),
    ('<https://h/1>; rel="nextish"', None),
    ('<https://h/1>; rel="prev"; rel="next"', None),
    ('<https://h/1>; rel="next"; anchor="#part"', None),
    ("https://h/1; rel=next", None),
    ("<https://h/1", None),
    ('<https://h/1>; rel="next', "https://h/1"),
]


@pytest.mark.parametrize(("header", "link"), HEADERS)
def test_link_headers(header, link):
    answer = Read(200, httpx2.Headers({"Link": header}), "https://h/x/y?page=1")
    assert header_link(answer) == link


def test_several_link_headers_are_one():
    headers = httpx2.Headers([("Link", "<a>; rel=prev"), ("Link", "<b>; rel=next")])
    assert header_link(Read(200, headers, "https://h/x")) == "https://h/b"


def test_a_link_that_is_no_url_is_an_error():
    answer = Read(200, httpx2.Headers({"Link": "<https://[x>; rel=next"}), "https://h/x")
    with pytest.raises(OffOriginError):
        header_link(answer)


@given(st.text('<>;,="\\ relnxt/h:', max_size=80))
def test_no_link_header_breaks_the_parser(header):
    for target, parameters in parse_links(header):
        assert f"<{target}" in header.replace("< ", "<").replace("< ", "<") or " " in header
        assert all(name == name.lower() for name in parameters)


# cursors


def cursors(pages, **options):
    async def fetch(cursor):
        return pages[cursor]

    def cursor(answer):
        return answer.data.get("cursor")

    return gathered(by_cursor(fetch, items=items, cursor=cursor, **options))


@pytest.mark.parametrize("end", [{}, {"cursor": None}, {"cursor": ""}])
async def test_cursors_end_where_there_is_none_and_not_at_an_empty_page(end):
    pages = {None: page([1], cursor="x"), "x": page([], cursor=7), "7": page([2], **end)}
    assert await cursors(pages) == [[1], [], [2]]


async def test_a_cursor_after_the_end_is_not_used():
    pages = {None: page([1], cursor="x", more=True), "x": page([2], cursor="y", more=False)}
    assert await cursors(pages, more=lambda answer: answer.data["more"]) == [[1], [2]]
    with pytest.raises(KeyError):
        await cursors(pages)


async def test_a_cursor_that_comes_twice_is_an_error():
    pages = {None: page([1], cursor="x"), "x": page([2], cursor="y"), "y": page([3], cursor="x")}
    with pytest.raises(LoopError):
        await cursors(pages)
    with pytest.raises(TooLargeError):
        await cursors(pages, limits=Limits(rows=2))


# positions


class Shelf:
    """An ERP with so many rows, which pages in one of several ways."""

    def __init__(self, total, most=10**9, number=False):
        self.total = total
        self.most = most
        self.number = number
        self.asked = []

    def fetch(self, size):
        async def fetch(position):
            self.asked.append(position)
            at = (position - 1) * size if self.number else position
            return page(list(range(self.total))[at : at + min(size, self.most)])

        return fetch


@given(st.integers(0, 30), st.integers(1, 9), st.booleans())
async def test_every_row_comes_once(total, size, number):
    shelf = Shelf(total, number=number)
    how = {"start": 1, "step": 1} if number else {}
    pages = await gathered(by_position(shelf.fetch(size), size=size, items=items, **how))
    assert [row for rows in pages for row in rows] == list(range(total))
    # an exact multiple takes one more look
    assert len(shelf.asked) == total // size + 1


@given(st.integers(0, 30), st.integers(1, 9), st.integers(1, 9))
async def test_an_erp_that_gives_fewer_than_asked_for_is_read_to_its_end(total, size, most):
    pages = by_position(Shelf(total, most).fetch(size), size=size, items=items, ends="empty")
    assert [row for rows in await gathered(pages) for row in rows] == list(range(total))


async def test_the_default_would_stop_there():
    """The control: why `ends` exists."""
    pages = by_position(Shelf(30, most=3).fetch(5), size=5, items=items)
    assert await gathered(pages) == [[0, 1, 2]]


async def test_an_erp_that_ignores_the_position_is_noticed():
    async def same(_):
        return page([1, 2])

    async def two(position):
        return page([[1, 2], [3, 4]][position // 2 % 2])

    async def all_of_it(_):
        return page([1, 2, 3])

    for fetch in (same, two, all_of_it):
        with pytest.raises(LoopError):
            await gathered(by_position(fetch, size=2, items=items))


async def test_positions_have_limits():
    with pytest.raises(TooLargeError):
        await gathered(by_position(Shelf(30).fetch(5), size=5, items=items, limits=Limits(rows=29)))
