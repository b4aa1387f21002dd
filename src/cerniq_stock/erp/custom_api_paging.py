"""From a setting of how pages follow each other to the pages."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Protocol

from cerniq_stock.erp.collect import ABSENT
from cerniq_stock.erp.custom_api_settings import Paging
from cerniq_stock.erp.http import Answer
from cerniq_stock.erp.paging import Items, Rows, by_cursor, by_link, by_position, header_link
from cerniq_stock.erp.paths import value_at
from cerniq_stock.erp.trouble import RefusedError


class Get(Protocol):
    """Asks for a path or a link, with parameters."""

    async def __call__(self, link: str, more: Mapping[str, object] | None = None) -> Answer:
        """Return the answer."""


class Resolve(Protocol):
    """Makes a link a URL of the session's own origin, or raises."""

    def __call__(self, link: str, against: str | None = None) -> str:
        """Return the URL."""


def paged(
    paging: Paging,
    get: Get,
    path: str,
    params: Mapping[str, object],
    *,
    items: Items,
    resolve: Resolve,
) -> AsyncGenerator[Rows, None]:
    """Read all pages of `path`."""
    if paging.kind == "none":
        return _one(get, path, params, items)
    sized = {**params, paging.size_parameter: paging.size} if paging.size_parameter else params
    if paging.kind in {"link_header", "next_url"}:
        next_link = header_link if paging.kind == "link_header" else _in_body(paging, resolve)

        async def follow(link: str) -> Answer:
            # a link carries its parameters
            return await get(link, sized if link == path else None)

        return by_link(follow, path, items=items, next_link=next_link)
    name = paging.parameter or paging.kind

    async def at(position: int | str | None) -> Answer:
        return await get(path, sized if position is None else {**sized, name: position})

    if paging.kind == "cursor":
        more = _at(paging.more_path) if paging.more_path else None
        return by_cursor(at, items=items, cursor=_at(paging.cursor_path), more=more)
    pages = paging.kind == "page"
    return by_position(
        at,
        size=paging.size,
        items=items,
        start=paging.first if pages else 0,
        step=1 if pages else None,
        ends=paging.ends,
    )


async def _one(
    get: Get, path: str, params: Mapping[str, object], items: Items
) -> AsyncGenerator[Rows, None]:
    answer = await get(path, params)
    if header_link(answer):
        raise RefusedError("the ERP has more pages, and how they are asked for is not configured")
    yield items(answer)


def _in_body(paging: Paging, resolve: Resolve) -> Callable[[Answer], str | None]:
    place = _at(paging.next_path)

    def next_link(answer: Answer) -> str | None:
        link = place(answer)
        return resolve(link, answer.url) if isinstance(link, str) and link else link

    return next_link


def _at(path: str) -> Callable[[Answer], Any]:
    def read(answer: Answer) -> Any:
        found = value_at(answer.data, path)
        return None if found is ABSENT else found

    return read
