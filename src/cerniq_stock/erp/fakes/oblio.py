"""Oblio (oblio.eu/api) with one company: tokens, pages, its rate, and webhooks with a handshake."""

import asyncio
import base64
import json
import secrets
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from cerniq_stock.erp.fakes.base import Reply, Request
from cerniq_stock.erp.fakes.stock import Shelf, StockServer, Tokens

PAGE = 250
_LONGEST_DELIVERY_S = 5.0


@dataclass
class FakeOblio(StockServer):
    """`f"{server.url}/api"` is the connection's `base_url`; `work_station` has all warehouses.

    More than `most_per_second` requests cost the token `block_s`, told with `block_status`, and
    `retry_after` where that is set. Nobody documents these two.
    """

    email: str = "contabil@example.ro"
    secret: str = "canary-oblio-secret"  # noqa: S105 - a fake's
    cif: str = "RO37311090"
    work_station: str = "Sediu"
    tokens: Tokens = field(default_factory=Tokens)
    most_per_second: int = 3
    block_s: float = 600.0
    block_status: int = 429
    retry_after: str | None = None
    services: tuple[str, ...] = ()
    """Names of services, which are listed among the goods."""
    routes: dict[str, str] = field(default_factory=dict)
    """Where calls to an address that begins so go instead, which has to be on this machine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.webhooks: dict[str, dict[str, str]] = {}
        self.blocked_until = 0.0
        self._times: deque[float] = deque()

    def settings(self) -> dict[str, Any]:
        """Return the settings of a connection to it."""
        return {
            "baseUrl": f"{self.url}/api",
            "email": self.email,
            "secret": self.secret,
            "cif": self.cif,
        }

    async def announce(self) -> list[bool]:
        """Tell every webhook that stock has changed; return which of them took it."""
        body = {"topic": "stock", "data": {}}
        return [await self._deliver(hook["endpoint"], body) for hook in self.webhooks.values()]

    async def answer(self, request: Request) -> Reply:
        """Answer as Oblio does."""
        return self.stamped(await self._answer(request))

    async def _answer(self, request: Request) -> Reply:
        path = request.path.removeprefix("/api")
        if path == "/authorize/token" and request.method == "POST":
            return self._token(request)
        if self._too_fast():
            more = [("Retry-After", self.retry_after)] if self.retry_after else []
            return Reply(_failure(self.block_status), self.block_status, more)
        if not self.tokens.takes(request.headers.get("authorization", ""), self.now):
            return Reply(_failure(401), 401)
        if path.startswith("/webhooks"):
            return await self._webhooks(request, path.removeprefix("/webhooks").strip("/"))
        if request.method != "GET":
            return Reply(_failure(404), 404)
        return self._nomenclature(path, request.query)

    def _nomenclature(self, path: str, asked: dict[str, str]) -> Reply:
        if path == "/nomenclature/companies":
            mine = {"cif": self.cif, "company": "Demo SRL", "userTypeAccess": "admin"}
            return Reply(_success([mine]))
        if path == "/nomenclature/management":
            return self._managements(asked)
        if path == "/nomenclature/products":
            return self._products(asked)
        return Reply(_failure(404), 404)

    def _token(self, request: Request) -> Reply:
        asked = request.form
        if (asked.get("client_id"), asked.get("client_secret")) != (self.email, self.secret):
            return Reply(_failure(401), 401)
        token, made = self.tokens.current(self.now)
        return Reply(
            {
                "access_token": token,
                "expires_in": str(self.tokens.seconds),
                "token_type": "Bearer",
                "scope": "",
                "request_time": str(int(made)),
            }
        )

    def _too_fast(self) -> bool:
        now = self.now
        while self._times and self._times[0] <= now - 1:
            self._times.popleft()
        self._times.append(now)
        if len(self._times) > self.most_per_second:
            self.blocked_until = now + self.block_s
        return now < self.blocked_until

    def _wrong_company(self, asked: dict[str, str]) -> bool:
        return asked.get("cif", "").removeprefix("RO") != self.cif.removeprefix("RO")

    def _managements(self, asked: dict[str, str]) -> Reply:
        if self._wrong_company(asked):
            return Reply(_failure(400), 400)
        names = dict.fromkeys(shelf.warehouse for shelf in self.shelves.values())
        place = {"workStation": self.work_station, "managementType": "Cantitativ-valoric"}
        return Reply(_success([{"management": name, **place} for name in names]))

    def _products(self, asked: dict[str, str]) -> Reply:
        offset = asked.get("offset", "0")
        if self._wrong_company(asked) or not (offset.isascii() and offset.isdigit()):
            return Reply(_failure(400), 400)
        management, code, name = (asked.get(key) for key in ("management", "code", "name"))
        goods = [
            product
            for sku, shelves in self.by_product()
            if code in {None, sku} and name in {None, f"Produs {sku}"}
            for product in self._shapes(sku, shelves, management)
        ]
        if code is None and name is None:
            goods += [_service(service) for service in self.services]
        return Reply(_success(goods[int(offset) : int(offset) + PAGE]))

    def _shapes(self, sku: str, shelves: list[Shelf], management: str | None) -> list[Any]:
        """Return a product: with its stock in each management, or flat, as it is in one."""
        head = {"name": f"Produs {sku}", "code": sku, "description": "", "measuringUnit": "buc"}
        head["productType"] = "Marfa"
        if management is not None:
            here = [shelf for shelf in shelves if shelf.warehouse == management]
            return [{**head, **_figures(shelf)} for shelf in here]
        station = {"workStation": self.work_station}
        stock = [{**station, "management": shelf.warehouse, **_figures(shelf)} for shelf in shelves]
        return [{**head, "stock": stock}]

    async def _webhooks(self, request: Request, which: str) -> Reply:
        if request.method == "GET":
            return Reply(_success(list(self.webhooks.values())))
        if request.method == "DELETE":
            found = self.webhooks.pop(which, None)
            return Reply(_success([])) if found else Reply(_failure(404), 404)
        asked = request.json if isinstance(request.json, dict) else {}
        if self._wrong_company(asked) or not asked.get("topic"):
            return Reply(_failure(400), 400)
        if not await self._deliver(str(asked.get("endpoint")), {}):
            return Reply(_failure(400), 400)
        number = secrets.token_hex(4)
        kept = {key: str(asked[key]) for key in ("cif", "topic", "endpoint")}
        self.webhooks[number] = {"id": number, **kept}
        return Reply(_success(self.webhooks[number]), 201)

    async def _deliver(self, endpoint: str, body: object) -> bool:
        for begin, instead in self.routes.items():
            if endpoint.startswith(begin):
                endpoint = instead + endpoint.removeprefix(begin)
        return await _deliver(endpoint, body)


def _figures(shelf: Shelf) -> dict[str, Any]:
    """Return quantity as a number and price as a text; reservations are not known there."""
    return {
        "quantity": shelf.total,
        "price": f"{shelf.price:.4f}",
        "currency": "RON",
        "vatName": "Normala",
        "vatPercentage": 21,
        "vatIncluded": True,
    }


def _service(name: str) -> dict[str, Any]:
    price = {"price": "150.00", "currency": "RON", "vatPercentage": Decimal(21)}
    head = {"name": name, "code": "", "measuringUnit": "ora", "productType": "Serviciu"}
    return {**head, **price}


def _success(data: object) -> dict[str, Any]:
    return {"status": 200, "statusMessage": "Success", "data": data}


def _failure(status: int) -> dict[str, Any]:
    return {"status": status, "statusMessage": "Cererea nu poate fi indeplinita"}


async def _deliver(endpoint: str, body: object) -> bool:
    """Post to an endpoint on this machine; it must answer with the request's id in base64."""
    number = secrets.token_hex(8)
    target = urlsplit(endpoint)
    if target.hostname != "127.0.0.1" or target.scheme != "http":
        return False
    content = json.dumps(body).encode()
    head = (
        f"POST {target.path or '/'}{'?' if target.query else ''}{target.query} HTTP/1.1\r\n"
        f"Host: {target.netloc}\r\nX-Oblio-Request-Id: {number}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    try:
        async with asyncio.timeout(_LONGEST_DELIVERY_S):
            reader, writer = await asyncio.open_connection(target.hostname, target.port or 80)
            try:
                writer.write(head.encode() + content)
                answer = await reader.readuntil(b"\r\n\r\n")
                expected = base64.b64encode(number.encode())
                good = answer.split(b" ", 2)[1] == b"200"
                return good and await reader.readexactly(len(expected)) == expected
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, IndexError):
        return False
