"""A session with the Service Layer of SAP Business One, v1 and v2.

Stock is read whole, as `Items` with their warehouses or as a `$crossjoin` of both. There is no way
to ask what changed: UpdateDate is that of the master data, and nothing says that postings or orders
move it. (Working with SAP Business One Service Layer 1.28.)
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

from pydantic import Field

from cerniq_stock.erp import sap_b1, sap_b1_push
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.http import Answer, ErpClient
from cerniq_stock.erp.odata import any_of, fault, literal, next_link, page_size, question, values
from cerniq_stock.erp.paging import Rows, by_link
from cerniq_stock.erp.rows import AnnouncementError, Parsed
from cerniq_stock.erp.session import Connection, Dial, Secret, Session, Word, keys_of, only
from cerniq_stock.erp.source import Sale
from cerniq_stock.erp.trouble import BadAnswerError, ErpError, RefusedError, UnauthorizedError

_SERVICE = re.compile(r"/b1s/(v[0-9]+)/?$")
_COOKIE = re.compile(r"(B1SESSION|ROUTEID)=([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,512})")
_LOGOUT_S = 10.0
_STATUS = "Valid,ValidFrom,ValidTo,Frozen,FrozenFrom,FrozenTo,UpdateDate,UpdateTime"
_SHELF = f"{sap_b1.ITEM}/{sap_b1.STOCK}"
# what a webhook may name, and where its lines stand; anything else moves no stock
_LINES = {
    "StockTransfers": "StockTransferLines",
    **dict.fromkeys(
        (
            *("Orders", "DeliveryNotes", "Returns", "Invoices", "CreditNotes"),
            *("PurchaseDeliveryNotes", "PurchaseReturns", "PurchaseInvoices"),
            *("PurchaseCreditNotes", "InventoryGenEntries", "InventoryGenExits"),
        ),
        "DocumentLines",
    ),
}
# how the rest of it is spelled is known to the company's own catalogue of events only
_EVENT = re.compile(r"sap\.b1\.([A-Za-z]{1,60})\b")


class SapB1Connection(Connection):
    """Where the Service Layer is, and who logs in.

    `base_url` is the server with its port (`https://sap.example:50000`) or the service itself
    (`…/b1s/v1`). `stock` is how it is read: `items` with prices and states; `crossjoin`, lighter,
    the figures only; `totals` of all warehouses.
    """

    version: Literal["v1", "v2"] = "v2"
    company_db: Word
    user_name: Word
    password: Secret
    language: int | None = None
    page_size: int = Field(200, ge=20, le=10_000)
    """Rows; products that are asked for by name come twenty at once, which is one page."""
    stock: Literal["items", "crossjoin", "totals"] = "items"

    @property
    def root(self) -> str:
        """The service's own address; what is logged in to is what is used."""
        base = self.base_url.rstrip("/")
        return f"{base if _SERVICE.search(base) else f'{base}/b1s/{self.version}'}/"

    @property
    def odata(self) -> int:
        """The version of OData that is spoken there."""
        return 3 if self.root.endswith("/v1/") else 4


class _Login:
    """The session's cookies. A refused login is not tried again: users get locked out.

    They are sent by hand: B1SESSION comes without a path, and a jar would keep it to the folder.
    """

    def __init__(self, client: ErpClient, connection: SapB1Connection) -> None:
        self._client = client
        self._connection = connection
        self.cookies: dict[str, str] = {}
        client.redactor.add(*connection.secrets())

    async def headers(self) -> Mapping[str, str]:
        """Return the Cookie header, after a login where there is no session."""
        if not self.cookies:
            self.cookies = await self._log_in()
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    async def renew(self) -> None:
        """Forget a session that has ended."""
        self.cookies = {}

    async def _log_in(self) -> dict[str, str]:
        given = self._connection
        body: dict[str, object] = {
            "CompanyDB": given.company_db,
            "UserName": given.user_name,
            "Password": given.password.get_secret_value(),
        }
        if given.language is not None:
            body["Language"] = given.language
        try:
            # not repeated: whatever it was, the next one may be the one that locks the user
            answer = await self._client.request("POST", "Login", json_body=body, authorize=False)
        except ErpError as error:
            # old servers refuse with a 500, too; that of a balancer has no such body
            said = isinstance(error.problem, dict) and "error" in error.problem
            if error.status in {400, 401, 403} or (error.status == 500 and said):
                raise UnauthorizedError(
                    "SAP Business One does not take this company, user and password",
                    status=error.status,
                ) from None
            raise
        found = dict(self._found(answer))
        if "B1SESSION" not in found:
            raise BadAnswerError("SAP Business One answered a login without a session")
        self._client.redactor.add(*found.values())
        return found

    @staticmethod
    def _found(answer: Answer) -> Iterable[tuple[str, str]]:
        lines = answer.headers.get_list("set-cookie")
        told = answer.data.get("SessionId") if isinstance(answer.data, dict) else None
        for line in (f"B1SESSION={told}" if isinstance(told, str) else "", *lines):
            if match := _COOKIE.fullmatch(line.partition(";")[0].strip()):
                yield match[1], match[2]

    async def log_out(self) -> None:
        """End the session: it costs a licence until it times out. Trouble is of no interest."""
        if not self.cookies:
            return
        headers = await self.headers()
        self.cookies = {}
        with contextlib.suppress(ErpError, TimeoutError):
            async with asyncio.timeout(_LOGOUT_S):
                await self._client.request("POST", "Logout", headers=headers, authorize=False)


class SapB1Session(Session):
    """SAP Business One knows everything, single items, and takes sales. Watermarks it has none."""

    system = "SAP Business One"

    def __init__(self, client: ErpClient, connection: SapB1Connection, config: ErpConfig) -> None:
        super().__init__(client, config, sap_b1.parse)
        self._connection = connection

    async def ask_little(self) -> None:
        """Ask for one item's code."""
        answer = await self.client.get(question(sap_b1.ITEM, select="ItemCode", top=1))
        if not isinstance(values(answer), list):
            raise BadAnswerError("this is no answer of SAP Business One")

    async def everything(self) -> AsyncGenerator[Parsed, None]:
        """Read all items with their stock, ordered, as pages are counted and not kept."""
        crossed = self._connection.stock == "crossjoin"
        first = self._crossed() if crossed else self._items(order="ItemCode")
        before: set[tuple[str, str]] = set()
        async with aclosing(self.pages(first)) as pages:
            async for rows in pages:
                # what is put in meanwhile pushes rows on to the next page: they come twice
                keys = [_key(row) for row in rows]
                new = [row for row, key in zip(rows, keys, strict=True) if key not in before]
                before = {key for key in keys if key}
                yield self.read({"value": new})

    async def of_skus(self, skus: Sequence[str]) -> AsyncGenerator[Parsed, None]:
        """Read these items, some at a time."""
        wanted = keys_of(skus)
        terms = (f"ItemCode eq {literal(sku)}" for sku in dict.fromkeys(skus))
        for chosen in any_of(terms):
            async with aclosing(self.pages(self._items(chosen))) as pages:
                async for rows in pages:
                    yield only(self.read({"value": rows}), wanted)

    async def announced(self, payload: Any) -> AsyncGenerator[Parsed, None]:
        """Read the items of an event, or of a batch of them; documents by the items of theirs."""
        codes: dict[str, None] = {}
        documents: dict[tuple[str, int], None] = {}
        for event in payload if isinstance(payload, list) else [payload]:
            kind, data = _event(event)
            code, entry = data.get("ItemCode"), data.get("DocEntry")
            if isinstance(code, str) and code:
                codes[code] = None
            elif kind == sap_b1.ITEM:
                raise AnnouncementError("This is no event of SAP Business One: it names no item")
            elif kind in _LINES and isinstance(entry, int):
                documents[kind, entry] = None
        for kind, entry in documents:
            codes |= dict.fromkeys(await self._in_document(kind, entry))
        if codes:
            async with aclosing(self.of_skus(list(codes))) as pages:
                async for page in pages:
                    yield page

    async def push(self, sales: Sequence[Sale]) -> str | None:
        """Book sales as one goods issue, or what came back as one goods receipt."""
        return await sap_b1_push.push(self, sales, self.config, self._connection.odata)

    # -- what pushing needs, too ------------------------------------------------------------

    async def pages(self, first: str) -> AsyncGenerator[Rows, None]:
        """Yield the rows of a question, page by page."""
        headers = page_size(self._connection.page_size)

        async def fetch(link: str) -> Answer:
            return await self.client.get(link, headers=headers)

        async with aclosing(by_link(fetch, first, items=values, next_link=next_link)) as pages:
            async for rows in pages:
                yield rows

    async def post(self, path: str, body: object) -> Answer:
        """Make a document, once at most."""
        return await self.client.request("POST", path, json_body=body)

    # -- the questions ----------------------------------------------------------------------

    def _items(self, chosen: str | None = None, order: str | None = None) -> str:
        select = ["ItemCode", "InventoryItem", _STATUS]
        if self.config.price_list is not None:
            select.append("ItemPrices")
        if self._connection.stock == "totals":
            more = ",QuantityOrderedFromVendors" if self.config.add_ordered else ""
            select.append(f"QuantityOnStock,QuantityOrderedByCustomers{more}")
        else:
            select.append(sap_b1.STOCK)
        return question(
            sap_b1.ITEM, select=",".join(select), filter=chosen, orderby=order or "ItemCode"
        )

    def _crossed(self) -> str:
        """Return the question for figures alone, of the warehouses that count."""
        code = f"{_SHELF}/WarehouseCode"
        terms = [f"{code} eq {literal(name)}" for name in self.config.warehouses or ()]
        only = f" and ({' or '.join(terms)})" if terms else ""
        ordered = ",Ordered" if self.config.add_ordered else ""
        return question(
            f"$crossjoin({sap_b1.ITEM},{_SHELF})",
            expand=f"{sap_b1.ITEM}($select=ItemCode,InventoryItem),"
            f"{_SHELF}($select=WarehouseCode,InStock,Committed{ordered})",
            filter=f"{sap_b1.ITEM}/ItemCode eq {_SHELF}/ItemCode{only}",
            orderby=f"{sap_b1.ITEM}/ItemCode,{code}",
        )

    async def _in_document(self, kind: str, entry: int) -> list[str]:
        """Return the items of a document; one that is gone has none."""
        lines = _LINES[kind]
        try:
            answer = await self.client.get(question(f"{kind}({entry})", select=lines))
        except RefusedError as error:
            code, message = fault(error.problem)
            if error.status == 404 or code == "-2028" or "ODBC -2028" in message:
                return []
            raise
        found = answer.data.get(lines) if isinstance(answer.data, dict) else None
        if not isinstance(found, list):
            raise BadAnswerError("a document of SAP Business One came without its lines")
        codes = (line.get("ItemCode") for line in found if isinstance(line, dict))
        return [code for code in codes if isinstance(code, str) and code]


def _key(row: Any) -> tuple[str, str] | None:
    """Return what a row is of; None where it does not say."""
    if not isinstance(row, dict):
        return None
    item, shelf = row.get(sap_b1.ITEM, row), row.get(sap_b1.CROSSED, {})
    if not isinstance(item, dict) or not isinstance(shelf, dict) or not item.get("ItemCode"):
        return None
    return str(item["ItemCode"]), str(shelf.get("WarehouseCode", ""))


def _event(event: Any) -> tuple[str, Mapping[str, Any]]:
    """Return what an event is about, and its keys."""
    data = event.get("data") if isinstance(event, dict) else None
    kind = _EVENT.match(str(event.get("type"))) if isinstance(event, dict) else None
    if kind is None or not isinstance(data, dict):
        raise AnnouncementError("This is no event of SAP Business One")
    return kind[1], data


@asynccontextmanager
async def open_sap_b1(
    connection: SapB1Connection, dial: Dial, config: ErpConfig
) -> AsyncIterator[SapB1Session]:
    """Open a session with the Service Layer; it logs in when something is asked."""
    async with dial.client(connection, connection.root) as client:
        login = _Login(client, connection)
        client.auth = login
        try:
            yield SapB1Session(client, connection, config)
        finally:
            await login.log_out()
