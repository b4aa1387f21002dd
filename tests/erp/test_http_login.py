"""Who the client says that it is, and to whom: logins, secrets, certificates."""

import asyncio
import logging

import pytest
import structlog

from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import (
    ErpClient,
    tls_context,
)
from cerniq_stock.erp.redactor import Redactor
from cerniq_stock.erp.trouble import (
    CertificateError,
    UnauthorizedError,
)
from cerniq_stock.errors import InvalidInputError
from tests.erp.http_client import OK, ONCE, client
from tests.erp.http_server import Answer, Server, make_tls

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


def test_what_was_shortened_in_the_middle_of_a_secret_tells_no_part_of_it():
    redactor = Redactor()
    redactor.add("eyJhbGciOi.payload.sign")
    for cut in ("eyJh", "eyJhbGci", "eyJhbGciOi.payload.sig"):
        assert redactor.clean(f"no: {cut}…, and {cut}…") == "no: ***…, and ***…"
    for innocent in ("eyJ…", "bGciOi…", "no eyJhbGci", "…eyJhbGci", "…"):
        assert redactor.clean(innocent) == innocent


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
