"""What a payload may say, and in which sentence it is told that it may not."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from cerniq_stock.jobs.catalogue import CATALOGUE
from cerniq_stock.jobs.payloads import (
    ItemPayload,
    Metadata,
    OfOrder,
    PartsOfOrder,
    ReserveCreate,
    ReserveRelease,
    SyncErp,
    Wire,
    problem,
)
from cerniq_stock.jobs.port import NewJob

NO_NUMBERS = [
    "1_0",
    "\u0661",  # ARABIC-INDIC DIGIT ONE
    "\uff11",  # FULLWIDTH DIGIT ONE
    " 1",
    "1\n",
    "1,5",
    "0x10",
    "--1",
    ".",
    "e5",
    "1e",
    "NaN",
    "Infinity",
    "-inf",
    "1e9999999999999999999",
    True,
    False,
    [1],
    {"value": 1},
    [0, [1], 0],
]
NUMBERS = [
    (1, "1"),
    (2.5, "2.5"),
    (0.1, "0.1"),
    (1e3, "1000"),
    ("1", "1"),
    ("+1.50", "1.50"),
    ("-1", "-1"),
    ("5.", "5"),
    (".5", "0.5"),
    ("25e-1", "2.5"),
    ("1E+2", "100"),
]
NO_WHOLE = [*NO_NUMBERS, 1.5, "1.5", "1e-1", "1e999999", 1e300, float("nan"), float("inf")]


def reserve(**changed: Any) -> dict[str, Any]:
    return {
        "tenantId": str(uuid4()),
        "negotiationId": str(uuid4()),
        "items": [{"sku": "A", "quantity": 1}],
        **changed,
    }


def parts(**item: Any) -> dict[str, Any]:
    return {"tenantId": str(uuid4()), "orderId": str(uuid4()), "items": [item]}


def refused(kind: type[Wire], payload: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(payload)
    return problem(caught.value)


@pytest.mark.parametrize(("written", "meant"), NUMBERS)
def test_a_number_is_what_its_digits_say(written, meant):
    item = ItemPayload.model_validate({"sku": "A", "quantity": written})
    assert item.quantity == Decimal(meant)


@pytest.mark.parametrize("written", [*NO_NUMBERS, float("nan"), float("inf")], ids=repr)
def test_what_is_no_plain_number_is_no_quantity(written):
    line = {"sku": "A", "quantity": written}
    told = refused(ReserveCreate, reserve(items=[line]))
    assert told.startswith("items.0.quantity: Input should be a")
    release = {
        "tenantId": str(uuid4()),
        "reason": "MANUAL",
        "releasePartial": True,
        "itemsToRelease": [line],
    }
    told = refused(ReserveRelease, release)
    assert told.startswith("itemsToRelease.0.quantity: ")
    assert refused(PartsOfOrder, parts(**line)).startswith("items.0.quantity: ")


@pytest.mark.parametrize("written", [24, 24.0, "24", "24.0", "+24", "2.4e1"], ids=repr)
def test_a_whole_number_is_one_however_it_is_written(written):
    asked = ReserveCreate.model_validate(reserve(expiresInHours=written))
    assert (asked.expires_in_hours, type(asked.expires_in_hours)) == (24, int)
    order = PartsOfOrder.model_validate(parts(quantity=1, lineNo=written))
    assert order.items is not None
    assert order.items[0].line_no == 24


@pytest.mark.parametrize("written", NO_WHOLE, ids=repr)
def test_what_is_no_whole_number_counts_neither_hours_nor_lines(written):
    told = refused(ReserveCreate, reserve(expiresInHours=written))
    assert told.startswith("expiresInHours: Input should be a")
    told = refused(PartsOfOrder, parts(quantity=1, lineNo=written))
    assert told.startswith("items.0.lineNo: Input should be a")


@pytest.mark.parametrize("channel", ["AI_AGENT", "MANUAL", "API"])
def test_a_channel_is_one_of_the_specifications(channel):
    asked = ReserveCreate.model_validate(reserve(metadata={"channel": channel}))
    assert asked.metadata.channel == channel


@pytest.mark.parametrize("channel", ["mail", "api", 1, ["API"], "API "])
def test_another_channel_is_refused_with_those_there_are(channel):
    told = refused(ReserveCreate, reserve(metadata={"channel": channel}))
    assert told == "metadata.channel: Input should be 'AI_AGENT', 'MANUAL' or 'API'"


@pytest.mark.parametrize("metadata", [{}, {"channel": None}, {"channel": ""}, {"notes": "x"}])
def test_metadata_that_name_no_channel_mean_the_agent(metadata):
    asked = ReserveCreate.model_validate(reserve(metadata=metadata))
    assert asked.metadata.channel == "AI_AGENT"


@pytest.mark.parametrize("payload", [reserve(), reserve(metadata=None), reserve(metadata="")])
def test_without_metadata_there_is_no_channel(payload):
    said = ReserveCreate.model_validate(payload).metadata
    assert (said.channel, said.requested_by, said.notes) == (None, None, None)


def test_what_says_nothing_is_dropped_and_only_then_is_anything_copied():
    whole = {"requestedBy": "ana", "notes": "x"}
    assert Metadata._drop_nothing(whole) is whole
    for nothing in (None, ""):
        holey = {**whole, "channel": nothing}
        assert Metadata._drop_nothing(holey) == whole
        assert "channel" in holey
    # what only equals nothing for Python says something
    assert Metadata._drop_nothing({"a": 0, "b": False, "c": []}) == {"a": 0, "b": False, "c": []}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"items": [{"sku": "A", "quantity": "1_0"}]}, "items.0.quantity: "),
        ({"items": [{"sku": "A", "quantity": "\u0661"}]}, "items.0.quantity: "),
        ({"items": [{"sku": "A", "quantity": True}]}, "items.0.quantity: "),
        ({"expiresInHours": True}, "expiresInHours: "),
        ({"expiresInHours": "7_2"}, "expiresInHours: "),
        ({"metadata": {"channel": "mail"}}, "metadata.channel: Input should be 'AI_AGENT'"),
    ],
)
async def test_its_job_fails_at_once_and_changes_nothing(town, changed, reason):
    job = town.reserve()
    job.payload.update(changed)
    async with town.working():
        (id_,) = await town.add(job)
        (ended,) = await town.ended(id_)
    assert (ended.state, ended.attempts) == ("FAILED", 1)
    assert ended.error.startswith(f"INVALID_PAYLOAD: {reason}")
    assert await town.available("A") == 50


async def test_a_line_by_no_whole_number_is_not_delivered(town):
    job = NewJob(
        name="stock:deduct:delivered",
        payload=parts(quantity=1, lineNo=True) | {"tenantId": str(town.tenant)},
    )
    async with town.working():
        (id_,) = await town.add(job)
        (ended,) = await town.ended(id_)
    assert (ended.state, ended.attempts) == ("FAILED", 1)
    assert ended.error.startswith("INVALID_PAYLOAD: items.0.lineNo: ")


async def test_a_jobs_channel_is_stored_with_its_reservation(town):
    named, unnamed, silent = town.reserve(), town.reserve(), town.reserve()
    named.payload["metadata"] = {"channel": "API"}
    unnamed.payload["metadata"] = {"notes": "x"}
    async with town.working():
        ids = await town.add(named, unnamed, silent)
        jobs = await town.ended(*ids)
    found = [await town.stock.reservation(town.tenant, job.result["reservationId"]) for job in jobs]
    assert [view.channel for view in found] == ["API", "AI_AGENT", None]


def test_the_samples_of_the_documentation_are_payloads():
    page = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text(encoding="utf-8")
    (samples,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    names = set()
    for line in samples.splitlines():
        sample = json.loads(line)
        CATALOGUE[sample["name"]].payload.model_validate(sample["payload"])
        names.add(sample["name"])
    assert len(names) == 5


@pytest.mark.parametrize(
    ("kind", "changed", "told"),
    [
        (PartsOfOrder, {"lines": []}, "lines: Extra inputs"),
        (OfOrder, {"items": []}, "items: Extra inputs"),
        (PartsOfOrder, {"items": [{"quantity": 1, "qty": 1}]}, "items.0.qty: Extra inputs"),
    ],
)
def test_what_concerns_orders_is_spelt_as_it_is(kind, changed, told):
    ids = {"tenantId": str(uuid4()), "orderId": str(uuid4())}
    kind.model_validate(ids)
    assert refused(kind, ids | changed).startswith(told)


@pytest.mark.parametrize("items", [{}, {"itemsToRelease": []}, {"itemstorelease": []}])
def test_a_part_is_named(items):
    asked = {"tenantId": str(uuid4()), "reason": "MANUAL", "reservationId": "r"}
    ReserveRelease.model_validate(asked)
    assert "itemsToRelease" in refused(ReserveRelease, asked | {"releasePartial": True} | items)


@pytest.mark.parametrize(
    ("sku", "told"),
    [
        ("", "skus.1: sku must be a non-empty text"),
        (" \t", "skus.1: sku must be a non-empty text"),
        ("nul\0", "skus.1: sku contains a NUL character"),
        ("x" * 51, "skus.1: sku has 51 characters, at most 50"),
    ],
)
def test_skus_that_are_none_are_refused_before_anything_is_asked(sku, told):
    about = {"tenantId": str(uuid4()), "erpSystem": "SAGA", "syncType": "SELECTIVE"}
    with pytest.raises(ValidationError) as refused:
        SyncErp.model_validate(about | {"skus": ["A", sku]})
    assert problem(refused.value) == told
    with pytest.raises(ValidationError, match="skus"):
        SyncErp.model_validate(about | {"skus": ["A", "\udcff"]})


def test_skus_are_asked_for_without_the_blanks_around_them():
    about = {"tenantId": str(uuid4()), "erpSystem": "SAGA", "syncType": "SELECTIVE"}
    asked = SyncErp.model_validate(about | {"skus": [" LAPTOP-14 ", "{A}"]}).asked()
    assert asked.skus == ("LAPTOP-14", "{A}")


@pytest.mark.parametrize("kind", [{}, {"syncType": "FULL"}])
def test_who_names_skus_wants_no_other(kind):
    about = {"tenantId": str(uuid4()), "erpSystem": "SAGA", **kind}
    with pytest.raises(ValidationError) as refused:
        SyncErp.model_validate(about | {"skus": ["A"]})
    assert problem(refused.value).endswith("skus are of SELECTIVE only")
    assert SyncErp.model_validate(about | {"skus": []}).asked().skus == ()
