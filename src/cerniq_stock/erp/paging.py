"""Page after page, by every way that ERPs have. Each ends, or fails: none reads a part as all."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from cerniq_stock.erp.http import Answer
from cerniq_stock.erp.trouble import BadAnswerError, LoopError, OffOriginError, TooLargeError

Rows = list[Any]
Items = Callable[[Answer], Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most pages and rows of one reading; more is an error, not an end."""

    pages: int = 10_000
    rows: int = 5_000_000


class _Count:
    """Checks pages as they come."""

    def __init__(self, items: Items, limits: Limits | None) -> None:
        self._items = items
        self._limits = limits or Limits()
        self._pages = self._rows = 0

    def take(self, answer: Answer) -> Rows:
        rows = self._items(answer)
        if not isinstance(rows, list):
            raise BadAnswerError("the ERP's answer has no list of rows where it should be")
        self._pages += 1
        self._rows += len(rows)
        if self._pages > self._limits.pages or self._rows > self._limits.rows:
            raise TooLargeError("the ERP has more pages or rows than one reading may have")
        return rows


async def by_link(
    fetch: Callable[[str], Awaitable[Answer]],
    first: str,
    *,
    items: Items,
    next_link: Callable[[Answer], str | None],
    limits: Limits | None = None,
) -> AsyncGenerator[Rows, None]:
    """Follow the link to the next page until there is none; an empty page with one is no end.

    `fetch` is the session's `get`, which refuses links that lead away.
    """
    count, seen = _Count(items, limits), set[str]()
    link: str | None = first
    while link:
        answer = await fetch(link)
        if answer.url in seen:
            raise LoopError("the ERP's pages lead in a circle")
        seen.add(answer.url)
        rows = count.take(answer)
        link = _text(next_link(answer))
        yield rows


async def by_cursor(
    fetch: Callable[[str | None], Awaitable[Answer]],
    *,
    items: Items,
    cursor: Callable[[Answer], Any],
    more: Callable[[Answer], Any] | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[Rows, None]:
    """Pass each answer's cursor on until it is missing, null or empty, or `more` is False."""
    count, seen = _Count(items, limits), set[str]()
    at: str | None = None
    while True:
        answer = await fetch(at)
        rows = count.take(answer)
        at = _text(cursor(answer))
        yield rows
        if not at or (more is not None and more(answer) is False):
            return
        if at in seen:
            raise LoopError("the ERP gives the same cursor twice")
        seen.add(at)


async def by_position(
    fetch: Callable[[int], Awaitable[Answer]],
    *,
    size: int,
    items: Items,
    start: int = 0,
    step: int | None = None,
    ends: Literal["short", "empty"] = "short",
    limits: Limits | None = None,
) -> AsyncGenerator[Rows, None]:
    """Ask for offset after offset, or with `start=1, step=1` for page after page.

    A full page may be the last one: another is asked for, and is empty. Where the ERP may give
    fewer rows than asked for, `ends="empty"` goes on after a short page as well; an offset then
    moves by what came.
    """
    count = _Count(items, limits)
    position = start
    first = before = None
    while True:
        rows = count.take(await fetch(position))
        if len(rows) > size:
            raise LoopError("the ERP gives more rows than asked for: does it page like this?")
        if rows and rows in (first, before):
            raise LoopError("the ERP gives the same page twice: does it page like this?")
        if rows:
            yield rows
        if not rows or (ends == "short" and len(rows) < size):
            return
        first, before = first or rows, rows
        position += step or (size if ends == "short" else len(rows))


def header_link(answer: Answer, rel: str = "next") -> str | None:
    """Return the target of a Link header (RFC 8288), relative ones from the request's URL."""
    for target, parameters in parse_links(answer.headers.get("link", "")):
        # a link with an anchor is about something else
        if rel in parameters.get("rel", "").lower().split() and "anchor" not in parameters:
            try:
                return target if urlsplit(target).scheme else urljoin(answer.url, target)
            except ValueError:
                raise OffOriginError("a link of the ERP is no URL") from None
    return None


def parse_links(header: str) -> list[tuple[str, dict[str, str]]]:
    """Take a Link header apart: targets with their parameters, names in lower case."""
    links = []
    at = 0
    while (start := header.find("<", at)) >= 0 and (end := header.find(">", start)) >= 0:
        parts, at = _split_parameters(header, end + 1)
        parameters: dict[str, str] = {}
        for part in parts:
            name, _, value = part.partition("=")
            # the first of a name counts
            parameters.setdefault(name.strip().lower(), value.strip())
        links.append((header[start + 1 : end].strip(), parameters))
    return links


def _split_parameters(header: str, at: int) -> tuple[list[str], int]:
    """Return the parameters from `at` to the next comma outside of quotes, and its place."""
    parts, part, quoted = [], "", False
    while at < len(header):
        character = header[at]
        if quoted and character == "\\" and at + 1 < len(header):
            at += 1
            part += header[at]
        elif character == '"':
            quoted = not quoted
        elif character == ";" and not quoted:
            parts.append(part)
            part = ""
        elif character == "," and not quoted:
            break
        else:
            part += character
        at += 1
    return [text for text in (*parts, part) if text.strip()], at


def _text(value: Any) -> str | None:
    """Return a link or cursor as text; numbers are cursors, too, and false ones are none."""
    if value is None or isinstance(value, bool) or value == "":
        return None
    if not isinstance(value, str | int):
        raise BadAnswerError("the ERP's link to the next page is no text")
    return str(value)
