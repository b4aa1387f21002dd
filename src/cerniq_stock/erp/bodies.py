"""Bodies of answers: unpacked within a cap, read strictly; and how long an answer asks to wait."""

import email.utils
import json
import re
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import httpx2

from cerniq_stock.erp.payload import fraction, whole
from cerniq_stock.erp.trouble import BadAnswerError, TooLargeError

MEGABYTE = 1024 * 1024
_LONGEST_WAIT_TOLD_S = 3600.0
_GZIP = 31
_MEMBERS = 1000


def read_json(body: bytes | bytearray, status: int | None = None) -> Any:
    """Read JSON with Decimals for all fractions; anything else is a transient trouble.

    Numbers that nothing can hold stay text, as in `payload.decode`: they are no trouble of others.
    """
    start = body[:64].lstrip()
    if not start:
        raise BadAnswerError("the ERP answered with nothing", status=status)
    if start.startswith(b"<"):
        raise BadAnswerError("the ERP answered with a page instead of data", status=status)
    try:
        return json.loads(body, parse_float=fraction, parse_int=whole, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadAnswerError("the ERP's answer is not JSON or broke off", status=status) from None


def _no_number(text: str) -> Any:
    raise ValueError(text)


def is_page(start: bytes) -> bool:
    """Tell whether a body begins as HTML; its type says little, PHP calls everything that."""
    return start[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<html", b"<!doctype"))


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that an answer asks to wait: at least one, at most an hour.

    A date is compared with the answer's own, as clocks differ; without one with `now`.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,18}", text):
        wait_s = float(text)
    else:
        until, since = http_date(text), http_date(headers.get("date", ""))
        if until is None:
            return None
        wait_s = until - (now if since is None else since)
    return min(max(wait_s, 1.0), _LONGEST_WAIT_TOLD_S)


def http_date(text: str) -> float | None:
    """Return a header's date as seconds; None where it is none. Without a zone it is UTC."""
    try:
        date = email.utils.parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


async def pieces(response: httpx2.Response, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the decompressed body piece by piece; it ends at `limit` bytes, packed or not."""
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity", "gzip", "x-gzip"}:
        raise BadAnswerError("the ERP's answer is packed in a way that was not asked for")
    unpack = Gunzip() if "gzip" in coding else None
    taken = given = 0
    async with aclosing(response.aiter_raw()) as parts:
        async for part in parts:
            taken += len(part)
            _stay_below(limit, taken)
            for piece in unpack.feed(part) if unpack else (part,):
                given += len(piece)
                _stay_below(limit, given)
                yield piece
    if unpack and taken and not unpack.done:
        raise BadAnswerError("the ERP's answer broke off")


def _stay_below(limit: int, size: int) -> None:
    if size > limit:
        raise TooLargeError("the ERP's answer is larger than allowed")


@dataclass(slots=True)
class Gunzip:
    """Gzip in bounded pieces, of several members, that knows whether the end was seen."""

    _member: Any = field(default_factory=lambda: zlib.decompressobj(_GZIP))
    _members: int = 1

    @property
    def done(self) -> bool:
        """Whether what came so far is whole."""
        return bool(self._member.eof)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack some more."""
        try:
            # what waits inside for room comes with the next input; the trailer is always one
            while data:
                if self._member.eof:
                    self._begin()
                piece = self._member.decompress(data, MEGABYTE)
                data = self._member.unconsumed_tail or self._member.unused_data
                if piece:
                    yield piece
        except zlib.error:
            raise BadAnswerError("the ERP's answer is damaged") from None

    def _begin(self) -> None:
        """Begin another member; thousands of empty ones are work for nothing."""
        self._members += 1
        if self._members > _MEMBERS:
            raise BadAnswerError("the ERP's answer is packed in too many parts")
        self._member = zlib.decompressobj(_GZIP)
