"""Sales told to ERPs once each, whatever ends in between."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from cerniq_stock.erp import sap_b1_push
from cerniq_stock.erp.fakes.base import Reply
from cerniq_stock.erp.fakes.sap_b1 import ENTRIES, EXITS
from cerniq_stock.erp.trouble import UnauthorizedError
from cerniq_stock.store.catalog import NewProduct
from cerniq_stock.store.pushing import push_turn
from cerniq_stock.store.syncing import BusyError
from cerniq_stock.sync.push import Pushes, PushResult
from tests.sync.conftest import Shop
from tests.sync.till import REST, SAP, Till, open_till, posts

BLIND = {"push": {"path": "/sales"}}
"""An interface where nothing can be looked up; the fake knows the key."""


@pytest.fixture
async def till(shop: Shop) -> AsyncIterator[Till]:
    async with open_till(shop) as opened:
        yield opened


async def test_each_sale_is_booked_once_however_often_it_is_pushed(till):
    await till.connect()
    await till.sell("A", 3)
    await till.sell("C", "2.5")
    first = await till.push()
    assert (first.success, first.booked, first.waiting, first.documents) == (True, 2, 0, ("7001",))
    asked = len(till.sap.requests)
    assert (await till.push()).booked == 0
    assert len(till.sap.requests) == asked, "nothing new: the ERP is not asked"
    await till.sell("B")
    assert (await till.push()).documents == ("7002",)
    assert till.booked() == [{"A": 3, "C": Decimal("2.5")}, {"B": 1}]
    (newest, *_) = await till.pushes.listed(till.tenant, SAP)
    assert (newest.sku, newest.state, newest.document, newest.attempts) == (
        "B",
        "BOOKED",
        "7002",
        1,
    )


@pytest.mark.parametrize("system", [SAP, REST])
async def test_an_erp_that_accepts_and_then_answers_500(till, system):
    await till.connect(system)
    await till.sell("A", 3)
    await till.sell("B", 1)
    kind = EXITS if system == SAP else "/sales"
    fake = till.sap if system == SAP else till.rest
    fake.trouble(posts(kind, lambda: Reply({"error": "oops"}, 500)), after=True)
    first = await till.push(system)
    # SAP's is found at once, the other one by the next run
    assert (first.booked, first.waiting) == ((2, 0) if system == SAP else (0, 2))
    assert first.booked + (await till.push(system)).booked == 2
    assert await till.states(system) == {"BOOKED": 2}
    documents = till.sap.documents[EXITS] if system == SAP else list(till.rest.booked)
    assert len(documents) == 1
    assert fake.figures()["A", "01"][0] == 17


@pytest.mark.parametrize("status", [302, 303, 403, 409])
@pytest.mark.parametrize(("system", "more"), [(SAP, {}), (REST, {}), (REST, BLIND)])
async def test_an_erp_that_accepts_and_answers_what_proves_nothing(till, system, more, status):
    """It goes into no other document: a redirect is settled by the next run, the rest by people."""
    await till.connect(system, **more)
    await till.sell("A", 3)
    await till.sell("B", 1)
    fake, kind = (till.sap, EXITS) if system == SAP else (till.rest, "/sales")
    answer = Reply({"message": "no"}, status, [("Location", "/elsewhere")])
    fake.trouble(posts(kind, lambda: answer), after=True)
    first = await till.push(system)
    then = await till.push(system)
    if status in {302, 303}:
        assert (first.refused, first.waiting, then.booked) == (0, 2, 2)
    else:
        assert (first.refused, first.waiting, then.booked) == (2, 0, 0)
        assert "may be booked all the same" in first.errors[0].message
    assert [fake.figures()[sku, "01"][0] for sku in "AB"] == [17, 19]


@pytest.mark.parametrize("answer", [Reply("", 200), Reply(None, 201), Reply(None, 202)])
async def test_an_interface_that_answers_with_nothing_is_asked_once(till, answer):
    await till.connect(REST, **BLIND)
    await till.sell("A", 3)
    await till.sell("B", 1)
    till.rest.trouble(posts("/sales", lambda: answer), times=99, after=True)
    for booked in (2, 0):
        result = await till.push(REST)
        assert (result.success, result.booked, result.documents) == (True, booked, ())
    assert await till.states(REST) == {"BOOKED": 2}
    assert [request.method for request in till.rest.requests] == ["POST"]


async def test_a_page_in_the_place_of_an_answer_books_nothing(till):
    """Negative control of the test above: it may be a login's."""
    await till.connect(REST, **BLIND)
    await till.sell("A", 3)
    till.rest.trouble(posts("/sales", lambda: Reply("<html>Please log in", 200)))
    result = await till.push(REST)
    assert (result.booked, result.waiting, till.rest.booked) == (0, 1, {})
    assert (await till.push(REST)).booked == 1


async def test_taken_for_a_proof_it_would_be_booked_twice(till, monkeypatch):
    """Negative control of the test above."""
    monkeypatch.setattr("cerniq_stock.sync.push.NOTHING_BOOKED", {409})
    await till.connect(REST)
    await till.sell("A", 3)
    await till.sell("B", 1)
    till.rest.trouble(posts("/sales", lambda: Reply(None, 409)), after=True)
    await till.push(REST)
    assert till.rest.figures()["A", "01"][0] == 14


async def test_a_refusal_that_is_a_proof_is_of_one_sale_only(till):
    await till.connect(REST)
    for sku in ("A", "NEW", "B"):
        if sku == "NEW":
            await till.shop.stock.import_products(till.tenant, [NewProduct("NEW", "New")])
            await till.shop.stock.receive(till.tenant, "NEW", 5)
        await till.sell(sku)
    result = await till.push(REST)
    assert (result.booked, result.refused) == (2, 1)
    assert result.errors[0].message == "the ERP refused the request (422)"


async def test_an_interface_that_has_moved_loses_nothing(till):
    await till.connect(REST)
    await till.sell("A", 3)
    await till.sell("B", 1)
    moved = Reply(None, 308, [("Location", "https://elsewhere.example/sales")])
    till.rest.trouble(moved, path="/sales", times=99)
    for _ in range(2):
        result = await till.push(REST)
        assert (result.success, result.refused, result.waiting) == (False, 0, 2)
        assert "redirect" in result.errors[0].message
    till.rest.well()
    assert (await till.push(REST)).booked == 2


async def _dies(till: Till, system: str) -> None:
    """A run ends when the ERP has accepted, before anything is written down."""
    task = asyncio.create_task(till.push(system))

    def kill() -> Reply:
        task.cancel()
        return Reply(lost=True)

    fake, kind = (till.sap, EXITS) if system == SAP else (till.rest, "/sales")
    fake.trouble(posts(kind, kill), after=True)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await till.states(system) == {"SENDING": 2}


@pytest.mark.parametrize("system", [SAP, REST])
async def test_a_process_that_dies_before_it_has_written_down_what_was_booked(till, system):
    await till.connect(system)
    await till.sell("A", 3)
    await till.sell("B", 1)
    await _dies(till, system)
    await till.sell("C", 2)  # goes into another document: what was sent is repeated as it was
    assert (await till.push(system)).booked == 3
    shelves = till.sap.figures() if system == SAP else till.rest.figures()
    assert [shelves[sku, "01"][0] for sku in "ABC"] == [17, 19, 18]
    assert await till.states(system) == {"BOOKED": 3}


async def test_without_the_look_it_would_be_booked_twice(till, monkeypatch):
    """Negative control of the test above."""
    await till.connect()
    await till.sell("A", 3)
    await till.sell("B", 1)
    await _dies(till, SAP)

    async def blind(*_: object) -> dict[str, str]:
        return {}

    monkeypatch.setattr(sap_b1_push, "_booked", blind)
    await till.push()
    assert till.booked() == [{"A": 3, "B": 1}] * 2


async def test_in_other_documents_it_would_be_booked_twice(till, superuser):
    """Negative control: the key of one's own interface is of the same sales together."""
    await till.connect(REST)
    await till.sell("A", 3)
    await till.sell("B", 1)
    await _dies(till, REST)
    await superuser.execute("UPDATE erp_pushes SET batch = movement_id")
    await till.push(REST)
    assert till.rest.figures()["A", "01"][0] == 14


async def test_what_may_still_be_made_is_not_looked_for_yet(till):
    """An ERP that is at work on a document does not show it."""
    await till.connect()
    await till.sell("A", 3)
    await till.sell("B", 1)
    await _dies(till, SAP)
    patient = Pushes(till.shop.stock.dsn, till.app, till.integrations)
    asked = len(till.sap.requests)
    result = await patient.run(till.tenant, SAP)
    assert (result.waiting, len(till.sap.requests)) == (2, asked)


async def test_a_refusal_after_an_open_end_is_left_to_a_person_where_nothing_is_looked_for(till):
    """A server that refuses the key as known has booked it; the sales alone have other keys."""
    await till.connect(REST, **BLIND)
    await till.sell("A", 3)
    await till.sell("B", 1)
    await _dies(till, REST)
    till.rest.trouble(posts("/sales", lambda: Reply({"message": "known"}, 409)))
    result = await till.push(REST)
    assert (result.booked, result.refused) == (0, 2)
    assert "may be booked all the same" in result.errors[0].message
    assert len(till.rest.booked) == 1


async def test_a_look_that_is_refused_settles_nothing(till):
    """Alone the sales would have other keys, under which nothing is found."""
    await till.connect(REST)
    await till.sell("A", 3)
    await till.sell("B", 1)
    await _dies(till, REST)
    till.rest.trouble(Reply({"message": "no"}, 400), path="/sales/")
    result = await till.push(REST)
    assert (result.refused, result.waiting) == (0, 2)
    assert "cannot be looked up" in result.errors[0].message
    assert (await till.push(REST)).booked == 2
    assert till.rest.figures()["A", "01"][0] == 17


async def test_two_at_once_are_one_after_the_other(till):
    await till.connect()
    for _ in range(7):
        await till.sell("A")
    view = await till.integrations.get(till.tenant, SAP)
    async with push_turn(till.shop.stock.dsn, till.tenant, view.id):
        with pytest.raises(BusyError, match="Another push"):
            await till.push()
        await till.sync()  # has a turn of its own
    ends = await asyncio.gather(*(till.push() for _ in range(4)), return_exceptions=True)
    assert all(isinstance(end, PushResult | BusyError) for end in ends)
    assert sum(end.booked for end in ends if isinstance(end, PushResult)) == 7
    assert till.booked() == [{"A": 1}, {"A": 1}]


async def test_an_erp_that_is_away_ends_the_run_and_is_tried_again(till):
    await till.connect()
    for _ in range(30):
        await till.shop.stock.take_back(till.tenant, "A", 1)
    till.sap.trouble(posts(ENTRIES, lambda: Reply(None, 503)), times=3)
    first = await till.push()
    assert (first.success, first.booked, first.waiting, first.more) == (False, 0, 30, True)
    rows = await till.pushes.listed(till.tenant, SAP)
    assert sum(row.error is not None for row in rows) == 18, "three documents were tried"
    assert (await till.push()).booked == 30
    assert till.sap.shelves["A", "01"]["InStock"] == 50


async def test_credentials_that_are_refused_are_tried_once_a_run(till):
    await till.connect(password="wrong")
    for _ in range(7):
        await till.sell("A")
    with pytest.raises(UnauthorizedError):
        await till.push()
    assert till.sap.logins == 1
    assert await till.states() == {"SENDING": 7}


async def test_a_run_ends_in_time_and_the_next_goes_on(till):
    await till.connect()
    for _ in range(7):
        await till.sell("A")
    late = await till.pushes.run(till.tenant, SAP, most_s=0)
    assert (late.success, late.booked, late.more) == (True, 0, True)
    assert (await till.push()).booked == 7
