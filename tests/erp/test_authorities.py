"""Whom sessions trust: the system's authorities, the operator's file, and a connection's own."""

import os

import pytest

from cerniq_stock.erp.connection import open_source
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.http import Retry
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.trouble import CertificateError, ErpError
from cerniq_stock.errors import InvalidInputError
from tests.erp.http_server import Answer, Server, make_tls

ONCE = Retry(attempts=1)
CREDENTIALS = {
    "SAGA": {"apiKey": "k", "companyCode": "F1"},
    "SAP_B1": {"companyDb": "D", "userName": "u", "password": "p"},
    "OBLIO": {"email": "a@b.example", "secret": "s", "cif": "RO123"},
    "MICROSOFT_BC": {"tenantId": "t", "company": "c", "clientId": "i", "clientSecret": "s"},
    "CUSTOM_API": {
        "authType": "bearer",
        "credentials": {"token": "t"},
        "endpoints": {"allStock": "s"},
    },
}
FIELDS = {"field_mapping": {"sku": "sku", "total": "total"}}


async def to_this_machine(host, port):
    del host, port
    return list(Policy.parse("127.0.0.1:1").networks[0][0])


async def ask(server, system="SAGA", ca_file=None, **more):
    """Ask for as little as possible; CertificateError, or whatever comes after trust."""
    url = f"https://erp.test:{server.port}"
    settings = {"baseUrl": url, **CREDENTIALS[system], **more}
    if system == "MICROSOFT_BC":
        settings["tokenUrl"] = f"{url}/token"
    dial = {"resolver": to_this_machine, "retry": ONCE, "ca_file": ca_file}
    policy = Policy.parse(f"erp.test:{server.port},127.0.0.1:{server.port}")
    async with open_source(SystemName(system), settings, policy, **dial) as source:
        await source.check()


@pytest.mark.parametrize("system", CREDENTIALS)
async def test_every_session_trusts_the_operators_file(system, tmp_path):
    tls = make_tls(tmp_path)
    async with Server(Answer({}, 400), tls=tls.server) as server:
        with pytest.raises(CertificateError):
            await ask(server, system)
        assert not server.requests
        with pytest.raises(ErpError) as told:
            await ask(server, system, tls.ca_file)
        assert not isinstance(told.value, CertificateError)
        assert server.requests


async def test_a_connections_own_authority_counts_besides(tmp_path):
    one, other = ((tmp_path / name) for name in ("one", "other"))
    one.mkdir()
    other.mkdir()
    tls, foreign = make_tls(one), make_tls(other, "other.test")
    async with Server(tls=tls.server) as server:
        await ask(server, ca_file=tls.ca_file, caPem=foreign.ca_file.read_text())
        await ask(server, ca_file=foreign.ca_file, caPem=tls.ca_file.read_text())
        with pytest.raises(CertificateError):
            await ask(server, ca_file=foreign.ca_file)


async def test_a_file_that_is_renewed_is_read_again(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    tls, foreign = make_tls(tmp_path), make_tls(folder, "other.test")
    file = tmp_path / "authorities.pem"
    file.write_bytes(foreign.ca_file.read_bytes())
    async with Server(tls=tls.server) as server:
        with pytest.raises(CertificateError):
            await ask(server, ca_file=file)
        file.write_bytes(tls.ca_file.read_bytes())
        later = file.stat().st_mtime_ns + 10**9
        os.utime(file, ns=(later, later))
        await ask(server, ca_file=file)


@pytest.mark.parametrize("text", [None, "", "no certificate"])
async def test_a_file_that_cannot_be_read_is_named(text, tmp_path):
    file = tmp_path / "authorities.pem"
    if text is not None:
        file.write_text(text)
    async with Server() as server:
        for own in ({}, {"caPem": "x"}):
            with pytest.raises(InvalidInputError, match="CERNIQ_ERP_CA_FILE") as told:
                await ask(server, ca_file=file, **own)
            assert told.value.field == "CERNIQ_ERP_CA_FILE"
