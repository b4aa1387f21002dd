"""Business Central over HTTP: what the ledger knows and items do not tell, and subscriptions."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from email.utils import formatdate

import pytest
import structlog

from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.connection import capabilities, read_connection
from cerniq_stock.erp.fakes.base import FakeClock, FakeServer, Reply
from cerniq_stock.erp.fakes.microsoft_bc import LIFETIME_S, SCOPE, FakeMicrosoftBc
from cerniq_stock.erp.fakes.stock import Tokens
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.microsoft_bc_session import (
    MicrosoftBcConnection,
    notifications,
    open_microsoft_bc,
)
from cerniq_stock.erp.microsoft_bc_webhooks import (
    handshake_answer,
    renew,
    subscribe,
    unsubscribe,
)
from cerniq_stock.erp.rows import PayloadError, SystemName
from cerniq_stock.erp.session import Dial
from cerniq_stock.erp.source import Sale
from cerniq_stock.erp.trouble import (
    ErpError,
    OffOriginError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from cerniq_stock.errors import InvalidInputError

STRANGE = "O'RING & 5% +1"


def fake(count=6, **options):
    server = FakeMicrosoftBc(FakeClock(), **options)
    for number in range(count):
        server.received(f"P-{number:03}", str(number + 1))
    server.item("TRANSPORT", kind="Service")
    # what is newest is no stock, so the overlap brings nothing of that day again
    server.clock.now += 86_400
    server.edited("TRANSPORT")
    return server


@asynccontextmanager
async def opened(server, config=None, **given):
    connection = MicrosoftBcConnection(**{**server.settings(), **given})
    dial = Dial(Policy.parse(f"127.0.0.1:{server.port}"), clock=server.clock.clock())
    async with open_microsoft_bc(connection, dial, read_config(config or {})) as source:
        yield source


async def read(pages):
    return [row async for page in pages for row in page.rows]


async def skus(pages):
    return [row.sku for row in await read(pages)]


def asked(server, path):
    return [request for request in server.requests if path in request.path]


async def whole(source):
    """Read everything and return the mark from there."""
    await read(source.everything())
    return source.watermark


# -- the whole, tokens, companies -------------------------------------------------------------


async def test_items_come_without_warehouses_and_reservations():
    async with fake() as server, opened(server, {"company_currency": "RON"}) as source:
        server.sold("P-000", "3")
        server.edited("P-001", blocked=True)
        rows = await read(source.everything())
    found = {row.sku: row for row in rows}
    assert len(found) == 6
    assert found["P-000"].total == -2
    assert (found["P-000"].available, found["P-000"].warehouse) == (None, None)
    assert (found["P-000"].price, found["P-000"].currency) == (Decimal(10), "RON")
    assert found["P-001"].status == "INACTIVE"
    question = asked(server, "/items")[-1].query
    assert question["$select"] == "number,type,inventory,unitPrice,blocked,lastModifiedDateTime"


async def test_the_addresses_are_microsofts_unless_said_otherwise():
    given = {"tenantId": "a/b.example", "clientId": "x", "clientSecret": "y" * 9, "company": "c"}
    usual = read_connection(SystemName.MICROSOFT_BC, given)
    assert usual.root == (
        "https://api.businesscentral.dynamics.com/v2.0/a%2Fb.example/production/api/v2.0/"
    )
    assert usual.tokens == "https://login.microsoftonline.com/a%2Fb.example/oauth2/v2.0/token"
    assert usual.scope == SCOPE
    assert not capabilities(SystemName.MICROSOFT_BC).push


async def test_a_token_is_asked_for_once_and_again_before_it_ends():
    async with fake() as server, opened(server) as source:
        await asyncio.gather(*(source.check() for _ in range(4)))
        assert len(server.tokens.given) == 1
        form = asked(server, "/token")[0].form
        assert form["grant_type"] == "client_credentials"
        assert form["scope"] == SCOPE
        server.clock.now += 3600 - 30
        await source.check()
        assert len(server.tokens.given) == 2
        server.tokens.revoke()
        await source.check()
        assert len(server.tokens.given) == 3


@pytest.mark.parametrize(
    "wrong", [{"scope": "https://api.businesscentral.dynamics.com"}, {"client_secret": "canary-2"}]
)
async def test_a_wrong_scope_or_secret_is_told_once(wrong):
    async with fake() as server, opened(server, **wrong) as source:
        for _ in range(3):
            with pytest.raises(UnauthorizedError) as caught:
                await source.check()
            assert "canary" not in str(caught.value)
            assert "AADSTS" not in str(caught.value)
        assert len(server.requests) == 1


async def test_a_company_is_known_by_its_id_or_either_name():
    async with fake() as server:
        for company in (server.company, server.company.upper(), "cronus ro", "CRONUS RO (afișat)"):
            async with opened(server, company=company) as source:
                assert await source.company() == server.company
                await source.check()
        async with opened(server, company="Alta firma SRL") as source:
            assert await read(source.everything()) == []
        for company in ("CRONUS", server.company[:-1]):
            async with opened(server, company=company) as source:
                with pytest.raises(RefusedError):
                    await source.check()
        server.companies.append(("77777777-0000-4000-8000-000000000000", "Cronus RO"))
        async with opened(server, company="CRONUS RO") as source:
            with pytest.raises(RefusedError, match="more than one"):
                await source.check()


async def test_a_check_measures():
    async with fake() as server, opened(server) as source:
        assert (await source.check()).latency_s == 0


# -- pages, limits ----------------------------------------------------------------------------


async def test_every_page_is_preferred_and_an_empty_one_is_no_end():
    async with fake(65, empty_pages=2) as server, opened(server, page_size=20) as source:
        assert len(await skus(source.everything())) == 65
    pages = [one for one in asked(server, "/items") if "$top" not in one.query]
    assert len(pages) == 4 + 3 * 2
    assert {page.headers["prefer"] for page in pages} == {"odata.maxpagesize=20"}


async def test_the_server_may_give_fewer_rows_than_preferred():
    async with fake(25, page_most=10) as server, opened(server) as source:
        assert len(await skus(source.everything())) == 25


async def test_links_lead_nowhere_else():
    async with fake(25, page_most=10, foreign_links=True) as server, opened(server) as source:
        with pytest.raises(OffOriginError):
            await read(source.everything())
        assert source.watermark is None


async def test_too_many_requests_are_waited_for():
    async with fake() as server, opened(server) as source:
        server.limit()
        server.limit("17")
        server.limit(formatdate(server.clock.now + 30, usegmt=True))
        assert len(await skus(source.everything())) == 6
        assert server.clock.slept[:2] == [0.5, 17.0]
        assert 12 <= server.clock.slept[2] <= 30
        server.limit("900")
        with pytest.raises(RateLimitedError) as caught:
            await source.check()
        assert caught.value.retry_after_s == 900


@pytest.mark.parametrize(
    ("status", "error"), [(503, UnreachableError), (504, UnreachableError), (408, TimedOutError)]
)
async def test_trouble_passes_or_is_told(status, error):
    async with fake(25, page_most=10) as server, opened(server) as source:
        server.trouble(Reply(None, status), path="/items", times=2)
        assert len(await skus(source.everything())) == 25
        pages = source.everything()
        await anext(pages)
        server.trouble(Reply(None, status), path="/items", times=99)
        with pytest.raises(error):
            await anext(pages)
        assert source.watermark is None


# -- what changed -----------------------------------------------------------------------------


async def test_a_sale_is_found_though_the_item_says_nothing():
    """The trap: items alone, asked by lastModifiedDateTime, would miss it."""
    async with fake() as server, opened(server, entry_overlap=0) as source:
        mark = await whole(source)
        server.clock.now += 86_400
        assert await skus(source.changed(mark)) == []
        before = dict(server.items["P-002"])
        server.sold("P-002", "2")
        assert server.items["P-002"]["lastModifiedDateTime"] == before["lastModifiedDateTime"]
        rows = await read(source.changed(source.watermark))
        assert [(row.sku, row.total) for row in rows] == [("P-002", 1)]
        assert await skus(source.changed(source.watermark)) == []


async def test_an_edit_without_a_movement_is_found():
    async with fake() as server, opened(server, entry_overlap=0) as source:
        mark = await whole(source)
        server.clock.now += 86_400
        server.edited("P-003", unitPrice=Decimal("12.5"))
        rows = await read(source.changed(mark))
        assert [(row.sku, row.price) for row in rows] == [("P-003", Decimal("12.5"))]
        # the overlap of five minutes reads it once more, and a clock of ours has no say
        assert source.watermark["modified"] == server.items["P-003"][
            "lastModifiedDateTime"
        ].replace(".000Z", "Z")
        assert await skus(source.changed(source.watermark)) == ["P-003"]
        last = asked(server, "/items")[-1].query["$filter"]
        five = timedelta(minutes=5)
        newest, since = rows[0].last_modified, last.removeprefix("lastModifiedDateTime gt ")
        assert since == f"{newest - five:%Y-%m-%dT%H:%M:%SZ}"


async def test_entries_that_become_visible_late_are_found():
    async with fake() as server, opened(server, entry_overlap=3) as source:
        late = server.open_entry()
        server.sold("P-001", "1")
        mark = await whole(source)
        assert mark["entry"] == late + 1
        server.clock.now += 86_400
        server.commit_entry(late, "P-004", "40")
        found = {row.sku: row.total for row in await read(source.changed(mark))}
        assert found["P-004"] == 45
    # the control: without an overlap it is missed
    async with fake() as server, opened(server, entry_overlap=0) as source:
        late = server.open_entry()
        server.sold("P-001", "1")
        mark = await whole(source)
        server.clock.now += 86_400
        server.commit_entry(late, "P-004", "40")
        assert await skus(source.changed(mark)) == []


async def test_an_item_that_moved_and_was_edited_is_read_once_after_the_ledger():
    async with fake() as server, opened(server, entry_overlap=0) as source:
        mark = await whole(source)
        server.sold("P-002", "1")
        server.edited("P-002", unitPrice=Decimal(11))
        server.clock.now += 86_400
        server.requests.clear()
        assert (await skus(source.changed(mark))).count("P-002") == 1
        paths = [request.path.rpartition("/")[2] for request in server.requests]
        assert [path for path in paths if path != "token"] == ["itemLedgerEntries", "items"]


async def test_items_of_the_ledger_are_read_twenty_at_once():
    async with fake(45, page_most=10) as server, opened(server, entry_overlap=0) as source:
        server.item(STRANGE)
        server.clock.now += 600
        server.edited("TRANSPORT")
        mark = await whole(source)
        server.clock.now += 86_400
        for number in range(45):
            server.sold(f"P-{number:03}", "1")
        server.received(STRANGE, "7")
        server.requests.clear()
        found = await skus(source.changed(mark))
        assert sorted(found) == sorted([*(f"P-{number:03}" for number in range(45)), STRANGE])
        questions = [one.query.get("$filter", "") for one in asked(server, "/items")]
        assert max(text.count("number eq") for text in questions) == 20
        assert any("number eq 'O''RING & 5% +1'" in text for text in questions)


async def test_the_mark_is_taken_before_and_moves_only_at_the_end():
    async with fake(25, page_most=10) as server, opened(server, entry_overlap=0) as source:
        pages = source.everything()
        await anext(pages)
        assert source.watermark is None
        server.sold("P-000", "1")
        async for _ in pages:
            pass
        mark = source.watermark
        server.clock.now += 86_400
        assert "P-000" in await skus(source.changed(mark))
        moved = source.watermark
        server.sold("P-001", "1")
        server.trouble(Reply(None, 400), path="/items")
        with pytest.raises(RefusedError):
            await read(source.changed(moved))
        assert source.watermark is None


async def test_an_empty_company_has_a_mark_and_goes_on_from_it():
    async with fake(0) as server, opened(server) as source:
        server.items.clear()
        mark = await whole(source)
        assert mark == {"entry": 0, "modified": None}
        server.received("NEW", "5")
        assert await skus(source.changed(mark)) == ["NEW"]


@pytest.mark.parametrize("mark", [{}, {"entry": "7"}, {"entry": True}, {"entry": 1, "modified": 7}])
async def test_what_is_no_mark_is_refused(mark):
    async with fake() as server, opened(server) as source:
        with pytest.raises(InvalidInputError):
            await read(source.changed(mark))


async def test_single_items():
    async with fake() as server, opened(server) as source:
        server.received(STRANGE, "7")
        assert sorted(await skus(source.of_skus([STRANGE, "P-001", "NONE"]))) == [STRANGE, "P-001"]
        with pytest.raises(RefusedError):
            await source.push([Sale("s-1", "P-001", None, Decimal(1))])


# -- subscriptions and notifications ----------------------------------------------------------


class Receiver(FakeServer):
    """Where notifications go: shakes hands, and answers `status`."""

    status = 202
    shakes = True

    async def answer(self, request):
        token = handshake_answer(request.query)
        if token is not None:
            return Reply(token if self.shakes else "no", 200)
        return Reply(None, self.status)

    @property
    def told(self):
        return [one.body for one in self.requests if "validationToken" not in one.query]


@asynccontextmanager
async def subscribed(**options):
    async with fake(**options) as server, Receiver() as receiver, opened(server) as source:
        subscription = await subscribe(source, f"{receiver.url}/hook")
        server.changes.clear()
        yield server, receiver, source, subscription


async def test_a_subscription_shakes_hands_when_it_is_made_and_renewed():
    async with subscribed() as (server, receiver, source, subscription):
        now = server.clock.now
        assert subscription.expires_at.timestamp() == pytest.approx(now + LIFETIME_S, abs=1)
        assert subscription.renew_at.timestamp() == pytest.approx(now + LIFETIME_S / 2, abs=1)
        server.clock.now += LIFETIME_S / 2
        renewed = await renew(source, subscription)
        assert renewed.id == subscription.id
        assert renewed.expires_at - subscription.expires_at == timedelta(seconds=LIFETIME_S / 2)
        assert len(receiver.requests) == 2
        patched = next(one for one in server.requests if one.method == "PATCH")
        assert patched.headers["if-match"] == subscription.etag
        made = next(
            one for one in server.requests if one.path.endswith("/subscriptions") and one.body
        )
        assert made.json["resource"] == f"/api/v2.0/companies({server.company})/items"


async def test_a_receiver_that_does_not_shake_hands_gets_no_subscription():
    async with fake() as server, Receiver() as receiver, opened(server) as source:
        receiver.shakes = False
        with pytest.raises(RefusedError):
            await subscribe(source, f"{receiver.url}/hook")
        assert server.subscriptions == {}


async def test_a_subscription_whose_answer_was_lost_is_found_again():
    async with fake() as server, Receiver() as receiver, opened(server) as source:
        lost = Reply(lost=True)
        server.trouble(
            lambda one: lost if one.method == "POST" else None, path="subscriptions", after=True
        )
        with pytest.raises(UnreachableError):
            await subscribe(source, f"{receiver.url}/hook")
        subscription = await subscribe(source, f"{receiver.url}/hook")
        assert list(server.subscriptions) == [subscription.id]


@pytest.mark.parametrize("status", [409, 412])
async def test_a_stale_etag_is_read_again(status):
    async with subscribed(stale_status=status) as (server, _, source, subscription):
        await renew(source, subscription)
        assert (await renew(source, subscription)).etag != subscription.etag
        await unsubscribe(source, subscription)
        assert server.subscriptions == {}
        await unsubscribe(source, subscription)


async def test_a_subscription_ends_after_three_days():
    async with subscribed() as (server, receiver, source, subscription):
        server.clock.now += LIFETIME_S
        assert await renew(source, subscription) is None
        await server.notify()
        assert receiver.told == []


@pytest.mark.parametrize(("status", "stays"), [(202, True), (503, True), (429, True), (400, False)])
async def test_only_some_answers_keep_a_subscription(status, stays):
    async with subscribed() as (server, receiver, _, subscription):
        receiver.status = status
        server.edited("P-001", unitPrice=Decimal(9))
        await server.notify()
        assert server.deliveries == [status]
        assert (subscription.id in server.subscriptions) == stays


@pytest.mark.parametrize("bom", [False, True])
async def test_notifications_make_it_read_the_items(bom):
    async with subscribed(bom=bom) as (server, receiver, source, _):
        server.edited("P-001", unitPrice=Decimal(9))
        server.edited("P-001", unitPrice=Decimal(8))
        server.edited("P-002", unitPrice=Decimal(7))
        server.removed("P-003")
        await server.notify()
        (body,) = receiver.told
        assert body.startswith(b"\xef\xbb\xbf") == bom
        rows = await read(source.announced(body))
        assert [(row.sku, row.price) for row in rows] == [("P-001", 8), ("P-002", 7)]
        assert len(notifications(body)) == 4


async def test_a_collection_is_read_by_its_link():
    async with subscribed(collapse_over=2) as (server, receiver, source, _):
        server.clock.now += 86_400
        for number in range(4):
            server.edited(f"P-00{number}", unitPrice=Decimal(9))
        await server.notify()
        assert notifications(receiver.told[0])[0]["changeType"] == "collection"
        assert len(await skus(source.announced(receiver.told[0]))) == 4


async def test_who_does_not_know_our_secret_is_not_believed():
    async with subscribed() as (server, receiver, source, _):
        server.edited("P-001", unitPrice=Decimal(9))
        await server.notify()
        told = json.loads(receiver.told[0])
        server.requests.clear()
        for state in ("canary", "", None, 7, "ș", "canary-client-statf"):
            told["value"][0]["clientState"] = state
            assert await skus(source.announced(told)) == []
        assert server.requests == []
        told["value"].append({**told["value"][0], "clientState": server.client_state})
        assert await skus(source.announced(told)) == ["P-001"]


async def test_notifications_lead_nowhere_else():
    async with subscribed() as (server, _, source, subscription):
        items = f"companies({server.company})/items"

        def about(resource, change="collection"):
            state = server.client_state
            return {"value": [{"clientState": state, "resource": resource, "changeType": change}]}

        with pytest.raises(OffOriginError):
            await read(source.announced(about(f"https://elsewhere.example/{items}?$filter=x")))
        other = items.replace(server.company, server.companies[1][0])
        for resource in (f"{server.url}/x/{other}", f"{server.url}/x/companies", "x", None):
            assert await skus(source.announced(about(resource))) == []
        assert subscription.id in server.subscriptions


@pytest.mark.parametrize("payload", [None, [], {"value": None}, {"value": [1]}, 7])
async def test_what_is_no_notification_is_an_error(payload):
    async with fake() as server, opened(server) as source:
        with pytest.raises(PayloadError):
            await read(source.announced(payload))


def test_a_handshake_is_answered_with_its_token_and_nothing_else():
    assert handshake_answer({"validationToken": "abc+/="}) == "abc+/="
    for query in ({}, {"validationToken": ""}, {"validationToken": "a b"}, {"other": "x"}):
        assert handshake_answer(query) is None
    assert handshake_answer({"validationToken": "x" * 5000}) is None


async def test_a_subscription_needs_a_secret():
    async with fake() as server, opened(server, client_state=None) as source:
        with pytest.raises(InvalidInputError):
            await subscribe(source, "https://us.example/hook")
        state = {"clientState": "canary-client-state", "resource": "x", "changeType": "updated"}
        assert await skus(source.announced({"value": [state]})) == []


# -- secrets ----------------------------------------------------------------------------------


async def test_secrets_stay_secret(caplog):
    caplog.set_level(logging.DEBUG)
    shown = []
    with structlog.testing.capture_logs() as logs:
        async with subscribed(tokens=Tokens(uses=3)) as (server, _, source, subscription):
            await read(source.everything())
            shown += [repr(source), repr(source.client.auth), repr(subscription)]
            shown.append(repr(source.connection))
            secrets = [server.client_secret, server.client_state, *server.tokens.given]
            server.trouble(Reply({"error": {"message": str(secrets)}}, 400), path="/items")
            with pytest.raises(ErpError) as caught:
                await read(source.everything())
            shown += [str(caught.value), repr(caught.value)]
    assert logs
    assert len(secrets) > 2
    everything = " ".join([*shown, str(logs), caplog.text])
    for secret in (*secrets, "canary"):
        assert secret not in everything
