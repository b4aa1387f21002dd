"""Oblio over the wire: tokens, pages of 250, its rate, its envelope, and both shapes."""

import base64
from urllib.parse import urlsplit

import pytest
import structlog

from cerniq_stock.erp.fakes.base import FakeClock, FakeServer, Reply
from cerniq_stock.erp.fakes.oblio import FakeOblio
from cerniq_stock.erp.gather import gather
from cerniq_stock.erp.rows import SkipCode, SystemName
from cerniq_stock.erp.trouble import (
    BadAnswerError,
    LoopError,
    RateLimitedError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)
from cerniq_stock.errors import InvalidInputError
from tests.erp.sessions import figures, pages, session

OBLIO = SystemName.OBLIO


@pytest.fixture
async def fake():
    async with FakeOblio(FakeClock()) as server:
        server.received("CAF-001", "12", "Magazin")
        server.received("CAF-001", "3.5", "Depozit")
        server.received("CAF", "1", "Magazin")
        yield server


def targets(fake):
    return [request.target for request in fake.requests]


async def test_both_shapes_and_services(fake):
    fake.services = ("Montaj",)
    async with session(OBLIO, fake) as erp:
        found = gather(await pages(erp.everything()))
        assert [remark.code for remark in found.skipped] == [SkipCode.NOT_STOCKABLE]
        assert {
            (row.sku, row.warehouse, f"{row.total:f}", row.available) for row in found.rows
        } == {
            ("CAF-001", "Sediu|Magazin", "12.000", None),
            ("CAF-001", "Sediu|Depozit", "3.500", None),
            ("CAF", "Sediu|Magazin", "1.000", None),
        }
    async with session(OBLIO, fake, workStation="Sediu", management="Depozit") as erp:
        flat = gather(await pages(erp.everything()))
        assert [(row.sku, row.warehouse, f"{row.total:f}") for row in flat.rows] == [
            ("CAF-001", "Sediu|Depozit", "3.500")
        ]
    asked = "/api/nomenclature/products?cif=RO37311090"
    assert targets(fake)[1] == f"{asked}&offset=0"
    assert targets(fake)[3] == f"{asked}&workStation=Sediu&management=Depozit&offset=0"


@pytest.mark.parametrize(("goods", "requests"), [(0, 1), (249, 1), (250, 2), (251, 2), (500, 3)])
async def test_a_full_page_may_be_the_last(goods, requests):
    async with FakeOblio(FakeClock()) as fake, session(OBLIO, fake) as erp:
        for number in range(goods):
            fake.received(f"P{number}", "1")
        assert len(await figures(erp.everything())) == goods
        assert [target.rpartition("=")[2] for target in targets(fake)[1:]] == [
            str(250 * page) for page in range(requests)
        ]


async def test_the_token_is_asked_for_in_a_form_and_renewed_by_oblios_clock(fake):
    async with session(OBLIO, fake) as erp:
        await erp.check()
        form = fake.requests[0].form
        assert form["client_id"] == "contabil@example.ro"
        assert form["client_secret"] == "canary-oblio-secret"
        assert fake.requests[0].path == "/api/authorize/token"
        fake.clock.now += 3000
        await erp.check()
        assert len(fake.tokens.given) == 1
    # another session is handed the token of the first, which has ten minutes left
    async with session(OBLIO, fake) as erp:
        await erp.check()
        assert len(fake.tokens.given) == 1
        fake.clock.now += 590
        await erp.check()
    assert len(fake.tokens.given) == 1
    assert sum("token" in target for target in targets(fake)) == 3


async def test_a_token_that_is_taken_back_is_renewed_once(fake):
    async with session(OBLIO, fake) as erp:
        await erp.check()
        fake.tokens.revoke()
        await erp.check()
        fake.trouble(Reply({"status": 401, "statusMessage": "no"}, 401), path="comp", times=99)
        before = len(fake.requests)
        with pytest.raises(UnauthorizedError):
            await erp.check()
        assert [target.rpartition("/")[2] for target in targets(fake)[before:]] == [
            "companies",
            "token",
            "companies",
        ]


async def test_the_body_may_say_otherwise_than_the_status(fake):
    async with session(OBLIO, fake) as erp:
        fake.trouble(Reply({"status": "401", "statusMessage": "no"}, 200), path="products")
        assert await figures(erp.everything())
        assert sum("token" in target for target in targets(fake)) == 2
        for status, kind in ((400, RefusedError), (500, UnreachableError), (429, RateLimitedError)):
            fake.trouble(Reply({"status": status, "data": []}, 200), path="products", times=4)
            with pytest.raises(kind):
                await pages(erp.everything())
            fake._plan.clear()
        for status in ("all right", None, 2.5, True):
            fake.trouble(Reply({"status": status, "data": []}, 200), path="products", times=4)
            with pytest.raises(BadAnswerError):
                await pages(erp.everything())
        fake.trouble(Reply({"status": 200, "data": []}, 201), path="products")
        assert await figures(erp.everything()) == {}


async def test_never_more_than_two_requests_a_second(fake):
    for number in range(1001):
        fake.received(f"P{number}", "1")
    async with session(OBLIO, fake) as erp:
        began = fake.clock.now
        for _ in range(3):
            await pages(erp.everything())
        # five pages each, the token, and not one answer about the rate
        assert len(fake.requests) == 16
        assert fake.clock.now - began >= 15 / 2
        assert fake.blocked_until == 0


@pytest.mark.parametrize(("told", "wait_s"), [(None, 600), ("90", 90)])
async def test_a_block_is_left_alone(fake, told, wait_s):
    fake.retry_after, fake.most_per_second = told, 0
    async with session(OBLIO, fake) as erp:
        with pytest.raises(RateLimitedError) as raised:
            await pages(erp.everything())
        assert raised.value.retry_after_s == wait_s
        assert len(fake.requests) == 2, "not asked again"
        fake.most_per_second = 3
        with pytest.raises(RateLimitedError):
            await erp.check()
        fake.clock.now += 600
        await erp.check()


async def test_single_products_by_code(fake):
    async with session(OBLIO, fake) as erp:
        assert await figures(erp.of_skus(["CAF", "NOPE"])) == {("CAF", "Sediu|Magazin"): "1"}
        assert [request.query.get("code") for request in fake.requests[1:]] == ["CAF", "NOPE"]
        # a filter that takes more for equal
        fake.trouble(lambda request: request.query.pop("code", None) and None, times=1)
        assert await figures(erp.of_skus(["CAF"])) == {("CAF", "Sediu|Magazin"): "1"}
        before = len(fake.requests)
        some = ["CAF", *(f"X{number}" for number in range(60))]
        assert await figures(erp.of_skus(some)) == {("CAF", "Sediu|Magazin"): "1"}
        assert len(fake.requests) == before + 1


async def test_whatever_a_webhook_says_everything_is_read(fake):
    async with session(OBLIO, fake) as erp:
        for payload in ({"data": {}}, None, [], {"data": [{"code": "CAF", "quantity": 0}]}):
            assert len(await figures(erp.announced(payload))) == 3


async def test_a_server_that_ignores_the_offset_is_no_endless_catalogue():
    async with FakeOblio(FakeClock()) as fake, session(OBLIO, fake) as erp:
        for number in range(250):
            fake.received(f"P{number}", "1")
        fake.trouble(lambda request: request.query.pop("offset", None) and None, times=99)
        with pytest.raises(LoopError):
            await pages(erp.everything())


async def test_the_company_must_be_the_accounts_own(fake):
    async with session(OBLIO, fake, cif="37311090") as erp:
        await erp.check()
    async with session(OBLIO, fake, cif="RO123456") as erp:
        with pytest.raises(RefusedError, match="cif"):
            await erp.check()
        with pytest.raises(RefusedError):
            await pages(erp.everything())


async def test_unsalable_goods_where_they_are_wanted(fake):
    async with session(OBLIO, fake, includeUnsalable=True) as erp:
        await pages(erp.everything())
    assert fake.requests[1].query["includeUnsalable"] == "1"


@pytest.mark.parametrize("settings", [{"management": "M"}, {"workStation": "S"}, {"cif": "firma"}])
async def test_settings_that_cannot_be(fake, settings):
    with pytest.raises(InvalidInputError):
        async with session(OBLIO, fake, **settings):
            pass


class Endpoint(FakeServer):
    """A webhook's receiver, right or wrong."""

    right = True

    async def answer(self, request):
        number = request.headers["x-oblio-request-id"].encode()
        return Reply(base64.b64encode(number if self.right else b"something"))


async def test_the_fake_tells_only_who_answers_the_handshake(fake):
    async with Endpoint() as endpoint, session(OBLIO, fake) as erp:
        wanted = {"cif": "37311090", "topic": "stock", "endpoint": f"{endpoint.url}/h?key=1"}
        endpoint.right = False
        with pytest.raises(RefusedError):
            await erp.client.request("POST", "webhooks", json_body=wanted)
        endpoint.right = True
        made = await erp.client.request("POST", "webhooks", json_body=wanted)
        assert (made.status, made.data["data"]["endpoint"]) == (201, wanted["endpoint"])
        assert await fake.announce() == [True]
        assert urlsplit(endpoint.requests[-1].target).query == "key=1"
        listed = await erp.client.get("webhooks", params={"cif": fake.cif})
        await erp.client.request("DELETE", f"webhooks/{listed.data['data'][0]['id']}")
        assert await fake.announce() == []


async def test_nothing_is_printed_by_a_program_that_has_configured_no_logs(fake, capsys):
    structlog.reset_defaults()
    async with session(OBLIO, fake) as erp:
        await pages(erp.everything())
    assert capsys.readouterr() == ("", "")
