"""Tokens: asked for once, renewed in time, by the clock of the server that gave them."""

import asyncio
import base64
import email.utils
from decimal import Decimal
from urllib.parse import parse_qs

import httpx2
import pytest
import structlog

from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import Answer as Read
from cerniq_stock.erp.http import Clock, ErpClient
from cerniq_stock.erp.redactor import Redactor
from cerniq_stock.erp.tokens import ClientCredentials, Grant, lifetime
from cerniq_stock.erp.trouble import BadAnswerError, RefusedError, UnauthorizedError
from tests.erp.http_server import Answer, Server

BODY = Grant("me@example.ro", "s3cret/+ word", style="body")


class Told:
    def __init__(self):
        self.now = 1000.0

    async def sleep(self, seconds):
        self.now += seconds

    def clock(self):
        return Clock(lambda: self.now, lambda: self.now, self.sleep, lambda: 1.0)


class Tokens:
    """A server with tokens; `current` is the only one it takes."""

    def __init__(self, **fields):
        self.fields = fields
        self.given = 0
        self.taken_back = False

    def __call__(self, request):
        if request.target == "/token":
            self.given += 1
            self.taken_back = False
            return Answer({"access_token": f"token-{self.given}", **self.fields})
        wanted = f"Bearer token-{self.given}"
        good = request.headers.get("authorization") == wanted and not self.taken_back
        return Answer({"ok": True}) if good else Answer({"status": 401}, 401)


def session(server, grant=BODY, told=None):
    policy = Policy.parse(f"127.0.0.1:{server.port}")
    erp = ErpClient(server.url, policy, clock=(told or Told()).clock())
    erp.auth = ClientCredentials(erp, "token", grant)
    return erp


async def test_the_form_says_who_asks_in_the_body_or_in_a_basic_header():
    async with Server(Tokens()) as server:
        async with session(server) as erp:
            await erp.get("x")
        extra = {"resource": "https://tenant.example"}
        basic = Grant("id:1", "s e/c", scope="a b", extra=extra)
        async with session(server, basic) as erp:
            await erp.get("x")
        asked = [request for request in server.requests if request.target == "/token"]
    assert "authorization" not in asked[0].headers
    assert parse_qs(asked[0].body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["me@example.ro"],
        "client_secret": ["s3cret/+ word"],
    }
    assert base64.b64decode(asked[1].headers["authorization"].split()[1]) == b"id%3A1:s+e%2Fc"
    assert parse_qs(asked[1].body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["a b"],
        "resource": ["https://tenant.example"],
    }


async def test_one_token_for_many_requests_until_a_minute_before_its_end():
    told, tokens = Told(), Tokens(expires_in="3600")
    async with Server(tokens) as server, session(server, told=told) as erp:
        await asyncio.gather(*(erp.get("x") for _ in range(6)))
        told.now += 3539
        await erp.get("x")
        assert tokens.given == 1
        told.now += 1
        await asyncio.gather(*(erp.get("x") for _ in range(6)))
        assert tokens.given == 2


async def test_a_token_that_is_taken_back_is_renewed_once():
    tokens = Tokens(expires_in=3600)
    async with Server(tokens) as server, session(server) as erp:
        await erp.get("x")
        tokens.taken_back = True
        await asyncio.gather(*(erp.get("x") for _ in range(6)))
        assert tokens.given == 2


async def test_one_source_serves_two_sessions():
    tokens = Tokens(expires_in=3600)
    async with Server(tokens) as server, session(server) as one, session(server) as two:
        two.auth = one.auth
        await asyncio.gather(one.get("x"), two.get("x"), one.get("y"), two.get("y"))
        assert tokens.given == 1


def date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


@pytest.mark.parametrize(
    ("data", "headers", "seconds"),
    [
        ({"expires_in": 3599}, {}, 3599),
        ({"expires_in": "3600"}, {}, 3600),
        ({"expires_in": "3600", "request_time": "1763628000"}, {}, 3600),
        (
            {"expires_in": "3600", "request_time": "1763628000"},
            {"Date": date(1763628000 + 600)},
            3000,
        ),
        ({"expires_in": "3600", "request_time": "1763628000"}, {"Date": date(1763620000)}, 3600),
        ({"expires_in": "60", "request_time": "1763628000"}, {"Date": date(1763629000)}, 0),
        ({"expires_in": "3600", "request_time": "soon"}, {"Date": date(1763628000)}, 3600),
        ({"expires_in": 10**11}, {}, 86_400),
        *(({"expires_in": value}, {}, 600) for value in (None, "", "1h", -1, True, Decimal("1.5"))),
        ({}, {}, 600),
    ],
)
def test_lifetimes(data, headers, seconds):
    assert lifetime(Read(200, httpx2.Headers(headers), "", data)) == seconds


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_refused_credentials_are_said_without_the_servers_words(status):
    refusal = {"error": "invalid_client", "error_description": "secret s3cret/+ word is wrong"}
    async with Server(Answer(refusal, status)) as server, session(server) as erp:
        with pytest.raises(UnauthorizedError, match=r"credentials: invalid_client$"):
            await erp.get("x")
        assert server.targets == ["/token"]
        with pytest.raises(UnauthorizedError):
            await erp.get("x")
        assert server.targets == ["/token"], "not tried again"
    async with Server(Answer({"error": "s3cret"}, status)) as server, session(server) as erp:
        with pytest.raises(UnauthorizedError, match=r"credentials$"):
            await erp.get("x")


async def test_a_missing_address_is_not_mistaken_for_wrong_credentials():
    async with Server(Answer({}, 404)) as server, session(server) as erp:
        with pytest.raises(RefusedError):
            await erp.get("x")


async def test_a_server_in_trouble_is_asked_again():
    ok = Answer({"ok": True})
    token = Answer({"access_token": "t-123", "token_type": "Bearer"})
    async with Server(Answer({}, 503), token, ok) as server, session(server) as erp:
        await erp.get("x")
        assert server.targets == ["/token", "/token", "/x"]


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"access_token": ""},
        {"access_token": 5},
        {"access_token": "a\r\nX-Evil: 1"},
        {"access_token": "a", "token_type": "mac"},
        {"error": "none"},
    ],
)
async def test_what_is_no_token_is_a_bad_answer(data):
    async with Server(Answer(data)) as server, session(server) as erp:
        with pytest.raises(BadAnswerError):
            await erp.get("x")


async def test_neither_token_nor_secret_is_shown():
    redactor = Redactor()
    tokens = Tokens()
    async with Server(tokens) as server:
        policy = Policy.parse(f"127.0.0.1:{server.port}")
        async with ErpClient(server.url, policy, redactor=redactor) as erp:
            erp.auth = ClientCredentials(erp, "token", BODY)
            with structlog.testing.capture_logs() as lines:
                await erp.get("x/token-1")
    assert redactor.clean("a token-1 and s3cret/+ word") == "a *** and ***"
    assert "token-1" not in str(lines)
    assert "s3cret" not in repr(erp.auth)
    assert "s3cret" not in repr(BODY)
