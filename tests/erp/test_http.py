"""The client against a server that misbehaves, on real sockets; waits are told, not waited."""

import asyncio
import email.utils
import gzip
import io
import logging
import os
import tracemalloc
from decimal import Decimal

import httpx2
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.bodies import Gunzip, retry_after
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import (
    Clock,
    ErpClient,
    Redactor,
    Retry,
    Timeouts,
    tls_context,
)
from cerniq_stock.erp.trouble import (
    BadAnswerError,
    CertificateError,
    ErpError,
    ForbiddenAddressError,
    OffOriginError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    TooLargeError,
    UnauthorizedError,
    UnreachableError,
)
from cerniq_stock.errors import InvalidInputError
from tests.erp.http_server import Answer, Endless, Server, bomb, make_tls, raw, stall

MEGABYTE = 1024 * 1024
ONCE = Retry(attempts=1)
OK = Answer({"ok": True})


class Told:
    """A clock that only moves when somebody sleeps."""

    def __init__(self):
        self.now = 1_700_000_000.0
        self.sleeps = []

    async def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def clock(self):
        return Clock(lambda: self.now, lambda: self.now, self.sleep, lambda: 1.0)


def client(server, told=None, path="", **options):
    policy = Policy.parse(f"127.0.0.1:{server.port}")
    clock = (told or Told()).clock()
    return ErpClient(server.url + path, policy, clock=clock, **options)


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


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SQUEEZED = gzip.compress(b'{"ok": true}')


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html><body>login</body></html>", headers={"Content-Type": "text/html"}),
        *(Answer(b) for b in (b"", b"  ", b'{"a": NaN}', b"[Infinity]", b'{"a": 1', b"hello")),
        *(Answer(b) for b in (b'{"a": "\xff"}', b"[" * 100_000, b"[" + b"9" * 5000 + b"]")),
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


# limits


async def test_a_silent_server_is_left():
    quick = Timeouts(read_s=0.02)
    for answer in (stall(), stall(HEAD), stall(HEAD + b"Content-Length: 9\r\n\r\n{")):
        async with Server(answer) as server, client(server, retry=ONCE, timeouts=quick) as erp:
            with pytest.raises(TimedOutError):
                await erp.get("x")


async def test_a_server_that_trickles_is_left_after_the_total():
    async def trickle(writer):
        writer.write(HEAD + b"\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.005)

    limits = Timeouts(read_s=30, total_s=0.05)
    async with Server(trickle) as server, client(server, retry=ONCE, timeouts=limits) as erp:
        with pytest.raises(TimedOutError):
            await erp.get("x")


async def test_an_endless_body_is_cut_at_the_cap():
    endless = Endless()
    async with Server(endless) as server, client(server, max_bytes=MEGABYTE) as erp:
        with pytest.raises(TooLargeError):
            await erp.get("x")
        # what the sockets' buffers hold comes on top
        assert endless.sent < 16 * MEGABYTE
        assert len(server.requests) == 1


async def test_a_bomb_is_cut_at_the_cap_with_little_memory():
    huge, small = bomb(400 * MEGABYTE), bomb(MEGABYTE // 2)
    sink = io.BytesIO()
    async with Server(huge, huge, small) as server, client(server, max_bytes=MEGABYTE) as erp:
        tracemalloc.start()
        with pytest.raises(TooLargeError):
            await erp.get("x")
        with pytest.raises(TooLargeError):
            await erp.download("x", sink)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * MEGABYTE
        assert (await erp.download("x", sink)).size == MEGABYTE // 2


async def test_packed_parts_without_content_are_not_unpacked_for_ever():
    nothing = gzip.compress(b"")
    head = HEAD + b"Content-Encoding: gzip\r\n\r\n"
    many = Endless(head, nothing * 3000)
    async with Server(many) as server, client(server, retry=ONCE) as erp:
        with pytest.raises(BadAnswerError, match="too many parts"):
            await erp.get("x")
    # stored blocks of no length: one member, all of it on the wire, none of it content
    empty = Endless(head + nothing[:10], b"\0\0\0\xff\xff" * 10_000)
    async with Server(empty) as server, client(server, max_bytes=MEGABYTE) as erp:
        with pytest.raises(TooLargeError):
            await erp.get("x")


@given(st.binary(max_size=3000), st.integers(1, 50), st.integers(1, 3))
def test_unpacking_gives_what_was_packed_however_it_is_cut(content, step, members):
    packed = gzip.compress(content) * members
    unpack = Gunzip()
    parts = [packed[i : i + step] for i in range(0, len(packed), step)]
    assert b"".join(p for part in parts for p in unpack.feed(part)) == content * members
    assert unpack.done


def test_unpacking_ends_where_a_piece_ends_exactly():
    for size in (MEGABYTE - 1, MEGABYTE, MEGABYTE + 1, 3 * MEGABYTE):
        unpack = Gunzip()
        assert sum(map(len, unpack.feed(gzip.compress(os.urandom(9) + b"0" * (size - 9))))) == size
        assert unpack.done


async def test_downloads_go_to_the_file_and_start_over_after_a_break(tmp_path):
    broken = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"old;" * 9000)
    whole = Answer(b"sku;qty\nA;1\n", headers={"Content-Type": "text/csv"})
    with (tmp_path / "stock.csv").open("w+b") as file:
        async with Server(broken, whole) as server, client(server) as erp:
            answer = await erp.download("x", file)
        assert file.read() == b"sku;qty\nA;1\n"
    assert answer.size == 12


async def test_a_login_page_is_no_download():
    page = Answer(b"\n<!DOCTYPE html><p>", headers={"Content-Type": "text/csv"})
    async with Server(page) as server, client(server, retry=ONCE) as erp:
        with pytest.raises(BadAnswerError):
            await erp.download("x", io.BytesIO())


# patience and pace


def date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 1),
        ({"retry-after": date(1_000_030), "date": date(1_000_000)}, 30),
        ({"retry-after": date(2_000_030)}, 30),
        ({"retry-after": date(2_000_030).replace("GMT", "-0000")}, 30),
        ({"retry-after": date(1_000_000), "date": date(1_000_030)}, 1),
        ({"retry-after": "99999999"}, 3600),
        ({"retry-after": date(9_000_000), "date": date(1_000_000)}, 3600),
        *(({"retry-after": text}, None) for text in ("", "-5", "soon", "1.5", "٣", "9" * 400)),
        ({"retry-after": "Fri, 99 Foo 2026 99:99:99 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers, 2_000_000) == seconds


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_it(wish, now):
    found = retry_after({"retry-after": wish, "date": now}, 0)
    assert found is None or 1 <= found <= 3600


async def test_an_erps_wish_is_granted_in_both_forms():
    told = Told()
    first = Answer({}, 429, {"Retry-After": "7"})
    second = Answer({}, 503, {"Retry-After": date(1_000_030), "Date": date(1_000_000)})
    async with Server(first, second, OK) as server, client(server, told) as erp:
        await erp.get("x")
    assert told.sleeps == [7, 30]


async def test_an_erp_that_wants_to_be_left_alone_for_long_is():
    told = Told()
    blocked = Answer({}, 429, {"Retry-After": "600"})
    async with Server(blocked, OK) as server, client(server, told) as erp:
        with pytest.raises(RateLimitedError) as limited:
            await erp.get("x")
        assert len(server.requests) == 1
    assert limited.value.retry_after_s == 600
    assert told.sleeps == []


async def test_requests_keep_their_distance_also_those_at_once_and_repeated():
    told = Told()
    async with Server(Answer({}, 500), OK) as server, client(server, told, rate=2) as erp:
        began = told.now
        await asyncio.gather(*(erp.get(str(number)) for number in range(3)))
        assert len(server.requests) == 4
        assert told.now - began >= 1.5
    told = Told()
    async with Server(OK) as server, client(server, told) as erp:
        await asyncio.gather(*(erp.get(str(number)) for number in range(3)))
    assert told.sleeps == []


# credentials


class Session:
    """Logs in as an adapter does, and counts."""

    def __init__(self, password="right"):
        self.erp = None
        self.password = password
        self.token = None
        self.renewals = 0

    async def headers(self):
        if self.token is None:
            body = {"password": self.password}
            answer = await self.erp.request("POST", "login", json_body=body, authorize=False)
            self.token = answer.data["token"]
        return {"Authorization": f"Bearer {self.token}"}

    async def renew(self):
        self.renewals += 1
        self.token = None


class Sessions:
    """A server's side: tokens that can be taken back."""

    def __init__(self):
        self.logins = 0
        self.valid = True

    def __call__(self, request):
        if request.target == "/login":
            self.logins += 1
            if b"right" not in request.body:
                return Answer({"error": "s3cret"}, 401)
            return Answer({"token": f"t{self.logins}"})
        current = request.headers.get("authorization") == f"Bearer t{self.logins}"
        return OK if self.valid and current else Answer({}, 401)


async def test_many_requests_log_in_once_and_renew_once():
    sessions, auth = Sessions(), Session()
    async with Server(sessions) as server, client(server, auth=auth) as erp:
        auth.erp = erp
        await asyncio.gather(*(erp.get("x") for _ in range(8)))
        assert (sessions.logins, auth.renewals) == (1, 0)
        sessions.logins += 1  # the token is no longer the current one
        await asyncio.gather(*(erp.get("x") for _ in range(8)))
        assert (sessions.logins, auth.renewals) == (3, 1)


async def test_a_second_401_ends_it():
    sessions, auth = Sessions(), Session()
    sessions.valid = False
    async with Server(sessions) as server, client(server, auth=auth) as erp:
        auth.erp = erp
        with pytest.raises(UnauthorizedError):
            await erp.get("x")
        assert server.targets == ["/login", "/x", "/login", "/x"]


async def test_wrong_credentials_are_tried_once_as_users_get_locked_out():
    sessions, auth = Sessions(), Session("wrong")
    async with Server(sessions) as server, client(server, auth=auth) as erp:
        auth.erp = erp
        errors = await asyncio.gather(*(erp.get("x") for _ in range(5)), return_exceptions=True)
        assert {type(error) for error in errors} == {UnauthorizedError}
        assert server.targets == ["/login"]


async def test_a_login_that_forgets_to_say_so_does_not_wait_for_itself():
    class Confused(Session):
        async def headers(self):
            await self.erp.get("login")

    auth = Confused()
    async with Server() as server, client(server, auth=auth) as erp:
        auth.erp = erp
        with pytest.raises(AssertionError, match="authorize=False"):
            await erp.get("x")


# secrets and certificates


def test_secrets_are_taken_out_in_every_form():
    redactor = Redactor()
    redactor.add("pä/ss word&1", "abc", 'quo"te')
    for text in ("pä/ss word&1", "p%C3%A4/ss%20word%261", "p%C3%A4%2Fss+word%261", 'quo\\"te'):
        assert redactor.clean(f"<{text}>") == "<***>"
    assert redactor.clean("alphabet abc") == "alphabet abc"


async def test_logs_name_parameters_and_no_values(caplog):
    caplog.set_level(logging.DEBUG)
    async with Server(Answer({}, 500), OK) as server, client(server) as erp:
        erp.redactor.add("hook-4711")
        with structlog.testing.capture_logs() as lines:
            await erp.get("in/hook-4711", params={"cif": "RO1234", "token": "s3cret"})
    assert [line["event"] for line in lines] == ["erp again", "erp request"]
    assert lines[1]["url"] == f"{server.url}/in/***?cif&token"
    assert "s3cret" not in f"{lines}{caplog.text}"
    assert "RO1234" not in f"{lines}{caplog.text}"


async def test_a_certificate_must_be_known_and_of_the_name(tmp_path):
    tls = make_tls(tmp_path)

    async def names(host, port):
        return list(Policy.parse("127.0.0.1:1").networks[0][0])

    async with Server(tls=tls.server) as server:
        policy = Policy.parse(f"127.0.0.1:{server.port}")

        async def ask(host, context):
            url = f"https://{host}:{server.port}"
            async with ErpClient(url, policy, tls=context, resolver=names, retry=ONCE) as erp:
                return (await erp.get("x")).status

        assert await ask("erp.test", tls_context(tls.ca_file)) == 200
        assert await ask("erp.test", tls_context(ca_pem=tls.ca_file.read_text())) == 200
        for host, context in (("erp.test", tls_context()), ("no.test", tls_context(tls.ca_file))):
            with pytest.raises(CertificateError):
                await ask(host, context)
    (tmp_path / "bad.pem").write_text("no certificate")
    for bad in (tmp_path / "bad.pem", tmp_path / "none.pem"):
        with pytest.raises(InvalidInputError):
            tls_context(bad)
