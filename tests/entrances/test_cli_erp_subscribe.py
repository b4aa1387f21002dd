"""`cerniq-stock erp subscribe`: an Oblio that tells a platform on this machine of changes."""

import json

import pytest

from cerniq_stock.erp.fakes.base import FakeServer, Reply
from cerniq_stock.erp.fakes.oblio import FakeOblio
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.secrets import new_key
from cerniq_stock.erp.webhooks import answer
from tests.entrances.background import going_on

SECRET = "canary-in-the-address"
URL = f"https://platform.example/hooks/{SECRET}"


class Platform(FakeServer):
    async def answer(self, request):
        _, body = answer(SystemName.OBLIO, request.query, request.headers)
        return Reply(body.encode(), 200)


@pytest.fixture
def oblio(ok, monkeypatch):
    """The shop's Oblio, which reaches the platform."""
    monkeypatch.setenv("CERNIQ_SECRET_KEYS", new_key("k1"))
    with going_on(Platform()) as platform:
        routes = {"https://platform.example": platform.url}
        with going_on(FakeOblio(routes=routes)) as oblio:
            monkeypatch.setenv("CERNIQ_ERP_ALLOWED_HOSTS", f"127.0.0.1:{oblio.port}")
            config = json.dumps({"connection": oblio.settings()})
            ok("erp", "add", "OBLIO", "--config", "-", stdin=config)
            yield oblio


def test_from_an_address_to_a_webhook_and_back(ok, cli, oblio):
    view = ok("erp", "subscribe", "oblio", "--url", "-", "--json", stdin=f"{URL}\n")
    assert [hook["endpoint"] for hook in oblio.webhooks.values()] == [URL]
    assert (view.document["erpSystem"], view.document["expiresAt"]) == ("OBLIO", None)
    shown = ok("erp", "subscribe", "OBLIO")
    assert "platform.example" in shown.stdout
    assert "never by itself" in shown.stdout
    assert SECRET not in view.stdout + view.stderr + shown.stdout + shown.stderr
    document = ok("erp", "unsubscribe", "OBLIO", "--json").document
    assert (document, oblio.webhooks) == ({"erpSystem": "OBLIO", "unsubscribed": True}, {})
    gone = cli("erp", "subscribe", "OBLIO", "--json")
    assert (gone.exit_code, gone.document["error"]["code"]) == (3, "NOT_FOUND")


def test_what_cannot_be_subscribed_to(ok, cli, oblio):
    refused = cli("erp", "subscribe", "OBLIO", "--url", URL.replace("https", "http"), "--json")
    assert (refused.exit_code, refused.document["error"]["field"]) == (5, "url")
    assert SECRET not in refused.stdout + refused.stderr
    ok("erp", "add", "CSV_IMPORT", "--config", "-", stdin="{}")
    elsewhere = cli("erp", "subscribe", "CSV_IMPORT", "--url", URL)
    assert elsewhere.exit_code == 5
    assert "at the ERP itself" in elsewhere.stderr
    assert cli("erp", "unsubscribe", "SAGA").exit_code == 3
