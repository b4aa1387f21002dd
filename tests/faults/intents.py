"""What a caller is about to ask, in words that outlive it, and the log that keeps them.

A line of the log is on disk before anybody goes on: the intent before the call, the answer before
it counts as acknowledged. An intent without an answer is an unknown outcome.
"""

import asyncio
import json
import os
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

from cerniq_stock.domain.commands import Item
from cerniq_stock.domain.reserve import REPLAYED
from cerniq_stock.errors import OverloadedError, UnavailableError
from cerniq_stock.service import Stock
from cerniq_stock.wire import to_wire

Told = dict[str, Any]
"""An answer as on the wire, with the name of its type under `kind`."""


class Intent(NamedTuple):
    """One command, complete: whoever reads it can ask the same again.

    The key also goes along as the name of who asks, so that each movement names its command.
    """

    key: str
    verb: str
    tenant: str
    args: dict[str, Any]


async def send(stock: Stock, intent: Intent) -> Told:
    """Ask once. Raises what the engine raises."""
    key, verb, tenant_id, args = intent.key, intent.verb, UUID(intent.tenant), intent.args
    answer: object
    match verb:
        case "reserve":
            answer = await stock.reserve(
                tenant_id,
                UUID(args["negotiation"]),
                [Item(sku, Decimal(quantity)) for sku, quantity in args["items"]],
                type=args["type"],
                priority=args["priority"],
                expires_in_h=args["hours"],
                replaces=args["replaces"],
                key=key,
                requested_by=key,
            )
        case "release":
            answer = await stock.release(
                tenant_id,
                reservation_id=args["reservation"],
                negotiation_id=UUID(args["negotiation"]) if args["negotiation"] else None,
                items=args["items"],
                key=key,
                by=key,
            )
        case "consume":
            answer = await stock.consume(
                tenant_id, args["reservation"], items=args["items"], key=key, by=key
            )
        case "extend":
            answer = await stock.extend(
                tenant_id, args["reservation"], args["hours"], key=key, by=key
            )
        case "receive":
            answer = await stock.receive(
                tenant_id,
                args["sku"],
                args["quantity"],
                warehouse=args["warehouse"],
                reference=key,
                key=key,
                by=key,
            )
        case "negotiation":
            answer = await stock.set_negotiation(
                tenant_id, UUID(args["negotiation"]), args["state"], key=key, by=key
            )
        case _:
            raise AssertionError(verb)
    told: Told = {"kind": type(answer).__name__, **to_wire(answer)}
    if REPLAYED in told.get("warnings", ()):
        # the one word in which a repeated answer differs from the first
        told["warnings"] = [warning for warning in told["warnings"] if warning != REPLAYED]
    return told


def is_refused(told: Told) -> bool:
    """Refused as a whole: nothing is stored and the key is free again."""
    return told["kind"] == "Refused" or (
        told["kind"] == "ReserveResult" and told["reservationId"] is None
    )


class Log:
    """Appends lines; those that are written at the same time share one fsync."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lines: list[bytes] = []
        self._written: asyncio.Future[None] | None = None
        self._flushing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        if self._flushing is not None:
            await self._flushing
        os.close(self._fd)

    async def intend(self, intent: Intent) -> None:
        await self._write({"intent": intent, "at": time.time()})

    async def hear(self, key: str, told: Told) -> None:
        await self._write({"key": key, "told": told, "at": time.time()})

    async def trouble(self, key: str, code: str) -> None:
        await self._write({"key": key, "trouble": code, "at": time.time()})

    async def _write(self, line: dict[str, Any]) -> None:
        self._lines.append(json.dumps(line).encode() + b"\n")
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        written = self._written
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await asyncio.shield(written)

    async def _flush(self) -> None:
        while self._lines:
            written, self._written = self._written, None
            data, self._lines = b"".join(self._lines), []
            await asyncio.to_thread(self._append, data)
            assert written is not None
            written.set_result(None)
        self._flushing = None

    def _append(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
        os.fsync(self._fd)


class Story:
    """What the logs say: who asked what, and what was answered."""

    def __init__(self) -> None:
        self.intents: dict[str, Intent] = {}
        self.answers: dict[str, Told] = {}
        self.answered_at: list[float] = []
        self.troubles: Counter[str] = Counter()
        self.failed: dict[str, str] = {}
        self.contradictions: list[tuple[str, Told, Told]] = []
        self.doubted_at: dict[str, float] = {}

    @property
    def unknown(self) -> list[Intent]:
        """Intents whose outcome nobody lived to write down."""
        return [intent for key, intent in self.intents.items() if key not in self.answers]

    @property
    def effective(self) -> list[Intent]:
        """Intents that were answered with anything but a refusal."""
        return [self.intents[key] for key, told in self.answers.items() if not is_refused(told)]

    def intend(self, intent: Intent, at: float) -> None:
        """Take down that somebody was about to ask; the second to do so doubts the first."""
        known = self.intents.setdefault(intent.key, intent)
        if known is not intent:
            assert known == intent, (known, intent)
            self.doubt(intent.key, at)

    def doubt(self, key: str, at: float) -> None:
        """The outcome was unknown at that moment; whatever is older was the first attempt's."""
        self.doubted_at.setdefault(key, at)

    def hear(self, key: str, told: Told) -> None:
        """Take an answer down; a second one under the key must be the first again."""
        first = self.answers.setdefault(key, told)
        if first != told:
            self.contradictions.append((key, first, told))

    def read(self, path: Path) -> Self:
        """Add a log. Its last line may be torn: then it was never acknowledged."""
        data = path.read_bytes() if path.exists() else b""
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            entry = json.loads(line)
            if "intent" in entry:
                self.intend(Intent(*entry["intent"]), entry["at"])
            elif "told" in entry:
                self.hear(entry["key"], entry["told"])
                self.answered_at.append(entry["at"])
            else:
                self._read_trouble(**entry)
        return self

    def _read_trouble(self, key: str, trouble: str, at: float) -> None:
        self.troubles[trouble] += 1
        if trouble == UnavailableError.code:
            self.doubt(key, at)
        elif trouble != OverloadedError.code:
            self.failed[key] = trouble
