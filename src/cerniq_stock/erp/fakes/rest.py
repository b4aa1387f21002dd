"""A REST interface of somebody's own: every authorisation, every way to page, sales with a key."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlencode

from cerniq_stock.erp.fakes.base import FakeServer, Reply, Request
from cerniq_stock.erp.fakes.stock import Shelf, StockServer, Tokens

KEY = "canary-rest-key"
PASSWORD = "canary-rest-password"  # noqa: S105 - a fake's
FIELDS = {
    "sku": "code",
    "total": "stock.total",
    "available": "stock.free",
    "price": "price",
    "currency": "currency",
    "warehouse": "depot",
    "lot": "lot",
    "lastModified": "updated",
}
"""Its `field_mapping`."""
ENDPOINTS = {
    "allStock": "/stock",
    "changedStock": "/stock/changed",
    "stockBySku": "/stock/query",
    "health": "/health",
}
Auth = Literal["bearer", "basic", "api_key", "oauth2"]
Kind = Literal["none", "link_header", "next_url", "cursor", "offset", "page"]


@dataclass
class FakeTokenServer(FakeServer):
    """Gives tokens by client credentials at `/token`, in a Basic header or in the form."""

    client: tuple[str, str] = ("demo", PASSWORD)
    tokens: Tokens = field(default_factory=Tokens)

    async def answer(self, request: Request) -> Reply:
        """Answer as RFC 6749 has it."""
        form = request.form
        basic = "Basic " + base64.b64encode(":".join(self.client).encode()).decode()
        named = (form.get("client_id"), form.get("client_secret")) == self.client
        if request.path != "/token" or form.get("grant_type") != "client_credentials":
            return Reply({"error": "invalid_request"}, 400)
        if not named and request.headers.get("authorization") != basic:
            return Reply({"error": "invalid_client"}, 401)
        token = self.tokens.issue(self.now)
        return Reply(
            {"access_token": token, "token_type": "Bearer", "expires_in": self.tokens.seconds}
        )


@dataclass
class FakeRest(StockServer):
    """`f"{server.url}/v1"` is the connection's `base_url`.

    With `oauth2` the tokens are those of `token_server`, which is another origin. Its troubles:
    `foreign_links` lead to another server; `empty_pages` stand, empty, before the others, and have
    a link on; `circle` links back to the first page; and those of `FakeServer`.
    """

    auth: Auth = "bearer"
    paging: Kind = "none"
    page: int = 100
    envelope: str = "items"
    token_server: FakeTokenServer | None = None
    foreign_links: bool = False
    empty_pages: int = 0
    circle: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.booked: dict[str, dict[str, Any]] = {}

    def settings(self) -> dict[str, Any]:
        """Return the settings of a connection to it."""
        given: dict[str, Any] = {"token": KEY}
        if self.auth == "basic":
            given = {"username": "demo", "password": PASSWORD}
        elif self.auth == "api_key":
            given = {"apiKey": KEY}
        elif self.auth == "oauth2":
            assert self.token_server
            client_id, client_secret = self.token_server.client
            url = f"{self.token_server.url}/token"
            given = {"clientId": client_id, "clientSecret": client_secret, "tokenUrl": url}
        return {
            "baseUrl": f"{self.url}/v1",
            "authType": self.auth,
            "credentials": given,
            "endpoints": ENDPOINTS,
            "paging": {"kind": self.paging, "size": self.page},
        }

    def records(self, *skus: str) -> list[dict[str, Any]]:
        """Return records as its webhook would send them."""
        return [_record(shelf) for shelf in self.shelves.values() if shelf.sku in skus]

    async def answer(self, request: Request) -> Reply:
        """Answer one request."""
        return self.stamped(self._answer(request))

    def _answer(self, request: Request) -> Reply:
        if not self._authorized(request.headers):
            return Reply({"message": "unauthorized"}, 401)
        path = request.path.removeprefix("/v1")
        if request.method == "POST":
            return self._posted(path, request)
        if path.startswith("/stock/") and path != ENDPOINTS["changedStock"]:
            found = self.records(path.removeprefix("/stock/"))
            return Reply(found) if found else Reply({"message": "unknown"}, 404)
        if path.startswith("/sales/"):
            sale = self.booked.get(path.removeprefix("/sales/"))
            return Reply(sale) if sale else Reply({"message": "unknown"}, 404)
        return self._listed(path, request)

    def _posted(self, path: str, request: Request) -> Reply:
        if path == ENDPOINTS["stockBySku"]:
            skus = (request.json or {}).get("skus", [])
            return Reply({self.envelope: self.records(*skus)})
        return self._book(request) if path == "/sales" else Reply(None, 405)

    def _listed(self, path: str, request: Request) -> Reply:
        if path == ENDPOINTS["health"]:
            return Reply({"ok": True})
        if path == ENDPOINTS["allStock"]:
            return self._paged(request, self.shelves.values())
        if path == ENDPOINTS["changedStock"]:
            return self._changed(request)
        return Reply({"message": "no such path"}, 404)

    def _authorized(self, headers: dict[str, str]) -> bool:
        told = headers.get("authorization", "")
        match self.auth:
            case "bearer":
                return told == f"Bearer {KEY}"
            case "basic":
                return told == "Basic " + base64.b64encode(f"demo:{PASSWORD}".encode()).decode()
            case "api_key":
                return headers.get("x-api-key") == KEY
            case _:
                assert self.token_server
                return self.token_server.tokens.takes(told, self.now)

    def _changed(self, request: Request) -> Reply:
        try:
            since = datetime.fromisoformat(request.query.get("since", "")).timestamp()
        except ValueError:
            return Reply({"message": "since"}, 400)
        return self._paged(request, (one for one in self.shelves.values() if one.changed >= since))

    # -- pages ------------------------------------------------------------------------------

    def _paged(self, request: Request, shelves: Iterable[Shelf]) -> Reply:
        records, asked = [_record(shelf) for shelf in shelves], request.query
        if self.paging == "none":
            return Reply({self.envelope: records})
        size = min(int(asked.get("limit", self.page)), self.page)
        if self.paging in {"offset", "page"}:
            number = int(asked.get("page", 1)) - 1
            start = number * size if self.paging == "page" else int(asked.get("offset", 0))
            return Reply({self.envelope: records[start : start + size]})
        empty, start = map(int, asked.get("cursor", f"{self.empty_pages}-0").split("-"))
        if empty:
            return self._linked(request, [], f"{empty - 1}-{start}")
        rows, more = records[start : start + size], start + size < len(records)
        if more:
            return self._linked(request, rows, f"0-{start + size}")
        return self._linked(request, rows, "0-0" if self.circle else None)

    def _linked(self, request: Request, rows: list[Any], cursor: str | None) -> Reply:
        if self.paging == "cursor":
            return Reply({self.envelope: rows, "next_cursor": cursor})
        origin = "http://127.0.0.1:9" if self.foreign_links else self.url
        query = urlencode({**request.query, "cursor": cursor})
        link = f"{origin}{request.path}?{query}" if cursor else None
        if self.paging == "next_url":
            return Reply({self.envelope: rows, "next": link})
        headers = [("Link", f'<{self.url}/v1/stock>; rel=first, <{link}>; rel="next last"')]
        return Reply({self.envelope: rows}, headers=headers if link else [])

    # -- sales ------------------------------------------------------------------------------

    def _book(self, request: Request) -> Reply:
        key, asked = request.headers.get("idempotency-key"), request.json
        if not key or not isinstance(asked, dict) or not asked.get("lines"):
            return Reply({"message": "key and lines"}, 400)
        if key in self.booked:
            return Reply(self.booked[key])
        lines = asked["lines"]
        known = all((line["sku"], line["warehouse"], None) in self.shelves for line in lines)
        if not known:
            return Reply({"message": "unknown product"}, 422)
        for line in lines:
            self.sold(line["sku"], Decimal(line["quantity"]), line["warehouse"])
        self.booked[key] = {"id": f"DOC-{len(self.booked) + 1}", **asked}
        return Reply(self.booked[key], 201)


def _record(shelf: Shelf) -> dict[str, Any]:
    return {
        "code": shelf.sku,
        "stock": {"total": shelf.total, "free": shelf.available},
        "price": f"{shelf.price:.2f}",
        "currency": "RON",
        "depot": shelf.warehouse,
        "lot": shelf.lot,
        "updated": datetime.fromtimestamp(shelf.changed, UTC).isoformat(),
    }
