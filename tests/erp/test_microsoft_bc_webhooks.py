"""Subscriptions of Business Central: handshakes, three days, notifications."""

import json
import logging
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import structlog

from cerniq_stock.erp.fakes.base import Reply
from cerniq_stock.erp.fakes.microsoft_bc import LIFETIME_S
from cerniq_stock.erp.fakes.stock import Tokens
from cerniq_stock.erp.microsoft_bc_session import (
    notifications,
)
from cerniq_stock.erp.microsoft_bc_webhooks import (
    handshake_answer,
    renew,
    subscribe,
    unsubscribe,
)
from cerniq_stock.erp.rows import PayloadError, SystemName
from cerniq_stock.erp.trouble import (
    ErpError,
    OffOriginError,
    RefusedError,
    UnreachableError,
)
from cerniq_stock.erp.webhooks import job
from cerniq_stock.errors import InvalidInputError
from tests.erp.business_central import Receiver, fake, opened, read, skus, subscribed


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


async def test_our_secret_does_not_travel_in_a_job():
    async with subscribed() as (server, receiver, source, _):
        server.edited("P-001", unitPrice=Decimal(9))
        await server.notify()
        (body,) = receiver.told
        _, payload = job(SystemName.MICROSOFT_BC, uuid4(), body)
        assert server.client_state not in json.dumps(payload)
        sent = payload["webhookPayload"]
        assert await skus(source.announced(sent)) == ["P-001"]
        digest = sent["value"][0]["clientStateSha256"]
        for wrong in (digest.upper(), digest[:-1], "", None, 7, "ș"):
            other = {"value": [{**sent["value"][0], "clientStateSha256": wrong}]}
            assert await skus(source.announced(other)) == []
        # who only knows the digest has nothing to say
        forged = json.dumps({"value": [{**sent["value"][0], "clientState": digest}]}).encode()
        _, payload = job(SystemName.MICROSOFT_BC, uuid4(), forged)
        assert await skus(source.announced(payload["webhookPayload"])) == []
        _, payload = job(SystemName.MICROSOFT_BC, uuid4(), json.dumps(sent).encode())
        assert await skus(source.announced(payload["webhookPayload"])) == []


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
        with pytest.raises(PayloadError) as raised:
            await read(source.announced(payload))
        assert not raised.value.retryable


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
