"""A Service Layer of SAP Business One with a small company's stock, v1 and v2 at once."""

import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

from cerniq_stock.erp.fakes.base import FakeServer, Reply, Request
from cerniq_stock.erp.fakes.odata import FilterError, Row, matcher, ordered, selected

PAGE = 20
ITEMS, SHELF = "Items", "ItemWarehouseInfoCollection"
CROSSED = f"$crossjoin({ITEMS},{ITEMS}/{SHELF})"
EXITS, ENTRIES = "InventoryGenExits", "InventoryGenEntries"
_SERVICE = re.compile(r"/b1s/(v1|v2)/(.*)")
_KEYED = re.compile(r"([A-Za-z]+)\(([0-9]+)\)")
_EXPANDED = re.compile(r"([A-Za-z/]+)\(\$select=([A-Za-z,]+)\)")
_LINES = {"StockTransfers": "StockTransferLines"}


@dataclass
class FakeSapB1(FakeServer):
    """`server.url` is the connection's `base_url`.

    Its troubles: `links` as servers write them, `expire_after` so many pages, `expire`, and those
    of `FakeServer`. Master data have the day `updated`, which no movement of stock touches.
    """

    company: str = "SBODEMO"
    users: dict[str, str] = field(default_factory=lambda: {"manager": "canary-sap-password"})
    warehouses: tuple[str, ...] = ("01", "02", "99")
    idle_minutes: int = 30
    links: Literal["relative", "path", "absolute", "foreign"] = "relative"
    expire_after: int | None = None
    login_status: int = 401
    updated: tuple[str, str | None] = ("2026-11-19", "12:03:55")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.items: dict[str, dict[str, Any]] = {}
        self.shelves: dict[tuple[str, str], dict[str, Decimal]] = {}
        self.documents: dict[str, list[dict[str, Any]]] = {EXITS: [], ENTRIES: []}
        self.sessions: dict[str, float] = {}
        self.logins = self.logouts = 0

    # -- what happens in the company --------------------------------------------------------

    def item(self, code: str, *, price: str = "0", currency: str = "", **more: Any) -> None:
        """Put an item in; it has a row in every warehouse, used or not."""
        day, clock = self.updated
        self.items[code] = {
            "ItemCode": code,
            "ItemName": f"Articol {code}",
            "InventoryItem": "tYES",
            "Valid": "tYES",
            "ValidFrom": None,
            "ValidTo": None,
            "Frozen": "tNO",
            "FrozenFrom": None,
            "FrozenTo": None,
            "ManageBatchNumbers": "tNO",
            "ManageSerialNumbers": "tNO",
            "UpdateDate": day,
            "UpdateTime": clock,
            "ItemPrices": [
                {"PriceList": 1, "Price": Decimal(price), "Currency": currency},
                {"PriceList": 2, "Price": Decimal(0), "Currency": ""},
            ],
            **more,
        }
        for warehouse in self.warehouses:
            self.shelves[code, warehouse] = dict.fromkeys(
                ("InStock", "Committed", "Ordered"), Decimal(0)
            )

    def received(self, code: str, quantity: str, warehouse: str = "01") -> None:
        """Goods came in; nothing of the item itself changes. Unknown ones are put in."""
        if code not in self.items:
            self.item(code)
        self.shelves[code, warehouse]["InStock"] += Decimal(quantity)

    def sold(self, code: str, quantity: str, warehouse: str = "01") -> None:
        """Goods went out."""
        self.shelves[code, warehouse]["InStock"] -= Decimal(quantity)

    def ordered(self, code: str, quantity: str, warehouse: str = "01") -> int:
        """A customer's order commits goods; returns its DocEntry."""
        self.shelves[code, warehouse]["Committed"] += Decimal(quantity)
        line = {"ItemCode": code, "Quantity": Decimal(quantity), "WarehouseCode": warehouse}
        return self._document("Orders", {"DocumentLines": [line]})

    def removed(self, code: str) -> None:
        """An item was deleted."""
        del self.items[code]
        for warehouse in self.warehouses:
            del self.shelves[code, warehouse]

    def figures(self) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
        """Return total and available by item and warehouse."""
        return {
            key: (shelf["InStock"], shelf["InStock"] - shelf["Committed"])
            for key, shelf in self.shelves.items()
        }

    def settings(self) -> dict[str, Any]:
        """Return what a session needs."""
        user, password = next(iter(self.users.items()))
        given = {"company_db": self.company, "user_name": user, "password": password}
        return {"base_url": self.url, **given}

    def expire(self) -> None:
        """End all sessions, as a restart does."""
        self.sessions.clear()

    def event(self, kind: str, action: str = "Updated", **keys: Any) -> dict[str, Any]:
        """Return what its webhook sends (from FP 2602 on)."""
        return {
            "id": secrets.token_hex(8),
            "specversion": "1.0",
            "source": f"/default/sap.b1/{self.company}",
            "type": f"sap.b1.{kind}.{action}.v1",
            "subject": str(next(iter(keys.values()), "")),
            "time": datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "datacontenttype": "application/json",
            "data": keys,
        }

    # -- the service ------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        """Answer as the Service Layer does."""
        service = _SERVICE.fullmatch(request.path)
        if service is None:
            return Reply("<html>Not Found</html>", 404, [("Content-Type", "text/html")])
        version, path = service[1], service[2]
        if path == "Login" and request.method == "POST":
            return self._login(version, request.json)
        name = self._session(request)
        if name is None:
            return _fault(version, 401, 301, "Invalid session or session already timeout.")
        if path == "Logout" and request.method == "POST":
            del self.sessions[name]
            self.logouts += 1
            return Reply(None, 204)
        try:
            return self._resource(version, path, request)
        except FilterError as error:
            return _fault(version, 400, -1000, f"Query string error: {error}")

    def _login(self, version: str, given: Any) -> Reply:
        given = given if isinstance(given, dict) else {}
        self.logins += 1
        known = self.users.get(str(given.get("UserName")))
        if given.get("CompanyDB") != self.company or known != given.get("Password"):
            return _fault(version, self.login_status, 100000027, "Login failed")
        name = secrets.token_hex(16)
        self.sessions[name] = self.now
        key = "odata.metadata" if version == "v1" else "@odata.context"
        body = {
            key: f"{self.url}/b1s/{version}/$metadata#B1Sessions/@Element",
            "SessionId": name,
            "Version": "1000110",
            "SessionTimeout": self.idle_minutes,
        }
        cookies = (f"B1SESSION={name};HttpOnly;", "ROUTEID=.node1; path=/b1s")
        return Reply(body, 200, [("Set-Cookie", line) for line in cookies])

    def _session(self, request: Request) -> str | None:
        """Return the request's session and keep it awake; one that slept too long has ended."""
        pairs = (
            part.strip().partition("=") for part in request.headers.get("cookie", "").split(";")
        )
        name = {key: value for key, _, value in pairs}.get("B1SESSION", "")
        used = self.sessions.get(name)
        if used is None or self.now - used >= self.idle_minutes * 60:
            self.sessions.pop(name, None)
            return None
        self.sessions[name] = self.now
        return name

    def _resource(self, version: str, path: str, request: Request) -> Reply:
        if request.method == "POST" and path in {EXITS, ENTRIES}:
            return self._book(version, path, request.json)
        if request.method != "GET":
            return _fault(version, 405, -1, "Method not allowed")
        if keyed := _KEYED.fullmatch(path):
            found = self.documents.get(keyed[1], [])[int(keyed[2]) - 1 :][:1]
            if not found:
                return _fault(version, 404, -2028, "No matching records found (ODBC -2028)")
            return Reply(selected(found[0], request.query.get("$select", "")))
        rows = self._table(path)
        if rows is None:
            return _fault(version, 404, -1, f"Unrecognized resource path {path}")
        return self._page(version, path, request, rows)

    def _table(self, path: str) -> list[Row] | None:
        if path == ITEMS:
            return [self._whole(code) for code in self.items]
        if path == CROSSED:
            return self._crossed()
        if path == "Warehouses":
            return [{"WarehouseCode": code} for code in self.warehouses]
        return list(self.documents[path]) if path in self.documents else None

    def _whole(self, code: str) -> dict[str, Any]:
        """Return an item with its figures; in all they are those of every warehouse."""
        shelves = [
            {"WarehouseCode": name, **self.shelves[code, name], "Locked": "tNO"}
            for name in self.warehouses
        ]
        return {
            **self.items[code],
            "QuantityOnStock": sum(shelf["InStock"] for shelf in shelves),
            "QuantityOrderedByCustomers": sum(shelf["Committed"] for shelf in shelves),
            "QuantityOrderedFromVendors": sum(shelf["Ordered"] for shelf in shelves),
            SHELF: shelves,
        }

    def _crossed(self) -> list[Row]:
        """Return every item beside every figure; only a filter joins them."""
        return [
            {
                ITEMS: item,
                f"{ITEMS}/{SHELF}": {"ItemCode": code, "WarehouseCode": name, **figures},
            }
            for item in self.items.values()
            for (code, name), figures in self.shelves.items()
        ]

    def _page(self, version: str, path: str, request: Request, rows: list[Row]) -> Reply:
        asked = request.query
        passes = matcher(asked.get("$filter", ""))
        found = ordered([row for row in rows if passes(row)], asked.get("$orderby", ""))
        size, at = _size(request), int(asked.get("$skip", 0))
        last = min(at + size, int(asked.get("$top", len(found))))
        if path == CROSSED:
            wanted = dict(_EXPANDED.findall(asked.get("$expand", "")))
            shown = [
                {name: selected(row[name], select) for name, select in wanted.items()}
                for row in found[at:last]
            ]
        else:
            shown = [selected(row, asked.get("$select", "")) for row in found[at:last]]
        sign = "" if version == "v1" else "@"
        body: dict[str, Any] = {"value": shown}
        if asked.get("$inlinecount") == "allpages":
            body["odata.count"] = str(len(found))
        if asked.get("$count") == "true":
            body["@odata.count"] = len(found)
        if last < len(found) and "$top" not in asked:
            # as it was asked, without escapes
            query = "&".join(f"{k}={v}" for k, v in {**asked, "$skip": last}.items())
            body[f"{sign}odata.nextLink"] = self._link(version, f"{path}?{query}")
        self._count_page()
        return Reply(body, 200, [("Preference-Applied", f"odata.maxpagesize={size}")])

    def _link(self, version: str, relative: str) -> str:
        before = {
            "relative": "",
            "path": f"/b1s/{version}/",
            "absolute": f"{self.url}/b1s/{version}/",
            "foreign": f"https://elsewhere.example/b1s/{version}/",
        }
        return before[self.links] + (
            relative if self.links == "relative" else quote(relative, "/?$=&(),'")
        )

    def _count_page(self) -> None:
        if self.expire_after is not None:
            self.expire_after -= 1
            if self.expire_after <= 0:
                self.expire_after = None
                self.expire()

    # -- documents --------------------------------------------------------------------------

    def _book(self, version: str, kind: str, given: Any) -> Reply:
        """Book a goods issue or receipt, whole or not at all."""
        lines = given["DocumentLines"]
        moves: dict[tuple[str, str], Decimal] = {}
        for line in lines:
            item = self.items.get(line["ItemCode"])
            place = line["ItemCode"], line.get("WarehouseCode", self.warehouses[0])
            if item is None or place not in self.shelves:
                return _fault(version, 404, -2028, "No matching records found (ODBC -2028)")
            if "tYES" in {item["ManageBatchNumbers"], item["ManageSerialNumbers"]}:
                return _fault(version, 400, -4014, "Cannot add row without complete selection")
            signed = Decimal(line["Quantity"]) * (-1 if kind == EXITS else 1)
            moves[place] = moves.get(place, Decimal(0)) + signed
        if any(self.shelves[place]["InStock"] + moved < 0 for place, moved in moves.items()):
            return _fault(version, 400, -10, "Quantity falls into negative inventory")
        for place, moved in moves.items():
            self.shelves[place]["InStock"] += moved
        entry = self._document(kind, given)
        return Reply(self.documents[kind][entry - 1], 201)

    def _document(self, kind: str, given: dict[str, Any]) -> int:
        kept = self.documents.setdefault(kind, [])
        entry = len(kept) + 1
        lines = _LINES.get(kind, "DocumentLines")
        kept.append({"Comments": "", lines: [], **given, "DocEntry": entry, "DocNum": 7000 + entry})
        return entry


def _size(request: Request) -> int:
    """Return the rows of a page: 20, unless this very request prefers another number."""
    prefer = re.search(r"odata\.maxpagesize=([0-9]+)", request.headers.get("prefer", ""))
    wanted = int(prefer[1]) if prefer else int(request.headers.get("b1s-pagesize", PAGE))
    return wanted or 1_000_000


def _fault(version: str, status: int, code: int, message: str) -> Reply:
    """Return an error as this version words it."""
    if version == "v1":
        told: object = {"lang": "en-us", "value": message}
        return Reply({"error": {"code": code, "message": told}}, status)
    return Reply({"error": {"code": str(code), "message": message}}, status)
