"""The client against a server that misbehaves, on real sockets; waits are told, not waited."""

import gzip
from decimal import Decimal

import httpx2
import pytest

from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import (
    ErpClient,
)
from cerniq_stock.erp.trouble import (
    BadAnswerError,
    ErpError,
    ForbiddenAddressError,
    OffOriginError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    UnreachableError,
)
from tests.erp.http_client import HEAD, OK, ONCE, Told, client
from tests.erp.http_server import Answer, Endless, Server, raw

# what is asked


async def test_paths_are_relative_to_the_base_and_the_root_is_the_hosts():
    async with Server() as server, client(server, path="/b1s/v1") as erp:
        await erp.get("Items", params={"$select": "A,B", "q": "a b&c"})
        await erp.get("/other?x=1", params={"y": 2})
        assert server.targets == ["/b1s/v1/Items?$select=A,B&q=a%20b%26c", "/other?x=1&y=2"]
        await erp.request("POST", "Login", json_body={"a": "ă"})
        await erp.request("POST", "token", form={"a": "b c"})
    bodies = [(r.headers.get("content-type"), r.body) for r in server.requests[2:]]
    assert bodies[0] == ("application/json", '{"a": "ă"}'.encode())
    assert bodies[1] == ("application/x-www-form-urlencoded", b"a=b+c")
    assert server.connections == 1


LINKS = [
    ("Items?$skip=20", "/b1s/v1/Items?$skip=20"),
    ("/b1s/v1/Orders?$skip=20", "/b1s/v1/Orders?$skip=20"),
    ("?page=2", "/b1s/v1/?page=2"),
    ("Items?$filter=Name eq 'ă'", "/b1s/v1/Items?$filter=Name%20eq%20'%C4%83'"),
]


@pytest.mark.parametrize(("link", "path"), LINKS)
def test_relative_links_are_of_the_service_root(link, path):
    erp = ErpClient("https://erp.example/b1s/v1", Policy())
    assert erp.resolve(link) == f"https://erp.example{path}"
    assert erp.resolve(f"https://erp.example:443{path}") == f"https://erp.example{path}"
    assert erp.resolve("?p=2", "https://erp.example/x/y?p=1") == "https://erp.example/x/y?p=2"


@pytest.mark.parametrize(
    "link",
    [
        *("https://evil.example/x", "//evil.example/x", "http://erp.example/x", "https:///x"),
        *("https://erp.example:444/x", "https://erp.example@evil.example/", "javascript:x"),
        *("https://erp.example.evil.example/", "\\\\evil.example\\x", "https://erp.example\n.evil"),
        *("//127.0.0.1/", "https://[::1]/", "https://[x", "file:///etc/passwd"),
    ],
)
def test_links_that_lead_away_are_refused_and_not_quoted(link):
    erp = ErpClient("https://erp.example/b1s/v1", Policy())
    with pytest.raises(OffOriginError) as refused:
        erp.resolve(link)
    assert "evil" not in str(refused.value)


def test_a_base_that_is_no_url_is_refused_at_once():
    for url in ("erp.example", "https://user:pass@erp.example/", "https://127.1/"):
        with pytest.raises(ForbiddenAddressError):
            ErpClient(url, Policy())


async def test_the_guard_is_in_the_way_whatever_the_environment_says(monkeypatch):
    async with Server() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, server.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with httpx2.AsyncClient() as gullible:
            await gullible.get("http://10.0.0.1/x")
        assert server.targets == ["http://10.0.0.1/x"], "the environment has its way with others"
        server.requests.clear()
        async with ErpClient(server.url, Policy(), clock=Told().clock()) as erp:
            with pytest.raises(ForbiddenAddressError) as refused:
                await erp.get("x")
        assert str(server.port) not in str(refused.value)
        assert server.requests == []
        async with client(server) as erp:
            assert (await erp.get("x")).data == {"ok": True}
        assert server.targets == ["/x"], "directly, not by way of the proxy"


async def test_a_header_that_splits_the_request_is_not_sent():
    async with Server() as server, client(server) as erp:
        for value in ("a\r\nX-Evil: 1", "ă"):
            with pytest.raises(RefusedError):
                await erp.get("x", headers={"X-Tenant": value})
        assert server.requests == []
        await erp.get("x", headers={"X-Tenant": "a"})
        assert server.requests[0].headers["x-tenant"] == "a"


async def test_cookies_are_kept_only_for_whom_they_are_meant():
    cookie = Answer({}, headers={"Set-Cookie": "B1SESSION=abc; Path=/"})
    for wanted in (False, True):
        async with Server(cookie) as server, client(server, cookies=wanted) as erp:
            await erp.get("a")
            await erp.get("b")
            assert ("cookie" in server.requests[1].headers) is wanted


# what is answered


async def test_numbers_are_decimals():
    text = b'{"a": 1.10, "b": 3, "c": 1e2}'
    async with Server(Answer(text)) as server, client(server) as erp:
        data = (await erp.get("x")).data
    assert data == {"a": Decimal("1.10"), "b": 3, "c": Decimal("1e2")}
    assert str(data["a"]) == "1.10"


SQUEEZED = gzip.compress(b'{"ok": true}')


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html><body>login</body></html>", headers={"Content-Type": "text/html"}),
        *(Answer(b) for b in (b"", b"  ", b'{"a": NaN}', b"[Infinity]", b'{"a": 1', b"hello")),
        *(Answer(b) for b in (b'{"a": "\xff"}', b"[" * 100_000)),
        Answer(SQUEEZED[:-9], headers={"Content-Encoding": "gzip"}),
        Answer(b"not gzip", headers={"Content-Encoding": "gzip"}),
        Answer(b"{}", headers={"Content-Encoding": "br"}),
        raw(HEAD + b'Connection: close\r\n\r\n{"data": ['),
        raw(HEAD + b"Content-Length: 3\r\n\r\n" + b'{"data": []}'),
    ],
)
async def test_answers_that_cannot_be_read_are_transient_trouble_not_an_empty_list(answer):
    async with Server(answer) as server, client(server, retry=ONCE) as erp:
        with pytest.raises(BadAnswerError) as bad:
            await erp.get("x")
    assert bad.value.retryable


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("body", [b"", b"\r\n", gzip.compress(b"")])
async def test_an_empty_answer_is_one_where_the_call_says_so(status, body):
    packed = {"Content-Encoding": "gzip"} if body.startswith(b"\x1f") else {}
    answer = Answer(b"" if status == 204 else body, status, packed)
    async with Server(answer) as server, client(server) as erp:
        answered = await erp.request("POST", "x", json_body={}, may_be_empty=True)
        assert (answered.status, answered.data) == (status, None)
        if status != 204:
            with pytest.raises(BadAnswerError):
                await erp.request("POST", "x", json_body={})


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer(b) for b in (b"<html>login", b'{"id": ', b"hello", b" " * 70 + b"<html>")),
        Answer(SQUEEZED[:-9], headers={"Content-Encoding": "gzip"}),
        Answer(SQUEEZED[:5], headers={"Content-Encoding": "gzip"}),
        Answer(b"", 500),
        raw(HEAD + b"Content-Length: 9\r\n\r\n"),
    ],
)
async def test_what_cannot_be_read_or_is_missing_is_not_empty(answer):
    async with Server(answer) as server, client(server) as erp:
        with pytest.raises(ErpError) as trouble:
            await erp.request("POST", "x", json_body={}, may_be_empty=True)
    assert trouble.value.retryable


@pytest.mark.parametrize(
    "answer",
    [
        raw(),
        raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
        raw(HEAD + b"Content-Length: 100\r\n\r\n" + b'{"ok": true}'),
        raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[1,2,"),
        raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
        Answer({}, 500),
        Answer({}, 503),
    ],
)
async def test_broken_connections_and_servers_in_trouble_are_tried_again(answer):
    told = Told()
    async with Server(answer, answer, OK) as server, client(server, told) as erp:
        assert (await erp.get("x")).data == {"ok": True}
        assert len(server.requests) == 3
    assert told.sleeps == [0.5, 1.0]


async def test_what_is_not_idempotent_is_sent_once_unless_the_call_says_so():
    async with Server(Answer({}, 503), OK) as server, client(server) as erp:
        with pytest.raises(UnreachableError) as trouble:
            await erp.request("POST", "x", json_body={})
        assert trouble.value.status == 503
        assert len(server.requests) == 1
    async with Server(Answer({}, 503), OK) as server, client(server) as erp:
        await erp.request("POST", "x", json_body={}, idempotent=True)
        assert len(server.requests) == 2


async def test_patience_ends():
    told = Told()
    async with Server(Answer({}, 500)) as server, client(server, told) as erp:
        with pytest.raises(UnreachableError):
            await erp.get("x")
        assert len(server.requests) == 4
    assert told.sleeps == [0.5, 1.0, 2.0]


async def test_nobody_listens(unused_tcp_port):
    policy = Policy.parse(f"127.0.0.1:{unused_tcp_port}")
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with ErpClient(url, policy, retry=ONCE) as erp:
        with pytest.raises(UnreachableError) as trouble:
            await erp.get("x")
    assert "127" not in str(trouble.value)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, RefusedError, False),
        (403, RefusedError, False),
        (404, RefusedError, False),
        (301, RefusedError, False),
        (308, RefusedError, False),
        (408, TimedOutError, True),
        (429, RateLimitedError, True),
        (502, UnreachableError, True),
    ],
)
async def test_statuses_have_their_errors_and_the_body_stays_out_of_them(status, kind, retryable):
    answer = Answer({"error": "s3cret"}, status, {"Location": "http://127.0.0.1:1/"})
    async with Server(answer) as server, client(server, retry=ONCE) as erp:
        with pytest.raises(ErpError) as trouble:
            await erp.get("x")
        assert len(server.requests) == 1
        assert (await erp.get("x", accept=[status])).data == {"error": "s3cret"}
    error = trouble.value
    assert type(error) is kind
    assert (error.status, error.retryable, error.problem) == (
        status,
        retryable,
        {"error": "s3cret"},
    )
    assert "s3cret" not in str(error) + repr(error)


@pytest.mark.parametrize("to", ["https://[bad", "//", "http://\xff", "https://h:99999999/", "\t:"])
async def test_a_redirect_to_nowhere_is_refused_like_any(to):
    async with Server(Answer(b"", 302, {"Location": to})) as server, client(server) as erp:
        with pytest.raises(RefusedError):
            await erp.get("x")
        assert len(server.requests) == 1


async def test_an_endless_error_does_not_get_far():
    endless = Endless(b"HTTP/1.1 400 No\r\n\r\n")
    async with Server(endless) as server, client(server) as erp:
        with pytest.raises(RefusedError) as refused:
            await erp.get("x")
    assert refused.value.problem is None


async def test_an_accepted_status_needs_no_json():
    pages = Answer(b"<html>not here", 404), Answer(b"", 304), Answer(b"<html>")
    async with Server(*pages) as server, client(server, retry=ONCE) as erp:
        for status in (404, 304):
            answer = await erp.get("x", accept=[404, 304])
            assert (answer.status, answer.data) == (status, None)
        with pytest.raises(BadAnswerError):
            await erp.get("x", accept=[404, 304])
