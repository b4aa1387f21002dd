"""The bridge to SAGA that the platform's specification describes, with a small company's stock."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cerniq_stock.erp.fakes.base import Reply, Request
from cerniq_stock.erp.fakes.stock import Shelf, StockServer

CODES_AT_ONCE = 50
_LOCAL = ZoneInfo("Europe/Bucharest")


@dataclass
class FakeSaga(StockServer):
    """`server.url` is the connection's `base_url`.

    Its times are those of Bucharest, without a zone; changes are told by their day.
    """

    api_key: str = "canary-saga-key"
    company: str = "DEMO"
    base_path: str = "api/v1"
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer"
    envelope: str = "stocuri"

    def settings(self) -> dict[str, Any]:
        """Return the settings of a connection to it."""
        return {"baseUrl": self.url, "apiKey": self.api_key, "companyCode": self.company}

    def event(self, *skus: str) -> dict[str, Any]:
        """Return what its webhook sends about products."""
        shelves = [shelf for shelf in self.shelves.values() if shelf.sku in skus]
        return {"eveniment": "STOC_MODIFICAT", "articole": [_record(shelf) for shelf in shelves]}

    async def answer(self, request: Request) -> Reply:
        """Answer as the specification has it."""
        return self.stamped(self._answer(request))

    def _answer(self, request: Request) -> Reply:
        key = f"{self.auth_scheme} {self.api_key}".strip()
        if request.headers.get(self.auth_header.lower()) != key:
            return Reply({"eroare": "Cheie gresita"}, 401)
        match request.method, request.path.removeprefix(f"/{self.base_path}/"):
            case "GET", "status":
                return Reply({"status": "OK"})
            case "GET", "stocuri/toate":
                return self._stocks(request.query, self.shelves.values())
            case "GET", "stocuri/modificate":
                return self._changed(request.query)
            case "POST", "stocuri/articole":
                return self._single(request.json)
        return Reply({"eroare": "Cale necunoscuta"}, 404)

    def _changed(self, asked: dict[str, str]) -> Reply:
        try:
            first = date.fromisoformat(asked.get("dataModificareMin", ""))
        except ValueError:
            return Reply({"eroare": "dataModificareMin"}, 400)
        shelves = self.shelves.values()
        return self._stocks(asked, (one for one in shelves if _local(one.changed).date() >= first))

    def _single(self, asked: Any) -> Reply:
        codes = asked.get("coduri") if isinstance(asked, dict) else None
        if not isinstance(codes, list) or len(codes) > CODES_AT_ONCE:
            return Reply({"eroare": "coduri"}, 400)
        return self._stocks(asked, (one for one in self.shelves.values() if one.sku in codes))

    def _stocks(self, asked: dict[str, Any], shelves: Iterable[Shelf]) -> Reply:
        if asked.get("firma") != self.company or not asked.get("gestiune"):
            return Reply({"eroare": "firma"}, 400)
        every = asked["gestiune"] == "*"
        found = [_record(one) for one in shelves if every or one.warehouse == asked["gestiune"]]
        return Reply({self.envelope: found})


def _record(shelf: Shelf) -> dict[str, Any]:
    """Return a row; its figures are texts."""
    return {
        "cod_articol": shelf.sku,
        "cantitate_totala": f"{shelf.total:.4f}",
        "cantitate_disponibila": f"{shelf.available:.4f}",
        "pret_vanzare": f"{shelf.price:.4f}",
        "moneda": "RON",
        "stare": "ACTIV",
        "cod_gestiune": shelf.warehouse,
        "data_modificare": _local(shelf.changed).strftime("%Y-%m-%d %H:%M:%S"),
        **({"lot": shelf.lot} if shelf.lot else {}),
    }


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone(_LOCAL)
