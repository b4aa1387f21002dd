"""The Service Layer over HTTP: sessions that end, pages that shrink, events."""

import asyncio
import base64
import hmac
import json
import logging
from decimal import Decimal

import pytest
import structlog
from pydantic import ValidationError

from cerniq_stock.erp.fakes.base import Reply
from cerniq_stock.erp.fakes.sap_b1 import CROSSED
from cerniq_stock.erp.rows import PayloadError, SkipCode
from cerniq_stock.erp.sap_b1_session import SapB1Connection
from cerniq_stock.erp.sap_b1_webhooks import handshake_answer, is_signed
from cerniq_stock.erp.source import Sale
from cerniq_stock.erp.trouble import (
    ErpError,
    OffOriginError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)
from tests.erp.service_layer import BUSY, PASSWORD, asked, fake, figures, many, opened, read


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
        for event in (payload, server.event("Items", Code="A-001")):
            with pytest.raises(PayloadError) as raised:
                await read(source.announced(event))
            assert not raised.value.retryable
    assert server.requests == []


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
