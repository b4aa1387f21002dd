"""The Service Layer over HTTP: sessions that end, pages that shrink, documents made once."""

import asyncio
import base64
import hmac
import json
import logging
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
import structlog
from pydantic import ValidationError

from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.fakes.base import FakeClock, Reply
from cerniq_stock.erp.fakes.sap_b1 import CROSSED, ENTRIES, EXITS, FakeSapB1
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import Retry
from cerniq_stock.erp.rows import PayloadError, SkipCode
from cerniq_stock.erp.sap_b1_session import SapB1Connection, open_sap_b1
from cerniq_stock.erp.sap_b1_webhooks import handshake_answer, is_signed
from cerniq_stock.erp.session import Dial
from cerniq_stock.erp.source import Sale
from cerniq_stock.erp.trouble import (
    ErpError,
    OffOriginError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)

PASSWORD = "canary-sap-password"
BUSY = Reply(None, 503)


def fake(**options):
    server = FakeSapB1(FakeClock(), **options)
    server.item("A-001", price="0.35", currency="RON")
    server.received("A-001", "120")
    server.ordered("A-001", "30")
    server.received("A-001", "20", "02")
    server.item("O'Ring & co/5% +1")
    server.received("O'Ring & co/5% +1", "7.5")
    server.item("SERVICE", InventoryItem="tNO")
    return server


def many(count=45, **options):
    server = FakeSapB1(FakeClock(), **options)
    for number in range(count):
        server.item(f"P-{number:03}")
        server.received(f"P-{number:03}", str(number + 1))
    return server


@asynccontextmanager
async def opened(server, config=None, retry=None, **given):
    settings = {"base_url": server.url, "company_db": "SBODEMO", "user_name": "manager"}
    connection = SapB1Connection(**{**settings, "password": PASSWORD, **given})
    policy = Policy.parse(f"127.0.0.1:{server.port}")
    dial = Dial(policy, clock=server.clock.clock(), retry=retry or Retry())
    async with open_sap_b1(connection, dial, read_config(config or {})) as source:
        yield source


async def read(pages):
    return [row async for page in pages for row in page.rows]


def figures(rows):
    return {(row.sku, row.warehouse): (row.total, row.available) for row in rows}


def asked(server, path):
    return [request for request in server.requests if path in request.path]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_items_come_with_their_warehouses_prices_and_states(version):
    async with fake() as server, opened(server, {"price_list": 1}, version=version) as source:
        pages = [page async for page in source.everything()]
        health = await source.check()
        assert source.watermark is None
    rows = [row for page in pages for row in page.rows]
    assert figures(rows)["A-001", "01"] == (Decimal(120), Decimal(90))
    assert figures(rows)["A-001", "99"] == (0, 0)  # a warehouse that was never used is there, too
    assert rows[0].price == Decimal("0.35")
    assert [skipped.code for page in pages for skipped in page.skipped] == [SkipCode.NOT_STOCKABLE]
    assert health.latency_s == 0
    assert asked(server, f"/b1s/{version}/Items")
    assert (server.logins, server.logouts, server.sessions) == (1, 1, {})
    question = asked(server, "/Items")[0].query
    assert question["$orderby"] == "ItemCode"
    assert set(question["$select"].split(",")) >= {"ItemCode", "ItemWarehouseInfoCollection"}
    assert "QuantityOnStock" not in question["$select"]
    assert "ItemName" not in question["$select"]


async def test_without_a_price_list_no_prices_are_asked_for():
    async with fake() as server, opened(server) as source:
        rows = await read(source.everything())
    assert "ItemPrices" not in asked(server, "/Items")[0].query["$select"]
    assert rows[0].price is None


def test_the_service_may_be_named_whole():
    given = {"companyDb": "X", "userName": "m", "password": "x" * 5}
    both = SapB1Connection(baseUrl="https://sap.example:50000/b1s/v1", **given)
    assert (both.root, both.odata) == ("https://sap.example:50000/b1s/v1/", 3)
    host = SapB1Connection(baseUrl="https://sap.example:50000/", version="v2", **given)
    assert (host.root, host.odata) == ("https://sap.example:50000/b1s/v2/", 4)


# -- sessions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_cookies_are_sent_by_hand_as_the_one_has_no_path(version):
    async with fake() as server, opened(server, version=version) as source:
        await source.check()
    login, question, logout = server.requests
    assert login.path == f"/b1s/{version}/Login"
    assert "cookie" not in login.headers
    assert login.json == {"CompanyDB": "SBODEMO", "UserName": "manager", "Password": PASSWORD}
    for request in (question, logout):
        session, route = request.headers["cookie"].split("; ")
        assert session.startswith("B1SESSION=")
        assert route == "ROUTEID=.node1"
    assert logout.path == f"/b1s/{version}/Logout"


async def test_an_idle_session_is_renewed_and_a_used_one_is_kept():
    async with fake() as server, opened(server) as source:
        await source.check()
        for _ in range(3):
            server.clock.now += 29 * 60
            await source.check()
        assert server.logins == 1
        server.clock.now += 30 * 60
        await source.check()
        assert server.logins == 2


@pytest.mark.parametrize("stock", ["items", "crossjoin"])
async def test_a_session_that_ends_between_pages_costs_nothing_but_a_login(stock):
    config = {"warehouses": ["01"]}
    async with (
        many(expire_after=2) as server,
        opened(server, config, stock=stock, page_size=20) as source,
    ):
        rows = await read(source.everything())
    assert len(rows) == 45
    assert server.logins == 2


async def test_many_questions_log_in_once_and_again_once():
    async with fake() as server, opened(server) as source:
        await asyncio.gather(*(source.check() for _ in range(5)))
        assert server.logins == 1
        server.expire()
        await asyncio.gather(*(source.check() for _ in range(5)))
        assert server.logins == 2


@pytest.mark.parametrize("status", [400, 401, 403, 500])
async def test_a_refused_login_is_never_tried_again(status):
    changed = {"manager": "changed"}
    async with fake(login_status=status, users=changed) as server, opened(server) as source:
        for _ in range(3):
            with pytest.raises(UnauthorizedError) as caught:
                await source.check()
            assert PASSWORD not in str(caught.value)
        with pytest.raises(UnauthorizedError):
            await read(source.everything())
    assert server.logins == 1
    assert server.logouts == 0


async def test_a_session_that_is_never_good_ends_in_an_error():
    async with fake() as server, opened(server) as source:
        server.trouble(Reply({"error": {"code": 301}}, 401), path="Items", times=99)
        with pytest.raises(UnauthorizedError):
            await source.check()
    assert server.logins == 2


async def test_a_balancer_in_trouble_is_no_refused_login():
    async with fake() as server, opened(server) as source:
        server.trouble(Reply(None, 500), path="Login")
        with pytest.raises(UnreachableError):
            await source.check()
        assert server.logins == 0
        await source.check()


async def test_paths_are_case_sensitive():
    async with fake() as server, opened(server) as source:
        with pytest.raises(UnauthorizedError):
            await source.client.request("POST", "login", json_body={}, authorize=False)


async def test_a_logout_that_fails_is_of_no_interest():
    async with fake() as server, opened(server) as source:
        await source.check()
        server.trouble(BUSY, path="Logout")


async def test_nothing_is_logged_out_that_never_logged_in():
    async with fake() as server, opened(server):
        pass
    assert server.requests == []


async def test_nobody_expects_100_continue():
    """Some balancers answer it with an empty 500; this one would."""
    sale = Sale("s-1", "A-001", "01", Decimal(1))
    async with fake(refuses_expect=True) as server, opened(server) as source:
        assert await source.push([sale])
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = "POST /b1s/v2/Login HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        writer.write(head.encode())
        assert b" 500 " in await reader.readline()
        writer.close()
        asked_so = ["expect" in request.headers for request in server.requests]
    assert asked_so == [False] * (len(asked_so) - 1) + [True]


# -- pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("links", ["relative", "path", "absolute"])
async def test_links_of_every_form_are_followed_and_each_page_is_preferred(version, links):
    given = {"version": version, "page_size": 30}
    async with many(links=links) as server, opened(server, **given) as source:
        rows = await read(source.everything())
    assert len({row.sku for row in rows}) == 45
    pages = asked(server, "/Items")
    assert [page.headers["prefer"] for page in pages] == ["odata.maxpagesize=30"] * 2


async def test_a_page_has_twenty_rows_unless_it_is_preferred():
    async with many() as server, opened(server) as source:
        answer = await source.client.get("Items?$select=ItemCode")
        assert len(answer.data["value"]) == 20
        answer = await source.client.get("Items?$select=ItemCode&$inlinecount=allpages")
        assert answer.data["odata.count"] == "45"


async def test_links_lead_nowhere_else():
    async with many(links="foreign") as server, opened(server, page_size=20) as source:
        with pytest.raises(OffOriginError):
            await read(source.everything())


async def test_rows_that_move_to_the_next_page_come_once():
    async with many() as server, opened(server, page_size=20) as source:
        found = []
        async for page in source.everything():
            if not found:
                server.item("A-FIRST")
            found += page.rows
    assert len({row.sku for row in found}) == 45
    assert len(found) == 45 * 3


async def test_a_busy_balancer_is_asked_again():
    async with many() as server, opened(server, page_size=20) as source:
        for status in (502, 503, 504):
            server.trouble(Reply(None, status), path="Items")
        assert len(await read(source.everything())) == 45 * 3
    assert len(server.clock.slept) == 3


async def test_a_page_that_fails_for_good_fails_the_reading():
    async with many() as server, opened(server, page_size=20) as source:
        pages = source.everything()
        assert len((await anext(pages)).rows) == 20 * 3
        server.trouble(BUSY, path="Items", times=99)
        with pytest.raises(UnreachableError):
            await anext(pages)


# -- stock only -------------------------------------------------------------------------------


async def test_a_crossjoin_reads_figures_only():
    config = {"warehouses": {"01": "Sediu", "02": "O'Depozit"}}
    async with fake() as server, opened(server, config, stock="crossjoin") as source:
        rows = await read(source.everything())
        assert asked(server, CROSSED)
        assert figures(rows)["A-001", "Sediu"] == (Decimal(120), Decimal(90))
        assert figures(rows)["O'Ring & co/5% +1", "O'Depozit"] == (0, 0)
        assert len(rows) == 4  # no services, no warehouse 99
        assert {(row.price, row.status) for row in rows} == {(None, None)}


async def test_totals_are_those_of_all_warehouses():
    async with fake() as server, opened(server, stock="totals") as source:
        rows = await read(source.everything())
    assert figures(rows)["A-001", None] == (Decimal(140), Decimal(110))
    assert "ItemWarehouseInfoCollection" not in asked(server, "/Items")[0].query["$select"]


async def test_more_may_be_ordered_than_there_is():
    async with fake() as server, opened(server) as source:
        server.ordered("A-001", "500")
        found = figures(await read(source.of_skus(["A-001"])))
    assert found["A-001", "01"] == (Decimal(120), Decimal(-410))


# -- by SKU, by events ------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_single_items_with_any_sign_in_their_codes(version):
    strange = "O'Ring & co/5% +1"
    async with fake() as server, opened(server, version=version) as source:
        rows = await read(source.of_skus([strange, "UNKNOWN", strange]))
    assert {row.sku for row in rows} == {strange}
    questions = asked(server, "/Items")
    assert len(questions) == 1
    assert "O''Ring%20%26%20co/5%25%20%2B1" in questions[0].target


async def test_items_are_asked_for_twenty_at_once_and_fewer_where_codes_are_long():
    async with many() as server, opened(server) as source:
        rows = await read(source.of_skus([f"P-{number:03}" for number in range(45)]))
        assert len({row.sku for row in rows}) == 45
        assert len(asked(server, "/Items")) == 3
        for number in range(20):
            server.item(f"{'ș' * 45}{number}")
        rows = await read(source.of_skus([f"{'ș' * 45}{number}" for number in range(20)]))
    assert len({row.sku for row in rows}) == 20
    assert max(len(request.target) for request in server.requests) < 5000


async def test_nothing_asked_for_is_nothing_sent():
    async with fake() as server, opened(server) as source:
        assert await read(source.of_skus([])) == []
    assert server.requests == []


async def test_it_does_not_tell_what_changed():
    """UpdateDate stays where it is while stock moves, so nothing may go on from there."""
    async with fake() as server, opened(server) as source:
        before = [row.last_modified for row in await read(source.of_skus(["A-001"]))]
        server.sold("A-001", "5")
        rows = await read(source.of_skus(["A-001"]))
        assert [row.last_modified for row in rows] == before
        assert rows[0].total == 115
        with pytest.raises(RefusedError):
            await read(source.changed({}))


@pytest.mark.parametrize("batch", [False, True])
async def test_events_make_it_read_their_items(batch):
    async with fake() as server, opened(server) as source:
        server.sold("A-001", "5")
        event = server.event("Items", ItemCode="A-001")
        rows = await read(source.announced([event, event] if batch else event))
    assert figures(rows)["A-001", "01"] == (Decimal(115), Decimal(85))
    assert len(asked(server, "/Items")) == 1


async def test_events_of_documents_make_it_read_what_is_in_them():
    async with fake() as server, opened(server) as source:
        entry = server.ordered("A-001", "2")
        events = [
            server.event("Orders", "Created", DocEntry=entry),
            server.event("Orders", "Created", DocEntry=999),
            server.event("BusinessPartners", CardCode="C1"),
        ]
        rows = await read(source.announced(events))
    assert figures(rows)["A-001", "01"] == (Decimal(120), Decimal(88))


def test_a_webhook_is_known_by_its_signature_in_either_writing():
    body, key = '[{"id":"ș"}]'.encode(), "canary-webhook-key"
    digest = hmac.new(key.encode(), body, "sha256").digest()
    for written in (digest.hex(), digest.hex().upper(), base64.b64encode(digest).decode()):
        assert is_signed(body, written, key)
        assert is_signed(body, f" {written} ", key)
        assert not is_signed(body + b" ", written, key)
        assert not is_signed(body, written, "another")
        assert not is_signed(body, written[:-2], key)
    for nothing in (None, "", "ș", "=="):
        assert not is_signed(body, nothing, key)
    assert not is_signed(body, hmac.new(b"", body, "sha256").hexdigest(), "")


def test_a_handshake_repeats_the_token():
    assert handshake_answer({"x-b1-webhook-token": "t-1"}) == {"Challenge": "t-1"}
    assert handshake_answer({}) is None
    assert handshake_answer({"x-b1-webhook-token": "t" * 5000}) is None


@pytest.mark.parametrize("payload", [None, 7, "x", {}, [1], {"type": "sap.b1.Items.Updated.v1"}])
async def test_what_is_no_event_is_an_error(payload):
    async with fake() as server, opened(server) as source:
        with pytest.raises(PayloadError):
            await read(source.announced(payload))
        with pytest.raises(PayloadError):
            await read(source.announced(server.event("Items", Code="A-001")))
    assert server.requests == []


# -- pushing ----------------------------------------------------------------------------------


def sale(quantity="3", id_="s-1", sku="A-001", warehouse="01"):
    return Sale(id_, sku, warehouse, Decimal(quantity))


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_sales_become_one_goods_issue_and_stay_one(version):
    async with fake() as server, opened(server, version=version) as source:
        sales = [sale(), sale("2.5", "s-2", "O'Ring & co/5% +1")]
        number = await source.push(sales)
        assert number == "7001"
        assert await source.push(sales) == number
        document = server.documents[EXITS][0]
        assert document["Comments"] == "cerniq-stock (s-1) (s-2)"
        assert document["DocumentLines"] == [
            {"ItemCode": "A-001", "Quantity": 3, "WarehouseCode": "01"},
            {"ItemCode": "O'Ring & co/5% +1", "Quantity": Decimal("2.5"), "WarehouseCode": "01"},
        ]
        assert len(server.documents[EXITS]) == 1
        assert server.shelves["A-001", "01"]["InStock"] == 117


async def test_what_came_back_becomes_a_receipt():
    async with fake() as server, opened(server) as source:
        assert await source.push([sale("-3")]) == "7001"
        assert server.documents[ENTRIES][0]["DocumentLines"][0]["Quantity"] == 3
        assert server.shelves["A-001", "01"]["InStock"] == 123
        assert await source.push([]) is None
        assert await source.push([sale("0", "s-0")]) is None
        assert await source.push([sale("-3"), sale("0", "s-0")]) == "7001"


async def test_an_id_that_begins_as_another_is_not_that_one():
    async with fake() as server, opened(server) as source:
        await source.push([sale(id_="s-11")])
        await source.push([sale(id_="s-1")])
        assert len(server.documents[EXITS]) == 2


async def test_only_what_is_not_booked_yet_is_booked():
    async with fake() as server, opened(server) as source:
        await source.push([sale()])
        assert await source.push([sale(), sale(id_="s-2")]) == "7002"
        assert server.documents[EXITS][1]["Comments"] == "cerniq-stock (s-2)"
        assert server.shelves["A-001", "01"]["InStock"] == 114


@pytest.mark.parametrize("trouble", [Reply(lost=True), BUSY, Reply(None, 504)])
async def test_an_answer_that_was_lost_is_looked_for(trouble):
    async with fake() as server, opened(server) as source:
        server.trouble(trouble, path=EXITS, after=False)  # the first look
        server.trouble(
            lambda request: trouble if request.method == "POST" else None, path=EXITS, after=True
        )
        assert await source.push([sale()]) == "7001"
        assert len(server.documents[EXITS]) == 1


async def test_a_document_that_was_not_made_is_left_to_a_later_try():
    async with fake() as server, opened(server) as source:
        server.trouble(lambda request: BUSY if request.method == "POST" else None, path=EXITS)
        with pytest.raises(UnreachableError) as caught:
            await source.push([sale()])
        assert caught.value.retryable
        assert server.documents[EXITS] == []
        assert await source.push([sale()]) == "7001"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_negative_stock_is_a_refusal_and_changes_nothing(version):
    async with fake() as server, opened(server, version=version) as source:
        with pytest.raises(RefusedError, match="less of a product") as caught:
            await source.push([sale(), sale("500", "s-2")])
        assert not caught.value.retryable
        assert server.shelves["A-001", "01"]["InStock"] == 120
        assert len([r for r in asked(server, EXITS) if r.method == "POST"]) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"ManageBatchNumbers": "tYES"},
        {"ManageSerialNumbers": "tYES"},
        {"InventoryItem": "tNO"},
    ],
)
async def test_what_a_quantity_alone_does_not_book_is_refused_before(more):
    async with fake() as server, opened(server) as source:
        server.item("LOT", **more)
        with pytest.raises(RefusedError):
            await source.push([sale(sku="LOT")])
        with pytest.raises(RefusedError):
            await source.push([sale(sku="UNKNOWN")])
    assert not [request for request in asked(server, EXITS) if request.method == "POST"]


async def test_one_document_holds_no_more_than_its_remarks_can_name():
    async with fake() as server, opened(server) as source:
        ids = [f"0192f0c1-7a1b-7c3d-8e4f-{number:012}" for number in range(7)]
        with pytest.raises(RefusedError):
            await source.push([sale(id_=id_) for id_ in ids])
        with pytest.raises(RefusedError):
            await source.push([sale(), sale("-1", "s-2")])
        await source.push([sale(id_=id_) for id_ in ids[:6]])


async def test_warehouses_are_named_there_as_they_are_there():
    config = {"warehouses": {"02": "Depozit"}}
    async with fake() as server, opened(server, config) as source:
        await source.push([sale(warehouse="Depozit")])
        with pytest.raises(RefusedError):
            await source.push([sale(id_="s-2", warehouse="01")])
        assert server.shelves["A-001", "02"]["InStock"] == 17


# -- secrets ----------------------------------------------------------------------------------


async def test_secrets_stay_secret(caplog):
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        async with fake(expire_after=1) as server, opened(server) as source:
            await read(source.everything())
            names = list(server.sessions)
            shown = [repr(source), repr(source.client.auth), str(logs)]
            server.trouble(Reply({"error": {"message": f"{PASSWORD} {names}"}}, 400), path="Items")
            with pytest.raises(ErpError) as caught:
                await source.check()
            shown += [str(caught.value), repr(caught.value), repr(caught.value.args)]
    everything = " ".join([*shown, json.dumps(logs, default=str), caplog.text])
    for secret in (PASSWORD, *names):
        assert secret
        assert secret not in everything
    with pytest.raises(ValidationError) as wrong:
        SapB1Connection(base_url="https://x.example", password=PASSWORD)
    assert PASSWORD not in str(wrong.value)
    connection = SapB1Connection(
        base_url="https://x.example", company_db="X", user_name="m", password=PASSWORD
    )
    assert PASSWORD not in repr(connection)
