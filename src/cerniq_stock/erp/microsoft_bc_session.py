"""A session with Business Central, API v2.0.

A movement of stock leaves an item's lastModifiedDateTime alone, as `inventory` is computed. What
changed is therefore what the item ledger names since its last entry, and what items say besides.
The API knows no stock of single locations; `inventory` is that of all of them. Nothing is booked:
`inventory` is said to be read-only, and a PATCH of it carries no id to find a repeat by.
"""

import hmac
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import Field

from cerniq_stock.erp import microsoft_bc
from cerniq_stock.erp.bodies import read_json
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.http import Answer, ErpClient
from cerniq_stock.erp.odata import any_of, literal, next_link, page_size, question, values
from cerniq_stock.erp.paging import Rows, by_link
from cerniq_stock.erp.rows import AnnouncementError, Parsed
from cerniq_stock.erp.session import (
    Connection,
    Dial,
    Secret,
    Session,
    Url,
    Word,
    keys_of,
    only,
)
from cerniq_stock.erp.source import Watermark
from cerniq_stock.erp.times import moment, written
from cerniq_stock.erp.tokens import ClientCredentials, Grant
from cerniq_stock.erp.trouble import BadAnswerError, RefusedError
from cerniq_stock.errors import InvalidInputError

_ITEM = "number,type,inventory,unitPrice,blocked,lastModifiedDateTime"
_OVERLAP = timedelta(minutes=5)
_UTC = ZoneInfo("UTC")
_GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_STATE, _DIGEST = "clientState", "clientStateSha256"
_RESOURCE = re.compile(rf".*companies\(({_GUID})\)/items(?:\(({_GUID})\))?")


class MicrosoftBcConnection(Connection):
    """An environment, one company of it, and the application that is registered there.

    `company` is an id or a name. `client_state` is the secret that notifications have to repeat.
    """

    base_url: Url = "https://api.businesscentral.dynamics.com"
    tenant_id: Word
    environment: Word = "production"
    company: Word
    client_id: Word
    client_secret: Secret
    token_url: Url | None = None
    scope: Word = "https://api.businesscentral.dynamics.com/.default"
    client_state: Secret | None = Field(default=None, max_length=2048)
    page_size: int = Field(1000, ge=20, le=20_000)
    entry_overlap: int = Field(1000, ge=0, le=1_000_000)
    """Ledger entries that are read again: numbers are given before they are visible to others."""

    @property
    def root(self) -> str:
        """The API's own address."""
        place = "/".join(quote(part, safe="") for part in (self.tenant_id, self.environment))
        return f"{self.base_url.rstrip('/')}/v2.0/{place}/api/v2.0/"

    @property
    def tokens(self) -> str:
        """Where tokens are given."""
        tenant = quote(self.tenant_id, safe="")
        return self.token_url or f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"


class MicrosoftBcSession(Session):
    """Business Central knows everything, what changed since a mark, and single items."""

    system = "Business Central"

    def __init__(
        self, client: ErpClient, connection: MicrosoftBcConnection, config: ErpConfig
    ) -> None:
        super().__init__(client, config, microsoft_bc.parse)
        self.connection = connection
        self._company: str | None = None

    async def company(self) -> str:
        """Return the id of the configured company, which is looked up once."""
        if self._company is None:
            wanted = self.connection.company.casefold()
            found = set()
            first = question("companies", select="id,name,displayName")
            async with aclosing(self.pages(first)) as pages:
                async for rows in pages:
                    for row in (row for row in rows if isinstance(row, dict)):
                        names = (row.get(name) for name in ("id", "name", "displayName"))
                        if wanted in {str(name).casefold() for name in names if name}:
                            found.add(str(row.get("id")).lower())
            if len(found) != 1:
                many = (
                    "more than one has that name" if found else "there is none, or no right to it"
                )
                raise RefusedError(f"the company cannot be found: {many}")
            (company,) = found
            if not re.fullmatch(_GUID, company):
                raise BadAnswerError("a company of Business Central came without its id")
            self._company = company
        return self._company

    async def ask_little(self) -> None:
        """Ask for the company and for one item's number."""
        first = question(await self._path("items"), select="number", top=1)
        answer = await self.client.get(first)
        if not isinstance(values(answer), list):
            raise BadAnswerError("this is no answer of Business Central")

    async def everything(self) -> AsyncGenerator[Parsed, None]:
        """Read all items; what moves meanwhile is read again from the mark that is taken first."""
        self._watermark = None
        entry = _top(await self._latest("itemLedgerEntries", "entryNumber"), _entry, 0)
        newest = _top(await self._latest("items", "lastModifiedDateTime"), _modified, None)
        async with aclosing(self.pages(await self._items())) as pages:
            async for rows in pages:
                yield self.read({"value": rows})
        self._watermark = _mark(entry, newest)

    async def changed(self, since: Watermark) -> AsyncGenerator[Parsed, None]:
        """Read what the ledger names since its entry, and what items say has changed.

        An item is read once, after the ledger: two readings of it would seem to contradict.
        """
        self._watermark = None
        entry, newest = _read_mark(since)
        moved, last = await self._moved(max(entry - self.connection.entry_overlap, 0))
        newer = f"lastModifiedDateTime gt {written(newest - _OVERLAP)}" if newest else None
        async with aclosing(self.pages(await self._items(newer))) as pages:
            async for rows in pages:
                for row in rows:
                    newest = _later(newest, _modified(row))
                    moved.pop(_number(row), None)
                yield self.read({"value": rows})
        async with aclosing(self.of_skus(list(moved))) as parts:
            async for part in parts:
                yield part
        self._watermark = _mark(max(entry, last), newest)

    async def of_skus(self, skus: Sequence[str]) -> AsyncGenerator[Parsed, None]:
        """Read these items, some at a time."""
        wanted = keys_of(skus)
        terms = (f"number eq {literal(sku)}" for sku in dict.fromkeys(skus))
        for chosen in any_of(terms):
            async with aclosing(self.pages(await self._items(chosen))) as pages:
                async for rows in pages:
                    yield only(self.read({"value": rows}), wanted)

    async def announced(self, payload: Any) -> AsyncGenerator[Parsed, None]:
        """Read the items that notifications name, or the link of a `collection` of them.

        A notification that does not repeat our `client_state` is not ours, and is passed over. Of
        what was deleted there is nothing to read: a full reading finds it missing.
        """
        items: dict[str, None] = {}
        links: dict[str, None] = {}
        for told in notifications(payload):
            resource = str(told.get("resource"))
            named = _RESOURCE.fullmatch(resource.partition("?")[0])
            if not self._ours(told) or not named:
                continue
            if named[1].lower() != await self.company():
                continue
            if told.get("changeType") == "collection":
                links[resource] = None
            elif named[2] and told.get("changeType") != "deleted":
                items[named[2].lower()] = None
        chunks = any_of(f"id eq {item}" for item in items)
        for first in [*links, *[await self._items(chosen) for chosen in chunks]]:
            async with aclosing(self.pages(first)) as pages:
                async for rows in pages:
                    yield self.read({"value": rows})

    async def pages(self, first: str) -> AsyncGenerator[Rows, None]:
        """Yield the rows of a question, page by page; links are opaque, and of this server."""
        headers = page_size(self.connection.page_size)

        async def fetch(link: str) -> Answer:
            return await self.client.get(link, headers=headers)

        async with aclosing(by_link(fetch, first, items=values, next_link=next_link)) as pages:
            async for rows in pages:
                yield rows

    # -- the questions ----------------------------------------------------------------------

    async def _path(self, entity: str) -> str:
        return f"companies({await self.company()})/{entity}"

    async def _items(self, chosen: str | None = None) -> str:
        return question(await self._path("items"), select=_ITEM, filter=chosen)

    async def _latest(self, entity: str, field: str) -> Any:
        """Return the row with the greatest value of a field; None where there is none at all."""
        path = await self._path(entity)
        answer = await self.client.get(question(path, select=field, orderby=f"{field} desc", top=1))
        rows = values(answer)
        if not isinstance(rows, list):
            raise BadAnswerError("this is no answer of Business Central")
        return rows[0] if rows else None

    async def _moved(self, after: int) -> tuple[dict[str, None], int]:
        """Return the items that the ledger names after an entry, and its last entry."""
        first = question(
            await self._path("itemLedgerEntries"),
            select="entryNumber,itemNumber",
            filter=f"entryNumber gt {after}",
            orderby="entryNumber",
        )
        found: dict[str, None] = {}
        last = 0
        async with aclosing(self.pages(first)) as pages:
            async for rows in pages:
                for row in rows:
                    last = max(last, _entry(row))
                    item = row.get("itemNumber")
                    if isinstance(item, str) and item:
                        found[item] = None
        return found, last

    def _ours(self, told: Mapping[str, Any]) -> bool:
        """Tell whether a notification knows our secret; without one none is believed."""
        secret = self.connection.client_state
        # as it came, or as it travels in a job
        digest = told.get(_DIGEST) if _STATE not in told else _digest(told[_STATE])
        if secret is None or not isinstance(digest, str):
            return False
        ours = _digest(secret.get_secret_value()) or ""
        return hmac.compare_digest(ours.encode(), digest.encode("utf-8", "surrogatepass"))


def travelling(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notification with a digest in the place of our secret: jobs lie open in a table."""
    rest = {name: value for name, value in told.items() if name not in {_STATE, _DIGEST}}
    return {**rest, _DIGEST: _digest(told.get(_STATE))}


def _digest(state: Any) -> str | None:
    if not isinstance(state, str):
        return None
    return sha256(state.encode("utf-8", "surrogatepass")).hexdigest()


def notifications(payload: Any) -> list[dict[str, Any]]:
    """Return a webhook's notifications, from its raw body or from what was read of it.

    Old versions put a byte-order mark before the JSON.
    """
    data = read_json(payload) if isinstance(payload, bytes) else payload
    found = data.get("value") if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise AnnouncementError("This is no notification of Business Central")
    return found


def _mark(entry: int, newest: datetime | None) -> Watermark:
    return {"entry": entry, "modified": written(newest) if newest else None}


def _read_mark(since: Watermark) -> tuple[int, datetime | None]:
    entry, modified = since.get("entry"), since.get("modified")
    newest = moment(modified, _UTC)
    bad = newest is None and modified is not None
    if bad or not isinstance(entry, int) or isinstance(entry, bool):
        raise InvalidInputError("since", "this is no watermark of Business Central")
    return entry, newest


def _top(row: Any, read: Any, nothing: Any) -> Any:
    return nothing if row is None else read(row)


def _entry(row: Any) -> int:
    number = row.get("entryNumber") if isinstance(row, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadAnswerError("an entry of the item ledger came without its number")
    return number


def _modified(row: Any) -> datetime | None:
    return moment(row.get("lastModifiedDateTime"), _UTC) if isinstance(row, dict) else None


def _number(row: Any) -> str:
    return str(row.get("number")) if isinstance(row, dict) else ""


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(filter(None, (one, other)), default=None)


@asynccontextmanager
async def open_microsoft_bc(
    connection: MicrosoftBcConnection, dial: Dial, config: ErpConfig
) -> AsyncIterator[MicrosoftBcSession]:
    """Open a session with Business Central; tokens come from another server."""
    async with (
        dial.client(connection, connection.tokens) as tokens,
        dial.client(connection, connection.root) as client,
    ):
        secret = connection.client_secret.get_secret_value()
        grant = Grant(connection.client_id, secret, connection.scope, style="body")
        client.redactor.add(*connection.secrets())
        client.auth = ClientCredentials(tokens, connection.tokens, grant)
        yield MicrosoftBcSession(client, connection, config)
