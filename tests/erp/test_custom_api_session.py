"""Any REST interface over the wire: authorisations, pages, single products, sales."""

import base64
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest

from cerniq_stock.erp.connection import capabilities, read_connection
from cerniq_stock.erp.fakes.base import FakeClock, Reply
from cerniq_stock.erp.fakes.rest import ENDPOINTS, FIELDS, KEY, PASSWORD, FakeRest, FakeTokenServer
from cerniq_stock.erp.rows import PayloadError, SystemName
from cerniq_stock.erp.source import Sale
from cerniq_stock.erp.systems import SYSTEMS
from cerniq_stock.erp.trouble import (
    BadAnswerError,
    ForbiddenAddressError,
    LoopError,
    OffOriginError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)
from cerniq_stock.errors import InvalidInputError
from tests.erp.sessions import figures, pages
from tests.erp.sessions import session as any_session

CUSTOM = SystemName.CUSTOM_API
PUSH = {"path": "/sales", "lookup": "/sales/{id}"}


def session(fake, *, system=CUSTOM, config=None, **settings):
    return any_session(system, fake, config={"field_mapping": FIELDS, **(config or {})}, **settings)


@pytest.fixture
async def fake():
    async with FakeRest(FakeClock()) as server:
        for number in range(5):
            server.received(f"A{number}", str(number + 1))
        yield server


def targets(fake):
    return [request.target for request in fake.requests]


def paging(kind, **more):
    return {"kind": kind, "size": 2, **more}


# -- authorisation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ("bearer", "authorization", f"Bearer {KEY}"),
        (
            "basic",
            "authorization",
            f"Basic {base64.b64encode(f'demo:{PASSWORD}'.encode()).decode()}",
        ),
        ("api_key", "x-api-key", KEY),
    ],
)
async def test_credentials_that_stay(fake, auth, header, value):
    fake.auth = auth
    async with session(fake) as erp:
        await erp.check()
        assert fake.requests[0].headers[header] == value
        assert "***" in erp.client.redactor.clean(value)
    other = {"token": "no", "username": "a", "password": "b", "apiKey": "c"}
    async with session(fake, credentials=other) as erp:
        before = len(fake.requests)
        with pytest.raises(UnauthorizedError):
            await erp.check()
        assert len(fake.requests) == before + 1, "what stays is not tried twice"


async def test_the_keys_header_has_a_name(fake):
    fake.auth = "api_key"
    given = {"apiKey": KEY, "apiKeyHeader": "X-Cheie"}
    async with session(fake, credentials=given) as erp:
        with pytest.raises(UnauthorizedError):
            await erp.check()
    assert fake.requests[0].headers["x-cheie"] == KEY
    with pytest.raises(InvalidInputError):
        async with session(fake, credentials={**given, "apiKeyHeader": "X: y"}):
            pass


@pytest.mark.parametrize("place", ["basic", "body"])
async def test_tokens_are_of_a_server_of_their_own(fake, place):
    async with FakeTokenServer(fake.clock) as server:
        fake.auth, fake.token_server = "oauth2", server
        given = {**fake.settings()["credentials"], "clientIn": place, "scope": "stoc"}
        given["tokenFields"] = {"audience": "depozit"}
        async with session(fake, also=[server], credentials=given) as erp:
            await erp.check()
            await erp.check()
            server.tokens.revoke()
            await erp.check()
        assert len(server.requests) == 2
        asked = server.requests[0]
        assert (asked.form["scope"], asked.form["audience"]) == ("stoc", "depozit")
        assert ("client_secret" in asked.form) == (place == "body")
        assert "authorization" not in fake.requests[0].headers or (
            fake.requests[0].headers["authorization"].startswith("Bearer canary-token")
        )


async def test_the_policy_holds_for_the_server_of_tokens_too(fake):
    async with FakeTokenServer(fake.clock) as server:
        fake.auth, fake.token_server = "oauth2", server
        async with session(fake) as erp:
            with pytest.raises(ForbiddenAddressError):
                await erp.check()
    assert not server.requests
    assert not fake.requests


@pytest.mark.parametrize(
    ("auth", "missing"),
    [
        *(("bearer", "token"), ("basic", "username"), ("basic", "password")),
        *(("api_key", "api_key"), ("oauth2", "client_id"), ("oauth2", "token_url")),
    ],
)
def test_credentials_are_complete(auth, missing):
    every = {
        "token": "x",
        "username": "x",
        "password": "x",
        "api_key": "x",
        "client_id": "x",
        "client_secret": "x",
        "token_url": "https://erp.example/token",
    }
    given = {"baseUrl": "https://erp.example", "endpoints": ENDPOINTS, "authType": auth}
    read_connection(CUSTOM, {**given, "credentials": every})
    del every[missing]
    with pytest.raises(InvalidInputError, match=f"{auth} needs {missing}"):
        read_connection(CUSTOM, {**given, "credentials": every})


# -- pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("goods", [0, 1, 2, 4, 5])
@pytest.mark.parametrize(
    "how",
    [
        *(paging("link_header"), paging("next_url"), paging("cursor")),
        *(paging("offset"), paging("page"), paging("offset", ends="short")),
        *(paging("page", ends="short"), paging("offset", size=50)),
    ],
    ids=str,
)
async def test_every_page_of_every_way(goods, how):
    async with FakeRest(FakeClock(), paging=how["kind"], page=2) as fake:
        for number in range(goods):
            fake.received(f"A{number}", "1")
        async with session(fake, paging=how) as erp:
            assert len(await figures(erp.everything())) == goods


async def test_names_of_parameters_are_settings(fake):
    fake.paging, fake.page = "offset", 2
    async with session(
        fake, paging=paging("offset", sizeParameter="take", parameter="skip")
    ) as erp:
        with pytest.raises(LoopError):
            await pages(erp.everything())
    assert targets(fake)[:2] == ["/v1/stock?take=2&skip=0", "/v1/stock?take=2&skip=2"]
    async with session(
        fake, paging=paging("page", sizeParameter=None, first=0, parameter="p")
    ) as erp:
        with pytest.raises(LoopError):
            await pages(erp.everything())
    assert targets(fake)[2:4] == ["/v1/stock?p=0", "/v1/stock?p=1"]


async def test_an_endpoint_keeps_its_own_parameters(fake):
    fake.paging, fake.page = "link_header", 2
    endpoints = {"allStock": "stock?depozit=1"}
    async with session(fake, paging=paging("link_header"), endpoints=endpoints) as erp:
        assert len(await figures(erp.everything())) == 5
        await erp.check()
    assert targets(fake)[0] == "/v1/stock?depozit=1&limit=2"
    assert all("depozit=1" in target for target in targets(fake))
    assert targets(fake)[-1] == "/v1/stock?depozit=1&limit=1"


async def test_a_relative_next_url_is_of_the_page_it_stands_on(fake):
    async with session(fake, paging=paging("next_url", nextPath="links.next")) as erp:
        fake.trouble(Reply({"items": [], "links": {"next": "?limit=9"}}))
        await pages(erp.everything())
    assert targets(fake)[1] == "/v1/stock?limit=9"


@pytest.mark.parametrize("kind", ["link_header", "next_url", "cursor"])
async def test_a_circle_is_no_endless_catalogue(fake, kind):
    fake.paging, fake.page, fake.circle = kind, 2, True
    async with session(fake, paging=paging(kind)) as erp:
        with pytest.raises(LoopError):
            await pages(erp.everything())


async def test_more_pages_than_are_configured_are_no_whole(fake):
    fake.paging, fake.page = "link_header", 2
    async with session(fake, paging={"kind": "none"}) as erp:
        with pytest.raises(RefusedError, match="not configured"):
            await pages(erp.everything())


async def test_a_cursor_may_go_on_beside_a_false_word(fake):
    async with session(fake, paging=paging("cursor", morePath="more", cursorPath="at.next")) as erp:
        fake.trouble(Reply({"items": [], "at": {"next": 7}, "more": True}))
        fake.trouble(Reply({"items": [], "at": {"next": 7}, "more": False}))
        await pages(erp.everything())
    assert [request.query.get("cursor") for request in fake.requests] == [None, "7"]


async def test_an_endpoint_elsewhere_is_refused(fake):
    for path in ("https://evil.example/x", "http://127.0.0.1:1/x"):
        async with session(fake, endpoints={"allStock": path}) as erp:
            with pytest.raises(OffOriginError):
                await pages(erp.everything())
    async with session(fake, endpoints={"allStock": "//evil.example/x"}) as erp:
        with pytest.raises(RefusedError):
            await pages(erp.everything())
    assert targets(fake) == ["/v1/evil.example/x"]


# -- what changed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "asked"),
    [
        ({}, "since=2026-11-20T22%3A30%3A00Z"),
        ({"format": "date"}, "since=2026-11-20"),
        ({"format": "unix", "parameter": "t"}, "t=1795213800"),
        ({"format": "unix_ms"}, "since=1795213800000"),
    ],
)
async def test_the_moment_is_written_as_configured(fake, since, asked):
    fake.trouble(Reply([]))
    async with session(fake, since=since) as erp:
        # in Bucharest it is the next day, and days overlap by one
        await pages(erp.changed({"since": "2026-11-20T22:30:00Z"}))
    assert targets(fake) == [f"/v1/stock/changed?{asked}".replace("%3A", ":")]


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2300",
        "Sun, 22 Nov 2026 10:00:00 GMT",
        "Fri, 01 Jan 0100 00:00:00 +2300",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "soon",
    ],
)
async def test_a_date_that_cannot_be_is_no_clock(fake, date):
    fake.trouble(Reply(fake.records("A1"), headers=[("Date", date)]))
    async with session(fake) as erp:
        await pages(erp.everything())
        assert erp.watermark == {"since": "2026-11-20T09:50:00Z"}


async def test_watermarks_are_of_the_first_request_less_the_overlap(fake):
    for number in range(2):
        fake.trouble(lambda _: setattr(fake.clock, "now", fake.clock.now + 100), times=2)
        fake.tells_date = bool(number)
        fake.clock.now = 1_795_168_800.0
        async with session(fake, since={"overlapS": 60}) as erp:
            await pages(erp.everything())
            assert erp.watermark == {"since": "2026-11-20T09:59:00Z"}
            await pages(erp.changed(erp.watermark))
        fake._plan.clear()


async def test_without_an_endpoint_for_changes_all_stock_is_asked_with_the_time(fake):
    async with session(fake, endpoints={"allStock": "/stock"}) as erp:
        assert len(await figures(erp.changed({"since": "2026-11-20T22:30:00Z"}))) == 5
        with pytest.raises(InvalidInputError):
            await pages(erp.changed({"since": "yesterday"}))
    assert targets(fake) == ["/v1/stock?since=2026-11-20T22:30:00Z"]


# -- single products ---------------------------------------------------------------------------


async def test_single_products_in_batches(fake):
    async with session(fake, bySku={"batch": 2, "field": "skus"}) as erp:
        found = await figures(erp.of_skus(["A0", "A1", "A2", "NO"]))
        assert found == {("A0", "01"): "1", ("A1", "01"): "2", ("A2", "01"): "3"}
    assert [request.json for request in fake.requests] == [
        {"skus": ["A0", "A1"]},
        {"skus": ["A2", "NO"]},
    ]


async def test_single_products_one_by_one(fake):
    fake.received("A/1 ?", "9")
    endpoints = {**ENDPOINTS, "stockBySku": "/stock/{sku}"}
    async with session(fake, endpoints=endpoints, bySku={"method": "GET"}) as erp:
        found = await figures(erp.of_skus(["A0", "NO", "A/1 ?"]))
        assert found == {("A0", "01"): "1", ("A/1 ?", "01"): "9"}
        fake.trouble(Reply({"message": "no"}, 410), path="A0")
        with pytest.raises(RefusedError):
            await pages(erp.of_skus(["A0"]))
    assert targets(fake)[2] == "/v1/stock/A%2F1%20%3F"
    endpoints["stockBySku"] = "/stock"
    how = {"method": "GET", "parameter": "code"}
    async with session(fake, endpoints=endpoints, bySku=how) as erp:
        assert await figures(erp.of_skus(["A0"])) == {("A0", "01"): "1"}
    assert targets(fake)[-1] == "/v1/stock?code=A0"


async def test_one_record_is_an_answer_about_one_product(fake):
    record = fake.records("A3")[0]
    endpoints = {**ENDPOINTS, "stockBySku": "/stock/{sku}"}
    for path in (None, "items"):
        config = {"items_path": path}
        async with session(
            fake, config=config, endpoints=endpoints, bySku={"method": "GET"}
        ) as erp:
            fake.trouble(Reply({**record, "stock": {"total": 4, "free": 4}}))
            assert await figures(erp.of_skus(["A3"])) == {("A3", "01"): "4"}


async def test_without_an_endpoint_for_single_products_everything_is_read(fake):
    async with session(fake, endpoints={"allStock": "/stock"}) as erp:
        assert await figures(erp.of_skus(["A1"])) == {("A1", "01"): "2"}
        assert erp.watermark is None
    assert targets(fake) == ["/v1/stock"]


# -- envelopes, webhooks -----------------------------------------------------------------------


async def test_the_list_may_stand_anywhere(fake):
    async with session(fake, config={"items_path": "result.rows"}) as erp:
        fake.trouble(Reply({"result": {"rows": fake.records("A1")}}))
        assert await figures(erp.everything()) == {("A1", "01"): "2"}
        with pytest.raises(BadAnswerError):
            await pages(erp.everything())
        for payload in (fake.records("A1"), fake.records("A1")[0], {"data": fake.records("A1")}):
            assert await figures(erp.announced(payload)) == {("A1", "01"): "2"}
        with pytest.raises(PayloadError) as raised:
            await pages(erp.announced({"event": "ping"}))
        assert not raised.value.retryable


async def test_a_webhook_that_may_miss_lots_makes_us_ask(fake):
    fake.received("L", "5", lot="1")
    fake.received("L", "3", lot="2")
    async with session(fake) as erp:
        event = [*fake.records("L")[:1], *fake.records("A0")]
        assert await figures(erp.announced(event)) == {("L", "01"): "8", ("A0", "01"): "1"}
    assert [request.json for request in fake.requests] == [{"skus": ["L"]}]


async def test_a_check_asks_for_one_row_where_there_is_nothing_cheaper(fake):
    endpoints = {"allStock": "/stock"}
    async with session(fake, endpoints=endpoints, paging=paging("page", sizeParameter="n")) as erp:
        await erp.check()
        fake.trouble(Reply({"message": "fine"}))
        with pytest.raises(BadAnswerError):
            await erp.check()
    assert targets(fake)[0] == "/v1/stock?n=1"


@pytest.mark.parametrize("system", [SystemName.SENIOR, SystemName.WIZCOUNT])
async def test_profiles_are_unverified_and_need_their_fields(fake, system):
    assert not SYSTEMS[system].verified
    async with session(fake, system=system) as erp:
        assert len(await figures(erp.everything())) == 5
    async with any_session(system, fake) as erp:
        with pytest.raises(InvalidInputError, match=f"{system} needs field_mapping"):
            await pages(erp.everything())
    with pytest.raises(InvalidInputError, match=f"Connection of {system}"):
        read_connection(system, {})


# -- sales -------------------------------------------------------------------------------------


def sale(number=1, quantity="2", sku="A4"):
    return Sale(f"sale-{number}", sku, "01", Decimal(quantity))


async def test_nothing_is_pushed_unless_configured(fake):
    connection = read_connection(CUSTOM, fake.settings())
    assert not capabilities(CUSTOM, connection).push
    assert capabilities(CUSTOM, read_connection(CUSTOM, {**fake.settings(), "push": PUSH})).push
    async with session(fake) as erp:
        with pytest.raises(RefusedError):
            await erp.push([sale()])
    assert not fake.requests


async def test_a_sale_is_booked_once_however_often_it_is_pushed(fake):
    async with session(fake, push=PUSH) as erp:
        assert await erp.push([sale()]) == "DOC-1"
        assert await erp.push([sale()]) == "DOC-1"
        assert await erp.push([]) is None
        # the booking is carried out, its answer gets lost
        fake.trouble(_lost_post, path="/sales", after=True)
        with pytest.raises(UnreachableError):
            await erp.push([sale(2)])
        assert await erp.push([sale(2)]) == "DOC-2"
    assert fake.figures()["A4", "01"][0] == 1
    posts = [request for request in fake.requests if request.method == "POST"]
    assert [request.headers["idempotency-key"] for request in posts] == ["sale-1", "sale-2"]
    assert posts[0].json == {
        "externalId": "sale-1",
        "lines": [{"sku": "A4", "quantity": 2, "warehouse": "01", "id": "sale-1"}],
    }


def _lost_post(request):
    return Reply(lost=True) if request.method == "POST" else None


async def test_several_sales_are_one_document_with_a_key_of_their_own(fake):
    async with session(fake, push={"path": "/sales"}) as erp:
        both = [sale(1, "1"), sale(2, "0.5", "A3")]
        assert await erp.push(both) == await erp.push(both[::-1]) == "DOC-1"
        assert await erp.push(both[:1]) == "DOC-2"
        with pytest.raises(RefusedError):
            await erp.push([sale(3, "1"), sale(4, "1", "unknown")])
    assert len(fake.booked) == 2
    keys = [request.headers["idempotency-key"] for request in fake.requests]
    assert keys[0] == keys[1] != keys[2] == "sale-1"


async def test_the_body_is_written_as_configured(fake):
    rules = {
        "path": "/sales",
        "header": "X-Key",
        "lines": "rows",
        "id": None,
        "quantityAs": "text",
        "line": {"sku": "cod", "quantity": "cant", "warehouse": "gest", "id": None},
        "constants": {"tip": "VANZARE"},
        "document": "doc.numar",
    }
    config = {"warehouses": {"01": "Magazin"}}
    async with session(fake, config=config, push=rules) as erp:
        fake.trouble(Reply({"doc": {"numar": 17}}, 201))
        assert await erp.push([Sale("s1", "A1", "Magazin", Decimal("1.250"))]) == "17"
        fake.trouble(Reply(None, 204))
        assert await erp.push([Sale("s2", "A1", None, Decimal(-3))]) is None
    first, second = fake.requests
    assert first.headers["x-key"] == "s1"
    line = {"cod": "A1", "cant": "1.250", "gest": "01"}
    assert first.json == {"tip": "VANZARE", "rows": [line]}
    assert second.json["rows"] == [{"cod": "A1", "cant": "-3"}]


@pytest.mark.parametrize(
    ("answer", "booked"),
    [(Reply([]), True), (Reply({"items": []}), True), (Reply({"data": [{"id": "D-9"}]}), False)],
)
async def test_a_lookup_may_be_a_search(fake, answer, booked):
    async with session(fake, push={"path": "/sales", "lookup": "/find?key={id}"}) as erp:
        fake.trouble(answer, path="/find")
        assert await erp.push([sale()]) == ("DOC-1" if booked else "D-9")
    assert targets(fake)[0] == "/v1/find?key=sale-1"
    assert bool(fake.booked) == booked


async def test_a_lookup_in_trouble_books_nothing(fake):
    async with session(fake, push=PUSH) as erp:
        fake.trouble(Reply({"message": "later"}, 503), path="/sales/", times=99)
        with pytest.raises(UnreachableError):
            await erp.push([sale()])
    assert not fake.booked


@pytest.mark.parametrize("status", [302, 400, 403])
async def test_a_look_that_is_refused_refuses_no_sale(fake, status):
    async with session(fake, push=PUSH) as erp:
        fake.trouble(Reply({"message": "no"}, status), path="/sales/")
        with pytest.raises(BadAnswerError, match="cannot be looked up") as caught:
            await erp.push([sale()])
        assert caught.value.retryable
        assert not fake.booked
        assert await erp.push([sale()]) == "DOC-1"


@pytest.mark.parametrize("answer", [Reply(None, 201), Reply("", 200), Reply("\n", 202)])
async def test_a_booking_may_be_answered_by_nothing(fake, answer):
    async with session(fake, push={"path": "/sales"}) as erp:
        fake.trouble(answer, path="/sales", after=True)
        assert await erp.push([sale()]) is None
    assert len(fake.booked) == 1


@pytest.mark.parametrize("body", ["<html>login", '{"id": '])
async def test_what_cannot_be_read_says_of_no_booking(fake, body):
    async with session(fake, push={"path": "/sales"}) as erp:
        fake.trouble(Reply(body), path="/sales")
        with pytest.raises(BadAnswerError):
            await erp.push([sale()])


async def test_both_sessions_of_tokens_are_closed(fake):
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeTokenServer(fake.clock))
        fake.auth, fake.token_server = "oauth2", server
        async with session(fake, also=[server]) as erp:
            await erp.check()
            tasks = [*fake._tasks, *server._tasks]
            assert len(tasks) == 2
        for task in tasks:
            await task
