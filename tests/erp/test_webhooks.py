"""What a platform answers to ERPs' calls, and the jobs that come of them."""

import base64
import json
import re
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from cerniq_stock.erp.fakes.microsoft_bc import FakeMicrosoftBc
from cerniq_stock.erp.fakes.saga import FakeSaga
from cerniq_stock.erp.rows import PayloadError, SystemName
from cerniq_stock.erp.webhooks import answer, job
from cerniq_stock.jobs.catalogue import CATALOGUE

TENANT = uuid4()
SAGA, BC, OBLIO = SystemName.SAGA, SystemName.MICROSOFT_BC, SystemName.OBLIO


def payload(system, body):
    """The job's payload, as it was checked by its kind after travelling."""
    name, asked = job(system, TENANT, body)
    return name, CATALOGUE[name].payload.model_validate(json.loads(json.dumps(asked))).asked()


def test_handshakes():
    assert answer(BC, {"validationToken": "a+/="}, {}) == ("text/plain", "a+/=")
    kind, body = answer(SystemName.SAP_B1, {}, {"x-b1-webhook-token": "t"})
    assert (kind, json.loads(body)) == ("application/json", {"Challenge": "t"})
    kind, body = answer(OBLIO, {}, {"x-oblio-request-id": "r-1"})
    assert (kind, base64.b64decode(body)) == ("text/plain", b"r-1")


@pytest.mark.parametrize("system", SystemName)
@pytest.mark.parametrize("value", ["", "a\r\nSet-Cookie: x", "<b> </b>", "ș", "x" * 3000])
def test_what_is_no_handshake_is_not_repeated(system, value):
    headers = {"x-b1-webhook-token": value, "x-oblio-request-id": value}
    assert answer(system, {"validationToken": value}, headers) is None
    assert answer(system, {}, {}) is None


def test_a_job_of_sagas_event():
    saga = FakeSaga()
    saga.received("A", "5", "0001")
    body = json.dumps(saga.event("A"), default=str).encode()
    name, asked = payload(SAGA, body)
    assert (name, asked.kind) == ("stock:sync:erp", "WEBHOOK")
    assert asked.payload["articole"][0]["cod_articol"] == "A"


def test_a_job_of_business_centrals_notifications_with_a_mark_before_them():
    bc = FakeMicrosoftBc()
    kept = {"subscriptionId": "w", "clientState": "s", "until": 0}
    told = bc.notifications(kept, [("5d115c9c-0000-4000-8000-000000000001", "updated")])
    body = b"\xef\xbb\xbf" + json.dumps({"value": told}).encode()
    name, asked = payload(BC, body)
    digest = sha256(told[0].pop("clientState").encode()).hexdigest()
    sent = {"value": [{**told[0], "clientStateSha256": digest}]}
    assert (name, asked.kind, asked.payload) == ("stock:sync:erp", "WEBHOOK", sent)


def test_a_job_of_sap_events_one_or_many():
    event = {"type": "sap.b1.Items.Updated.v1", "data": {"ItemCode": "A"}}
    for told in (event, [event, event]):
        _, asked = payload(SystemName.SAP_B1, json.dumps(told).encode())
        assert asked.payload == told


@pytest.mark.parametrize("body", [b"", b"anything", b'{"data": {"x": 1}}'])
def test_whatever_oblio_says_everything_is_read(body):
    name, asked = payload(OBLIO, body)
    assert (name, asked.kind, asked.payload) == ("stock:sync:oblio", "FULL", None)


def test_numbers_travel_as_they_were_written():
    body = b'{"eveniment": "STOC_MODIFICAT", "articole": [0.1, 12.345, 594000000000123456, 1e999]}'
    _, asked = payload(SAGA, body)
    assert asked.payload["articole"] == [0.1, 12.345, 594000000000123456, "1e999"]


def test_more_digits_than_python_reads_travel_as_text():
    digits = "9" * 5000
    body = f'{{"eveniment": "STOC_MODIFICAT", "articole": [{digits}, 7]}}'
    _, asked = payload(SAGA, body.encode())
    assert asked.payload["articole"] == [digits, 7]


@pytest.mark.parametrize(
    ("system", "body"),
    [
        (SAGA, b"<html>"),
        (SAGA, b""),
        (SAGA, b"[]"),
        (SAGA, b'{"stocuri": []}'),
        (SAGA, b'{"eveniment": "STOC_MODIFICAT", "x": NaN}'),
        (SAGA, b"[" * 100_000),
        (BC, b"{}"),
        (BC, b'{"value": [1]}'),
        (BC, b"\xff\xfe{"),
        (SystemName.CUSTOM_API, b"{"),
        (SystemName.CSV_IMPORT, b"{}"),
    ],
)
def test_what_is_no_notification_makes_no_job(system, body):
    with pytest.raises(PayloadError):
        job(system, TENANT, body)


def test_what_the_page_says(capsys):
    page = (Path(__file__).parents[2] / "docs" / "erp.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (block,) = (one for one in blocks if "webhooks import" in one)
    exec(block, {})
    assert capsys.readouterr().out == "('text/plain', '3f9c')\nstock:sync:erp WEBHOOK\n"
