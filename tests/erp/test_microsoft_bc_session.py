"""Business Central over HTTP: what the ledger knows and items do not tell."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from email.utils import formatdate

import pytest

from cerniq_stock.erp.connection import capabilities, read_connection
from cerniq_stock.erp.fakes.base import Reply
from cerniq_stock.erp.fakes.microsoft_bc import SCOPE
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.source import Sale
from cerniq_stock.erp.trouble import (
    OffOriginError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from cerniq_stock.errors import InvalidInputError
from tests.erp.business_central import STRANGE, asked, fake, opened, read, skus, whole

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
