"""An HTTP server on a real socket that can misbehave in every way an ERP does, and some more."""

import asyncio
import contextlib
import datetime as dt
import gzip
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """A well-formed answer; `body` that is no bytes goes out as JSON."""

    body: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        kind = "text/plain" if isinstance(self.body, bytes) else "application/json"
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
        return f"HTTP/1.1 {self.status} Whatever\r\n{lines}\r\n".encode() + body


Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes what it likes; the connection is closed after it."""


def raw(*parts: bytes) -> Behaviour:
    """These bytes, then the end of the connection."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return behave


def stall(before: bytes = b"") -> Behaviour:
    """These bytes, then nothing: until the server is closed."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        await writer.drain()
        await asyncio.Event().wait()

    return behave


@dataclass
class Endless:
    """A body without end; `sent` tells how much of it somebody took."""

    head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    part: bytes = b"[" * 65536
    sent: int = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.head)
        while True:
            writer.write(self.part)
            await writer.drain()
            self.sent += len(self.part)


def bomb(size: int) -> Answer:
    """An answer of `size` zeros, a thousandth of it on the wire."""
    squeezed = gzip.compress(b"0" * size)
    return Answer(squeezed, headers={"Content-Encoding": "gzip"})


class Server:
    """Gives its answers in turn, the last one for ever; remembers what it was asked.

    An answer may be a function of the request, too.
    """

    def __init__(self, *answers: object, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers) or [Answer({"ok": True})]
        self.requests: list[Request] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.port = 0
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.drop_idle()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    async def drop_idle(self) -> None:
        """Close every connection and wait until they are."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._talk(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read(reader):
                self.requests.append(request)
                self.arrived.set()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if not isinstance(answer, Answer | Endless) and _takes_request(answer):
                    answer = answer(request)
                if isinstance(answer, Answer):
                    writer.write(answer.encode())
                    await writer.drain()
                    continue
                await answer(writer)
                return
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()


def _takes_request(answer: object) -> bool:
    return callable(answer) and not asyncio.iscoroutinefunction(answer)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body)


@dataclass
class Tls:
    """A server's certificate for `host` by an authority that only `client` knows."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    ca_file: Path
    names_asked: list[str]


def make_tls(folder: Path, host: str = "erp.test") -> Tls:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca_file, both = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    both.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + ca_file.read_bytes()
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(both)
    asked: list[str] = []
    server.sni_callback = lambda _, name, __: asked.append(name)
    return Tls(server, ssl.create_default_context(cafile=str(ca_file)), ca_file, asked)
