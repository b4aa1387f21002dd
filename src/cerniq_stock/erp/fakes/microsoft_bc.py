"""Business Central online: tokens, a company with items and their ledger, subscriptions."""

import json
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx2

from cerniq_stock.erp.fakes.base import FakeServer, Reply, Request
from cerniq_stock.erp.fakes.odata import FilterError, Row, matcher, ordered, selected
from cerniq_stock.erp.fakes.stock import Tokens

SCOPE = "https://api.businesscentral.dynamics.com/.default"
LIFETIME_S = 3 * 86_400
TOO_MANY = {
    "error": {
        "code": "Application_TooManyRequests",
        "message": "Too many requests reached. Actual (101). Maximum (100).",
    }
}
Deliver = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]
"""Calls a URL (method, URL, body) and returns status and body."""

_COMPANY = re.compile(r"companies\(([0-9a-f-]{36})\)/(items|itemLedgerEntries|locations)")
_ONE = re.compile(r"subscriptions\('([^']*)'\)")


async def deliver(method: str, url: str, body: bytes) -> tuple[int, bytes]:
    """Call a URL over the network."""
    async with httpx2.AsyncClient(trust_env=False, timeout=10.0) as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.request(method, url, content=body, headers=headers)
        return answer.status_code, answer.content


@dataclass
class FakeMicrosoftBc(FakeServer):
    """`settings()` is what a session needs; tokens come from the same server.

    Its troubles: `page_most` rows a page whatever was preferred, `empty_pages` of no rows before
    each further one, `foreign_links`, `tokens` that end, `collapse_over` so many changes into one
    `collection`, `bom` before notifications, and those of `FakeServer`, such as `limit`.
    """

    tenant: str = "contoso.example"
    environment: str = "production"
    client_id: str = "0f0f0f0f-0000-4000-8000-000000000001"
    client_secret: str = "canary-bc-secret"  # noqa: S105 - a canary, to be looked for in logs
    client_state: str = "canary-client-state"
    page_most: int = 20_000
    empty_pages: int = 0
    foreign_links: bool = False
    collapse_over: int = 1000
    bom: bool = False
    stale_status: int = 409
    tokens: Tokens = field(default_factory=Tokens)
    call: Deliver = deliver

    def __post_init__(self) -> None:
        super().__post_init__()
        self.company = str(uuid.uuid4())
        self.companies = [(self.company, "CRONUS RO"), (str(uuid.uuid4()), "Alta firma SRL")]
        self.items: dict[str, dict[str, Any]] = {}
        self.ledger: dict[int, str] = {}
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.changes: list[tuple[str, str]] = []
        self.deliveries: list[int] = []
        self._entry = 0
        self._links: dict[str, tuple[dict[str, str], int, int]] = {}

    # -- what happens in the company --------------------------------------------------------

    def item(self, number: str, *, kind: str = "Inventory", price: str = "10", **more: Any) -> None:
        """Put an item in."""
        self.items[number] = {
            "@odata.etag": _etag(),
            "id": str(uuid.uuid4()),
            "number": number,
            "displayName": f"Articol {number}",
            "type": kind,
            "blocked": False,
            "inventory": Decimal(0),
            "unitPrice": Decimal(price),
            "priceIncludesTax": False,
            "baseUnitOfMeasureCode": "BUC",
            **more,
        }
        self._touch(number, "created")

    def edited(self, number: str, **values: Any) -> None:
        """Somebody changed an item itself; this, and only this, moves lastModifiedDateTime."""
        self.items[number].update(values)
        self._touch(number, "updated")

    def removed(self, number: str) -> None:
        """Somebody deleted an item."""
        self.changes.append((self.items.pop(number)["id"], "deleted"))

    def received(self, number: str, quantity: str) -> int:
        """Goods came in: a ledger entry, and the computed sum. Unknown ones are put in."""
        if number not in self.items:
            self.item(number)
        entry = self.open_entry()
        self.commit_entry(entry, number, quantity)
        return entry

    def sold(self, number: str, quantity: str) -> int:
        """Goods went out."""
        return self.received(number, f"-{quantity}")

    def open_entry(self) -> int:
        """Take a number for an entry that nobody sees before `commit_entry`."""
        self._entry += 1
        return self._entry

    def commit_entry(self, entry: int, number: str, quantity: str) -> None:
        """Make an entry visible, maybe after ones with greater numbers."""
        self.ledger[entry] = number
        self.items[number]["inventory"] += Decimal(quantity)

    def figures(self) -> dict[tuple[str, None], tuple[Decimal, None]]:
        """Return what a session should find: no warehouses, no reservations."""
        goods = (item for item in self.items.values() if item["type"] == "Inventory")
        return {(item["number"], None): (item["inventory"], None) for item in goods}

    def limit(self, wait: str | None = None, times: int = 1) -> None:
        """Answer so many requests with 429, with or without `Retry-After`."""
        headers = [("Retry-After", wait)] if wait else []
        self.trouble(Reply(TOO_MANY, 429, headers), path="/companies", times=times)

    def settings(self) -> dict[str, Any]:
        """Return what a session needs."""
        return {
            "base_url": self.url,
            "token_url": f"{self.url}/{self.tenant}/oauth2/v2.0/token",
            "tenant_id": self.tenant,
            "environment": self.environment,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "company": "CRONUS RO",
            "client_state": self.client_state,
        }

    def _touch(self, number: str, change: str) -> None:
        item = self.items[number]
        item["lastModifiedDateTime"] = _time(self.now)
        item["@odata.etag"] = _etag()
        self.changes.append((item["id"], change))

    # -- the service ------------------------------------------------------------------------

    @property
    def _root(self) -> str:
        return f"/v2.0/{self.tenant}/{self.environment}/api/v2.0/"

    async def answer(self, request: Request) -> Reply:
        """Answer as Microsoft's servers do."""
        if request.path == f"/{self.tenant}/oauth2/v2.0/token" and request.method == "POST":
            return self._token(request.form)
        if not self.tokens.takes(request.headers.get("authorization", ""), self.now):
            return _fault(401, "Authentication_InvalidCredentials", "The server has rejected")
        if not request.path.startswith(self._root):
            return _fault(404, "BadRequest_NotFound", "No HTTP resource was found")
        path = request.path.removeprefix(self._root)
        try:
            if path.startswith("subscriptions"):
                return await self._subscription(path, request)
            return self._table(path, request)
        except FilterError as error:
            return _fault(400, "BadRequest", f"Could not understand: {error}")

    def _token(self, form: dict[str, str]) -> Reply:
        known = form.get("client_id") == self.client_id
        if not known or form.get("client_secret") != self.client_secret:
            told = f"AADSTS7000215: Invalid client secret {form.get('client_secret')!r} provided"
            return Reply({"error": "invalid_client", "error_description": told}, 401)
        if form.get("scope") != SCOPE or form.get("grant_type") != "client_credentials":
            told = "AADSTS1002012: The provided value for scope is not valid"
            return Reply({"error": "invalid_scope", "error_description": told}, 400)
        seconds = self.tokens.seconds
        token = self.tokens.issue(self.now)
        body = {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds}
        return Reply({**body, "access_token": token})

    def _table(self, path: str, request: Request) -> Reply:
        if request.method != "GET":
            return _fault(405, "BadRequest_MethodNotAllowed", "Method not allowed")
        if path == "companies":
            rows: list[Row] = [
                {"id": id_, "name": name, "displayName": f"{name} (afișat)"}
                for id_, name in self.companies
            ]
            return self._page(path, request, rows)
        named = _COMPANY.fullmatch(path)
        if named is None or named[1] not in {id_ for id_, _ in self.companies}:
            return _fault(404, "BadRequest_NotFound", "Resource not found")
        ours = named[1] == self.company
        if named[2] == "items":
            return self._page(path, request, list(self.items.values()) if ours else [])
        if named[2] == "locations":
            return self._page(path, request, [])
        entries: list[Row] = [
            {"id": str(uuid.UUID(int=entry)), "entryNumber": Decimal(entry), "itemNumber": number}
            for entry, number in sorted(self.ledger.items())
        ]
        return self._page(path, request, entries if ours else [])

    def _page(self, path: str, request: Request, rows: list[Row]) -> Reply:
        """Answer one page; what a link means is known to this server only."""
        asked, at, empty = request.query, 0, 0
        if "$skiptoken" in asked:
            asked, at, empty = self._links[asked["$skiptoken"]]
        passes = matcher(asked.get("$filter", ""))
        found = ordered([row for row in rows if passes(row)], asked.get("$orderby", ""))
        found = found[: int(asked.get("$top", len(found)))]
        prefer = re.search(r"odata\.maxpagesize=([0-9]+)", request.headers.get("prefer", ""))
        size = 0 if empty else min(int(prefer[1]) if prefer else 20_000, self.page_most)
        shown = [selected(row, asked.get("$select", "")) for row in found[at : at + size]]
        body: dict[str, Any] = {"@odata.context": f"{self.url}{self._root}$metadata#{path}"}
        body["value"] = shown
        if at + size < len(found):
            token = secrets.token_urlsafe(12)
            left = empty - 1 if empty else self.empty_pages
            self._links[token] = asked, at + size, left
            host = "https://elsewhere.example" if self.foreign_links else self.url
            body["@odata.nextLink"] = f"{host}{self._root}{path}?$skiptoken={token}"
        return Reply(body)

    # -- subscriptions ----------------------------------------------------------------------

    async def _subscription(self, path: str, request: Request) -> Reply:
        self._forget_expired()
        if path == "subscriptions" and request.method == "GET":
            return self._page(path, request, [self._shown(one) for one in self.subscriptions])
        if path == "subscriptions" and request.method == "POST":
            return await self._subscribe(request.json)
        named = _ONE.fullmatch(path)
        if named is None or named[1] not in self.subscriptions:
            return _fault(404, "BadRequest_NotFound", "The subscription does not exist")
        if request.method == "GET":
            return Reply(self._shown(named[1]))
        return await self._change(named[1], request)

    async def _change(self, id_: str, request: Request) -> Reply:
        """Renew or delete; whoever does has to know the newest etag."""
        expected = request.headers.get("if-match")
        if expected is None:
            return _fault(400, "BadRequest", "If-Match is required")
        if expected not in {"*", self.subscriptions[id_]["@odata.etag"]}:
            message = "Another user has already changed the record"
            return _fault(self.stale_status, "Request_EntityChanged", message)
        if request.method == "DELETE":
            del self.subscriptions[id_]
            return Reply(None, 204)
        return await self._keep(id_, request.json, 200)

    async def _subscribe(self, given: Any) -> Reply:
        for one in self.subscriptions.values():
            if all(one[name] == given.get(name) for name in ("notificationUrl", "resource")):
                return _fault(400, "BadRequest_Conflict", "A subscription already exists")
        return await self._keep(f"webhook{secrets.token_hex(6)}", given, 201)

    async def _keep(self, id_: str, given: Any, status: int) -> Reply:
        """Shake hands, then let it live three days from now."""
        url, token = given["notificationUrl"], secrets.token_urlsafe(16) + "+/="
        answered, body = await self.call("POST", f"{url}?validationToken={quote(token)}", b"")
        if answered != 200 or body.decode() != token:
            return _fault(400, "BadRequest", "The notification URL did not answer the handshake")
        kept = {**self.subscriptions.get(id_, {}), **given, "subscriptionId": id_}
        kept |= {"@odata.etag": _etag(), "until": self.now + LIFETIME_S}
        self.subscriptions[id_] = kept
        return Reply(self._shown(id_), status)

    def _shown(self, id_: str) -> dict[str, Any]:
        kept = self.subscriptions[id_]
        fields = ("@odata.etag", "subscriptionId", "notificationUrl", "resource", "clientState")
        expires = {"expirationDateTime": _time(kept["until"])}
        return {
            **{name: kept.get(name) for name in fields},
            "userId": str(uuid.UUID(int=7)),
            **expires,
        }

    def _forget_expired(self) -> None:
        for id_ in [i for i, kept in self.subscriptions.items() if kept["until"] <= self.now]:
            del self.subscriptions[id_]

    async def notify(self) -> None:
        """Tell the subscribers what changed since the last time.

        An answer of 4xx other than 408 and 429 ends the subscription; after those, and 5xx, it is
        told again the next time.
        """
        self._forget_expired()
        changes, self.changes = self.changes, []
        for id_, kept in list(self.subscriptions.items()) if changes else []:
            body = json.dumps({"value": self.notifications(kept, changes)}).encode()
            status, _ = await self.call(
                "POST", kept["notificationUrl"], (b"\xef\xbb\xbf" if self.bom else b"") + body
            )
            self.deliveries.append(status)
            if status in {408, 429} or status >= 500:
                self.changes = changes
            elif not 200 <= status < 300:
                del self.subscriptions[id_]

    def notifications(
        self, kept: dict[str, Any], changes: list[tuple[str, str]]
    ) -> list[dict[str, Any]]:
        """Return what one subscriber is told of changes."""
        items = f"{self.url}{self._root}companies({self.company})/items"
        told = [(f"{items}({id_})", change) for id_, change in changes]
        if len(changes) > self.collapse_over:
            since = f"lastModifiedDateTime gt {_time(self.now - 60)}"
            told = [(f"{items}?$filter={since}", "collection")]
        return [
            {
                "subscriptionId": kept["subscriptionId"],
                "clientState": kept["clientState"],
                "expirationDateTime": _time(kept["until"]),
                "resource": resource,
                "changeType": change,
                "lastModifiedDateTime": _time(self.now),
            }
            for resource, change in told
        ]


def _etag() -> str:
    return f'W/"{secrets.token_hex(8)}"'


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _fault(status: int, code: str, message: str) -> Reply:
    """Return an error as Business Central words it."""
    told = f"{message}. CorrelationId:  {uuid.uuid4()}."
    return Reply({"error": {"code": code, "message": told}}, status)
