"""The fakes are as strict as what they stand for: asked by hand, past our sessions.

`SHOWN` is the list of what an honest fake of each system does, and by which tests it is seen.
"""

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from cerniq_stock.erp.fakes.base import FakeClock
from cerniq_stock.erp.fakes.microsoft_bc import FakeMicrosoftBc
from cerniq_stock.erp.fakes.oblio import FakeOblio
from cerniq_stock.erp.fakes.sap_b1 import FakeSapB1

SHOWN = {
    "OBLIO": {
        "numbers of a token are texts": "test_fakes.test_oblios_token_has_its_numbers_as_texts",
        "401 without a token": "test_fakes.test_oblio_knows_nobody_without_a_token",
        "401 for a token that has ended": "test_fakes.test_oblio_knows_nobody_without_a_token",
        "400 without a cif": "test_fakes.test_oblio_wants_to_know_the_company",
        "both shapes": "test_oblio_session.test_both_shapes_and_services",
        "filter by name and code": "test_fakes.test_oblio_filters_by_name_and_by_code",
        "250 a page, and exact multiples": "test_oblio_session.test_a_full_page_may_be_the_last",
        "blocked after more than three a second": "test_fakes.test_oblio_blocks_who_is_too_fast",
        "a page with status 200": "test_source_contract.test_trouble_that_passes_is_survived",
        "webhooks shake hands": "test_oblio_session.test_the_fake_tells_only_who_answers_"
        "the_handshake",
    },
    "SAP_B1": {
        "paths are case-sensitive": "test_sap_b1_session.test_paths_are_case_sensitive",
        "lines of the cookies": "test_fakes.test_cookies_come_in_saps_own_lines",
        "idle time slides, 401 and 301": "test_fakes.test_a_session_of_sap_ends_when_it_idles",
        "twenty rows unless preferred": "test_sap_b1_session.test_a_page_has_twenty_rows_unless_"
        "it_is_preferred",
        "links relative to the service": "test_fakes.test_v1_and_v2_name_things_differently",
        "a count that is a text": "test_fakes.test_v1_and_v2_name_things_differently",
        "names of v2": "test_fakes.test_v1_and_v2_name_things_differently",
        "rows of warehouses never used": "test_fakes.test_every_warehouse_has_a_row",
        "-10 for what is not there": "test_sap_b1_push.test_negative_stock_is_a_refusal_and_"
        "changes_nothing",
        "an empty 500 for Expect": "test_sap_b1_session.test_nobody_expects_100_continue",
        "a session that ends between pages": "test_sap_b1_session.test_a_session_that_ends_"
        "between_pages_costs_nothing_but_a_login",
    },
    "MICROSOFT_BC": {
        "no token for another scope": "test_microsoft_bc_session.test_a_wrong_scope_or_secret_"
        "is_told_once",
        "etag and If-Match": "test_fakes.test_who_changes_a_subscription_knows_its_etag",
        "absolute links": "test_fakes.test_links_of_business_central_are_absolute",
        "an empty page with a link": "test_microsoft_bc_session.test_every_page_is_preferred_and_"
        "an_empty_one_is_no_end",
        "429 with seconds, a date, or neither": "test_microsoft_bc_session.test_too_many_requests_"
        "are_waited_for",
        "movements leave the item's time alone": "test_fakes.test_a_movement_leaves_the_items_"
        "time_alone",
        "handshakes": "test_microsoft_bc_webhooks.test_a_subscription_shakes_hands_when_it_is_made_"
        "and_renewed",
        "three days": "test_microsoft_bc_webhooks.test_a_subscription_ends_after_three_days",
        "collections": "test_microsoft_bc_webhooks.test_a_collection_is_read_by_its_link",
        "4xx ends a subscription": "test_microsoft_bc_webhooks.test_only_some_answers_keep_a_"
        "subscription",
        "a byte-order mark": "test_microsoft_bc_webhooks.test_notifications_make_it_read_the_items",
    },
}


@pytest.mark.parametrize("system", SHOWN)
def test_what_is_said_to_be_shown_is_shown_by_a_test(system):
    for promise, where in SHOWN[system].items():
        module, name = where.split(".")
        source = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        assert f"def {name}(" in source, promise


class Hand:
    """Asks a fake by hand; what is given as headers stays for the next questions."""

    def __init__(self, fake: Any, http: httpx2.AsyncClient) -> None:
        self.fake, self.http = fake, http

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        return await self.http.get(self.fake.url + path, **more)

    async def post(self, path: str, **more: Any) -> httpx2.Response:
        return await self.http.post(self.fake.url + path, **more)


@asynccontextmanager
async def by_hand(fake):
    async with fake, httpx2.AsyncClient(trust_env=False, cookies=None) as http:
        yield Hand(fake, http)


# -- Oblio -------------------------------------------------------------------------------------

PRODUCTS = "/api/nomenclature/products"


@asynccontextmanager
async def oblio(*, login=True):
    async with by_hand(FakeOblio(FakeClock())) as hand:
        hand.fake.received("CAF", "12", "Magazin")
        hand.fake.received("CEAI", "3", "Magazin")
        if login:
            hand.http.headers["Authorization"] = f"Bearer {(await token(hand))['access_token']}"
        yield hand


async def token(hand):
    form = {"client_id": hand.fake.email, "client_secret": hand.fake.secret}
    return (await hand.post("/api/authorize/token", data=form)).json()


async def test_oblios_token_has_its_numbers_as_texts():
    async with oblio(login=False) as hand:
        told = await token(hand)
        assert (told["expires_in"], told["token_type"]) == ("3600", "Bearer")
        assert told["request_time"] == str(int(hand.fake.now))
        hand.fake.clock.now += 1000
        again = await token(hand)
        assert (again["access_token"], again["request_time"]) == (
            told["access_token"],
            told["request_time"],
        )


async def test_oblio_knows_nobody_without_a_token():
    async with oblio(login=False) as hand:
        asked = {"cif": hand.fake.cif}
        assert (await hand.get(PRODUCTS, params=asked)).status_code == 401
        hand.http.headers["Authorization"] = f"Bearer {(await token(hand))['access_token']}"
        assert (await hand.get(PRODUCTS, params=asked)).status_code == 200
        hand.fake.clock.now += 3600
        answer = await hand.get(PRODUCTS, params=asked)
        assert (answer.status_code, answer.json()["status"]) == (401, 401)
        wrong = {"client_id": hand.fake.email, "client_secret": "canary-wrong"}
        assert (await hand.post("/api/authorize/token", data=wrong)).status_code == 401


async def test_oblio_wants_to_know_the_company():
    async with oblio() as hand:
        for asked in ({}, {"cif": ""}, {"cif": "RO1"}):
            answer = await hand.get(PRODUCTS, params=asked)
            assert (answer.status_code, answer.json()["status"]) == (400, 400)
            hand.fake.clock.now += 1


async def test_oblio_filters_by_name_and_by_code():
    async with oblio() as hand:
        for asked, codes in (
            ("&name=Produs%20CAF", ["CAF"]),
            ("&code=CEAI", ["CEAI"]),
            ("&code=CEA", []),
            ("", ["CAF", "CEAI"]),
        ):
            answer = await hand.get(f"{PRODUCTS}?cif={hand.fake.cif}{asked}")
            assert [product["code"] for product in answer.json()["data"]] == codes
            hand.fake.clock.now += 1


@pytest.mark.parametrize("status", [429, 403])
async def test_oblio_blocks_who_is_too_fast(status):
    async with oblio() as hand:
        hand.fake.block_status = status
        asked = {"cif": hand.fake.cif}
        answers = [await hand.get(PRODUCTS, params=asked) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, status]
        hand.fake.clock.now += 599
        assert (await hand.get(PRODUCTS, params=asked)).status_code == status
        hand.fake.clock.now += 1
        assert (await hand.get(PRODUCTS, params=asked)).status_code == 200


# -- SAP Business One --------------------------------------------------------------------------

LOGIN = {"CompanyDB": "SBODEMO", "UserName": "manager", "Password": "canary-sap-password"}


@asynccontextmanager
async def sap(*, login=True):
    async with by_hand(FakeSapB1(FakeClock())) as hand:
        for number in range(25):
            hand.fake.received(f"P-{number:03}", "5")
        if login:
            answer = await hand.post("/b1s/v1/Login", json=LOGIN)
            hand.http.headers["Cookie"] = f"B1SESSION={answer.json()['SessionId']}"
        yield hand


async def test_cookies_come_in_saps_own_lines():
    async with sap(login=False) as hand:
        answer = await hand.post("/b1s/v1/Login", json=LOGIN)
        name = answer.json()["SessionId"]
        lines = [value for key, value in answer.headers.multi_items() if key == "set-cookie"]
        assert lines == [f"B1SESSION={name};HttpOnly;", "ROUTEID=.node1; path=/b1s"]
        assert answer.json()["SessionTimeout"] == 30


async def test_a_session_of_sap_ends_when_it_idles():
    async with sap() as hand:
        for _ in range(3):
            hand.fake.clock.now += 29 * 60
            assert (await hand.get("/b1s/v1/Items")).status_code == 200
        hand.fake.clock.now += 30 * 60
        for path in ("/b1s/v1/Items", "/b1s/v1/login"):
            answer = await hand.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, 301)


async def test_v1_and_v2_name_things_differently():
    async with sap() as hand:
        first = (await hand.get("/b1s/v1/Items?$select=ItemCode&$inlinecount=allpages")).json()
        second = (await hand.get("/b1s/v2/Items?$select=ItemCode&$count=true")).json()
        assert (first["odata.count"], second["@odata.count"]) == ("25", 25)
        assert len(first["value"]) == len(second["value"]) == 20
        assert first["odata.nextLink"].startswith("Items?$select=ItemCode&")
        assert second["@odata.nextLink"].endswith("$skip=20")


async def test_every_warehouse_has_a_row():
    async with sap() as hand:
        answer = await hand.get("/b1s/v2/Items", headers={"Prefer": "odata.maxpagesize=1"})
        (item,) = answer.json()["value"]
        rows = item["ItemWarehouseInfoCollection"]
        assert {row["WarehouseCode"]: row["InStock"] for row in rows} == {"01": 5, "02": 0, "99": 0}


# -- Business Central --------------------------------------------------------------------------


@asynccontextmanager
async def central():
    async with by_hand(FakeMicrosoftBc(FakeClock())) as hand:
        fake = hand.fake
        for number in range(3):
            fake.received(f"P-{number}", "5")
        form = {
            "client_id": fake.client_id,
            "client_secret": fake.client_secret,
            "scope": "https://api.businesscentral.dynamics.com/.default",
            "grant_type": "client_credentials",
        }
        answer = await hand.post(f"/{fake.tenant}/oauth2/v2.0/token", data=form)
        hand.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield hand, f"/v2.0/{fake.tenant}/{fake.environment}/api/v2.0"


async def test_links_of_business_central_are_absolute():
    async with central() as (hand, root):
        items = f"{root}/companies({hand.fake.company})/items"
        page = (await hand.get(items, headers={"Prefer": "odata.maxpagesize=2"})).json()
        assert len(page["value"]) == 2
        link = page["@odata.nextLink"]
        assert link.startswith(f"{hand.fake.url}{quote(root)}/companies(")
        rest = (await hand.http.get(link)).json()
        assert [item["number"] for item in rest["value"]] == ["P-2"]
        assert "@odata.nextLink" not in rest


async def test_a_movement_leaves_the_items_time_alone():
    async with central() as (hand, root):
        items = f"{root}/companies({hand.fake.company})/items"
        before = (await hand.get(items)).json()["value"][0]
        hand.fake.clock.now += 60
        hand.fake.sold("P-0", "2")
        after = (await hand.get(items)).json()["value"][0]
        assert (before["inventory"], after["inventory"]) == (5, 3)
        assert before["lastModifiedDateTime"] == after["lastModifiedDateTime"]
        entries = (await hand.get(items.replace("/items", "/itemLedgerEntries"))).json()["value"]
        assert [entry["itemNumber"] for entry in entries][-1] == "P-0"


async def test_who_changes_a_subscription_knows_its_etag():
    async with central() as (hand, root):

        async def shakes(method, url, body):
            return 200, httpx2.URL(url).params["validationToken"].encode()

        hand.fake.call = shakes
        wanted = {"notificationUrl": "https://us.example/hook", "resource": "items"}
        made = await hand.post(f"{root}/subscriptions", json=wanted)
        assert made.status_code == 201
        path = f"{hand.fake.url}{root}/subscriptions('{made.json()['subscriptionId']}')"
        for headers, status in (
            ({}, 400),
            ({"If-Match": 'W/"older"'}, 409),
            ({"If-Match": made.json()["@odata.etag"]}, 200),
            ({"If-Match": made.json()["@odata.etag"]}, 409),
            ({"If-Match": "*"}, 200),
        ):
            answer = await hand.http.patch(path, json=wanted, headers=headers)
            assert answer.status_code == status
