"""OData as SAP and Microsoft speak it: literals, filters of bounded length, pages, faults."""

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from cerniq_stock.erp.http import Answer

_AT_ONCE = 20
_LONGEST_FILTER = 4000
# signs that mean nothing else in a query; what is not listed is escaped: & + # % and blanks
_PLAIN = "$,:()/'"


def literal(text: str) -> str:
    """Write a text as OData has it: in single quotes, those inside doubled."""
    return "'" + text.replace("'", "''") + "'"


def question(path: str, **options: object) -> str:
    """Return a path with OData's options; the names are without their `$`, None is left out."""
    parts = (f"${k}={quote(str(v), safe=_PLAIN)}" for k, v in options.items() if v is not None)
    query = "&".join(parts)
    return f"{path}?{query}" if query else path


def any_of(terms: Iterable[str], at_once: int = _AT_ONCE) -> Iterator[str]:
    """Join terms by `or`, so many at once that a URL still holds them."""
    chunk: list[str] = []
    length = 0
    for term in terms:
        size = len(quote(term, safe=_PLAIN)) + len("%20or%20")
        if chunk and (len(chunk) >= at_once or length + size > _LONGEST_FILTER):
            yield " or ".join(chunk)
            chunk, length = [], 0
        chunk.append(term)
        length += size
    if chunk:
        yield " or ".join(chunk)


def page_size(rows: int) -> dict[str, str]:
    """Return the header that asks for so many rows a page; it has to come with each of them."""
    return {"Prefer": f"odata.maxpagesize={rows}"}


def values(answer: Answer) -> Any:
    """Return an answer's rows, or whatever stands in their place."""
    return answer.data.get("value") if isinstance(answer.data, dict) else None


def next_link(answer: Answer) -> str | None:
    """Return the link to the next page, by the name of OData 4 or of OData 3."""
    data = answer.data if isinstance(answer.data, dict) else {}
    link: str | None = data.get("@odata.nextLink") or data.get("odata.nextLink")
    return link


def fault(problem: Any) -> tuple[str, str]:
    """Return code and message of an error body; both are to look at, never to show.

    The code may be a number or a text; the message a text, or an object with a `value`.
    """
    error = problem.get("error") if isinstance(problem, dict) else None
    if not isinstance(error, dict):
        return "", ""
    message = error.get("message")
    if isinstance(message, dict):
        message = message.get("value")
    return str(error.get("code", "")), message if isinstance(message, str) else ""
