"""SAGA over the wire: exactly the requests of the specification (§5.2)."""

from datetime import UTC, datetime

import pytest

from cerniq_stock.erp.fakes.base import FakeClock, Reply
from cerniq_stock.erp.fakes.saga import FakeSaga
from cerniq_stock.erp.rows import PayloadError, SystemName
from cerniq_stock.erp.trouble import RefusedError, UnauthorizedError
from cerniq_stock.errors import InvalidInputError
from tests.erp.sessions import figures, pages, session

SAGA = SystemName.SAGA
EVERYTHING = "/api/v1/stocuri/toate?firma=DEMO&gestiune=%2A"


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture
async def fake():
    async with FakeSaga(FakeClock(at("2026-11-20 10:00"))) as server:
        server.received("ȘURUB-06", "12")
        server.received("00123", "7.5", "02")
        server.received("CAF-1", "5", lot="L1")
        server.received("CAF-1", "3", lot="L2")
        yield server


async def test_the_requests_are_those_of_the_specification(fake):
    async with session(SAGA, fake) as erp:
        await pages(erp.everything())
        await pages(erp.changed({"since": "2026-11-19"}))
        await pages(erp.of_skus(["ȘURUB-06"]))
        await erp.check()
    changed = "/api/v1/stocuri/modificate?firma=DEMO&gestiune=%2A&dataModificareMin=2026-11-19"
    assert [(request.method, request.target) for request in fake.requests] == [
        ("GET", EVERYTHING),
        ("GET", changed),
        ("POST", "/api/v1/stocuri/articole"),
        ("GET", "/api/v1/status"),
    ]
    assert {request.headers["authorization"] for request in fake.requests} == {
        "Bearer canary-saga-key"
    }
    assert fake.requests[2].json == {"firma": "DEMO", "coduri": ["ȘURUB-06"], "gestiune": "*"}


async def test_at_most_fifty_codes_at_once(fake):
    codes = [f"C{number}" for number in range(101)]
    async with session(SAGA, fake) as erp:
        await pages(erp.of_skus(codes))
    asked = [request.json["coduri"] for request in fake.requests]
    assert [len(some) for some in asked] == [50, 50, 1]
    assert [code for some in asked for code in some] == codes


async def test_what_was_not_asked_for_is_left_out(fake):
    fake.trouble(Reply({"stocuri": fake.event("00123", "CAF-1")["articole"]}))
    async with session(SAGA, fake) as erp:
        assert await figures(erp.of_skus(["CAF-1"])) == {("CAF-1", "01"): "8"}


async def test_path_header_and_envelope_are_settings(fake):
    fake.base_path, fake.auth_header, fake.auth_scheme = "punte/api", "X-Cheie", ""
    fake.envelope = "date"
    more = {"basePath": "/punte/api/", "authHeader": "X-Cheie", "authScheme": ""}
    async with session(SAGA, fake, config={"items_path": "date"}, **more) as erp:
        assert ("00123", "02") in await figures(erp.everything())
        assert await figures(erp.announced(fake.event("00123"))) == {("00123", "02"): "7.5"}


async def test_one_warehouse(fake):
    async with session(SAGA, fake, warehouseCode="02") as erp:
        assert await figures(erp.everything()) == {("00123", "02"): "7.5"}
        assert "gestiune=02" in fake.requests[0].target
        # a webhook tells of all of them
        event = fake.event("00123", "ȘURUB-06")
        assert await figures(erp.announced(event)) == {("00123", "02"): "7.5"}


@pytest.mark.parametrize(
    ("now", "since"),
    [
        ("2026-11-20 10:00", "2026-11-19"),
        # half past midnight in Bucharest
        ("2026-11-20 22:30", "2026-11-20"),
        ("2026-03-01 00:00", "2026-02-28"),
    ],
)
async def test_the_watermark_is_the_day_before_in_the_merchants_zone(fake, now, since):
    fake.clock.now = at(now)
    for fake.tells_date in (True, False):
        async with session(SAGA, fake) as erp:
            await pages(erp.everything())
            assert erp.watermark == {"since": since}
            await pages(erp.changed(erp.watermark))
    assert fake.requests[-1].query["dataModificareMin"] == since


@pytest.mark.parametrize("zone", ["GMT", "-2300"])
async def test_a_date_of_a_time_to_come_is_no_clock(fake, zone):
    date = [("Date", f"Fri, 31 Dec 9999 23:59:59 {zone}")]
    fake.trouble(Reply({"stocuri": []}, headers=date))
    async with session(SAGA, fake) as erp:
        await pages(erp.everything())
        assert erp.watermark == {"since": "2026-11-19"}


async def test_a_reading_over_midnight_begins_before_it(fake):
    fake.clock.now, fake.tells_date = at("2026-11-20 21:59:50"), False

    def slow(request):
        fake.clock.now += 60

    fake.trouble(slow)
    async with session(SAGA, fake) as erp:
        await pages(erp.everything())
        assert erp.watermark == {"since": "2026-11-19"}


async def test_a_webhook_that_may_miss_lots_makes_us_ask(fake):
    event = fake.event("CAF-1", "00123")
    event["articole"] = event["articole"][:2]
    assert {row["cod_articol"] for row in event["articole"]} == {"CAF-1", "00123"}
    async with session(SAGA, fake) as erp:
        assert await figures(erp.announced(event)) == {("CAF-1", "01"): "8", ("00123", "02"): "7.5"}
    assert [request.json["coduri"] for request in fake.requests] == [["CAF-1"]]


async def test_another_event_is_no_stock_and_what_is_none_is_not_tried_again(fake):
    async with session(SAGA, fake) as erp:
        assert await figures(erp.announced({"eveniment": "FACTURA", "articole": []})) == {}
        for payload in ({}, [], "x", None, {"eveniment": None}, {"eveniment": "STOC_MODIFICAT"}):
            with pytest.raises(PayloadError) as raised:
                await pages(erp.announced(payload))
            assert not raised.value.retryable
    assert not fake.requests


async def test_an_event_is_no_answer_to_a_question(fake):
    fake.trouble(Reply({"eveniment": "FACTURA", "articole": []}), times=3)
    async with session(SAGA, fake) as erp:
        for asked in (erp.everything(), erp.changed({"since": "2026-11-19"}), erp.of_skus(["A"])):
            with pytest.raises(PayloadError, match="no answer of SAGA") as raised:
                await pages(asked)
            assert raised.value.retryable
        assert erp.watermark is None


async def test_a_refused_key_is_not_tried_again(fake):
    async with session(SAGA, fake, apiKey="another") as erp:
        with pytest.raises(UnauthorizedError):
            await erp.check()
    assert len(fake.requests) == 1


@pytest.mark.parametrize("mark", [{}, {"since": "soon"}, {"since": 5}])
async def test_a_watermark_of_somebody_else_is_refused(fake, mark):
    async with session(SAGA, fake) as erp:
        with pytest.raises(InvalidInputError):
            await pages(erp.changed(mark))


async def test_a_part_in_trouble_ends_a_reading_of_codes(fake):
    seen = []

    def second(request):
        seen.append(request)
        return Reply({"eroare": "nu"}, 400) if len(seen) == 2 else None

    fake.trouble(second)
    async with session(SAGA, fake) as erp:
        with pytest.raises(RefusedError):
            await pages(erp.of_skus([str(number) for number in range(60)]))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"apiKey": None}, "apiKey"),
        ({"apiKey": ""}, "apiKey"),
        ({"companyCode": " "}, "companyCode"),
        ({"baseUrl": "ftp://x"}, "baseUrl"),
        ({"baseUrl": "https://a:b@x"}, "baseUrl"),
        ({"baseUrl": "https://x/?key=1"}, "baseUrl"),
        ({"timeout": 0}, "timeout_s"),
        ({"warehouse": "01"}, "warehouse"),
    ],
)
async def test_settings_that_cannot_be(fake, settings, field):
    with pytest.raises(InvalidInputError, match="Connection of SAGA") as raised:
        async with session(SAGA, fake, **settings):
            pass
    assert raised.value.field in {field, "base_url"}


async def test_the_specifications_timeout_is_in_milliseconds(fake):
    async with session(SAGA, fake, timeout=30000, timeout_s=None) as erp:
        assert erp.client._timeouts.total_s == 30
