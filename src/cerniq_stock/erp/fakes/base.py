"""What every fake ERP stands on: HTTP on 127.0.0.1, a clock that is told, troubles on demand."""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

from cerniq_stock.erp.http import Clock

_LARGEST_BODY = 16 * 1024 * 1024


class FakeClock:
    """A clock that stands still until it is told, or somebody sleeps by it."""

    def __init__(self, now: float = 1_795_168_800.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def read(self) -> float:
        """Return the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def clock(self) -> Clock:
        """Return it as sessions want it; chance is always the longest wait."""
        return Clock(self.read, self.read, self.sleep, lambda: 1.0)


@dataclass(frozen=True, slots=True)
class Request:
    """What came in; `path` is unescaped, names of `headers` are in lower case."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body as JSON, with Decimals; None where it is none."""
        try:
            return json.loads(self.body, parse_float=Decimal)
        except ValueError:
            return None

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out: nothing for None, bytes as they are, texts as text, else JSON.

    `headers` are pairs, as some come twice. `lost`: the connection ends instead, after whatever
    the request did; that is how an answer goes missing. `raw` writes what it likes in the place of
    an answer, and the connection ends when it returns.
    """

    body: object = None
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    lost: bool = False
    raw: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None

    def encode(self) -> bytes:
        """Return the bytes of the answer."""
        kind, body = "application/json;charset=utf-8", b""
        if isinstance(self.body, bytes | str):
            kind = "text/plain;charset=utf-8"
            body = self.body if isinstance(self.body, bytes) else self.body.encode()
        elif self.body is not None:
            body = json.dumps(self.body, default=_number, ensure_ascii=False).encode()
        pairs = [("Content-Length", str(len(body))), *self.headers]
        if not any(name.lower() == "content-type" for name, _ in pairs):
            pairs.append(("Content-Type", kind))
        lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        return f"HTTP/1.1 {self.status} Fake\r\n{lines}\r\n".encode() + body


def _number(value: object) -> float | int:
    """Write quantities as the ERPs do: as numbers."""
    if not isinstance(value, Decimal):
        raise TypeError(type(value).__name__)
    return int(value) if value == value.to_integral_value() else float(value)


Trouble = Reply | Callable[[Request], Reply | None]
"""An answer that comes instead of the true one; a function may decide by the request."""


@dataclass(slots=True)
class _Planned:
    trouble: Trouble
    path: str
    times: int
    after: bool


@dataclass
class FakeServer:
    """A server on a free port of 127.0.0.1; systems override `answer`.

    `requests` holds all that was asked, those in trouble too.
    """

    clock: FakeClock | None = None
    requests: list[Request] = field(default_factory=list)
    refuses_expect: bool = False
    """Answers `Expect: 100-continue` with an empty 500, as some balancers do."""

    def __post_init__(self) -> None:
        self.port = 0
        self._plan: deque[_Planned] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, request: Request) -> Reply:
        """Answer one request."""
        return Reply({"path": request.path}, 404)

    def trouble(
        self, trouble: Trouble, *, path: str = "", times: int = 1, after: bool = False
    ) -> None:
        """Answer so the next `times` requests whose path holds `path`.

        With `after` the request is carried out first; only its answer is another one.
        """
        self._plan.append(_Planned(trouble, path, times, after))

    def well(self) -> None:
        """Forget all troubles that were planned."""
        self._plan.clear()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def now(self) -> float:
        """The server's time."""
        return self.clock.now if self.clock else time.time()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a task of ours, as the server's own complains when it is cancelled
        task = asyncio.ensure_future(self._talk(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await self._read(reader, writer)
                self.requests.append(request)
                reply = await self._reply(request)
                if reply.raw:
                    await reply.raw(writer)
                if reply.raw or reply.lost:
                    return
                writer.write(reply.encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _reply(self, request: Request) -> Reply:
        if self.refuses_expect and "expect" in request.headers:
            return Reply(None, 500)
        for planned in self._plan:
            if planned.path not in request.path:
                continue
            trouble = planned.trouble
            instead = trouble if isinstance(trouble, Reply) else trouble(request)
            if instead is None:
                continue
            planned.times -= 1
            if not planned.times:
                self._plan.remove(planned)
            if planned.after:
                await self.answer(request)
            return instead
        return await self.answer(request)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if "expect" in headers and not self.refuses_expect:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(headers.get("content-length", 0))
        if size > _LARGEST_BODY:
            raise ConnectionError("more than a fake takes")
        waits = "expect" in headers and self.refuses_expect
        body = b"" if waits else await reader.readexactly(size)
        path, _, query = target.partition("?")
        # a plus in a query is a blank to forms only; OData writes %20, and a plus is a plus
        fields = (pair.partition("=") for pair in query.split("&") if pair)
        asked = {unquote(name): unquote(value) for name, _, value in fields}
        return Request(method, target, unquote(path), asked, headers, body)
