"""A session with any REST interface, by its settings; those of SENIOR and WIZCOUNT are such, too.

Nothing public says how SENIOR and WIZCOUNT answer, so nothing is assumed of them: their sessions
differ in their name only.
"""

import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from cerniq_stock.erp import custom_api
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.custom_api_paging import paged
from cerniq_stock.erp.custom_api_settings import ID, SKU, CustomApiConnection, Push, Since
from cerniq_stock.erp.http import Answer, ErpClient
from cerniq_stock.erp.paths import value_at
from cerniq_stock.erp.rows import Parsed, PayloadError, SystemName
from cerniq_stock.erp.session import Dial, Session, keys_of, only
from cerniq_stock.erp.source import OpenSource, Sale, Watermark
from cerniq_stock.erp.text import as_text
from cerniq_stock.erp.times import moment, written
from cerniq_stock.erp.tokens import ClientCredentials, Grant
from cerniq_stock.erp.trouble import BadAnswerError, RefusedError
from cerniq_stock.errors import InvalidInputError


class CustomApiSession(Session):
    """What the settings say that there is."""

    def __init__(
        self,
        client: ErpClient,
        connection: CustomApiConnection,
        config: ErpConfig,
        system: SystemName = SystemName.CUSTOM_API,
    ) -> None:
        super().__init__(client, config, partial(custom_api.parse, system=system))
        self.system = system
        self._settings = connection
        self._listed = config.model_copy(update={"items_path": ""})

    def everything(self) -> AsyncIterator[Parsed]:
        """Read all pages of `all_stock`."""
        return self._reading(self._settings.endpoints.all_stock, {})

    def changed(self, since: Watermark) -> AsyncIterator[Parsed]:
        """Read all pages of `changed_stock`, or of `all_stock`, with the time."""
        at = moment(since.get("since"), self.config.zone)
        if at is None:
            raise InvalidInputError("since", f"this is no watermark of {self.system}")
        endpoints, how = self._settings.endpoints, self._settings.since
        endpoint = endpoints.changed_stock or endpoints.all_stock
        return self._reading(endpoint, {how.parameter: self._since(at, how)})

    def of_skus(self, skus: Sequence[str]) -> AsyncIterator[Parsed]:
        """Ask `stock_by_sku`; without it everything is read."""
        endpoint = self._settings.endpoints.stock_by_sku
        if endpoint is None:
            return self.picked(skus)
        if self._settings.by_sku.method == "GET":
            return self._one_by_one(endpoint, skus)
        return self._in_batches(endpoint, skus)

    def announced(self, payload: Any) -> AsyncIterator[Parsed]:
        """Read a webhook's rows: in the envelope of answers, in a usual one, or one record."""
        return self.brought(payload)

    def read(self, payload: Any, config: ErpConfig | None = None) -> Parsed:
        """Parse a payload; what is no page of a reading may be in another envelope."""
        try:
            return super().read(payload, config)
        except PayloadError:
            if config is not None or self.config.items_path is None:
                raise
            return super().read(payload, self.config.model_copy(update={"items_path": None}))

    async def ask_little(self) -> None:
        """Ask `health`, or for one row of the stock."""
        endpoints, size = self._settings.endpoints, self._settings.paging.size_parameter
        if endpoints.health:
            await self.client.get(_path(endpoints.health))
            return
        answer = await self.client.get(_path(endpoints.all_stock), params={size or "limit": 1})
        self._items(answer)

    async def push(self, sales: Sequence[Sale]) -> str | None:
        """Book sales with one POST that carries a key, unless the key is found to be booked.

        An answer without a body has no document's number. One that cannot be read is none.
        """
        rules = self._settings.push
        if rules is None:
            return await super().push(sales)
        if not sales:
            return None
        key = _key(sales)
        booked = await self._booked(rules, key)
        if booked is not None:
            return as_text(value_at(booked, rules.document))
        answer = await self.client.request(
            "POST",
            _path(rules.path),
            json_body=self._body(rules, key, sales),
            headers={rules.header: key},
            may_be_empty=True,
        )
        return as_text(value_at(answer.data, rules.document))

    # -- reading ----------------------------------------------------------------------------

    async def _reading(
        self, endpoint: str, params: Mapping[str, object]
    ) -> AsyncGenerator[Parsed, None]:
        began, first = self.client.clock.monotonic(), True

        async def get(link: str, more: Mapping[str, object] | None = None) -> Answer:
            nonlocal first
            answer = await self.client.get(link, params=more)
            if first:
                self._mark(self.server_time(answer, began))
            first = False
            return answer

        pages = paged(
            self._settings.paging,
            get,
            _path(endpoint),
            params,
            items=self._items,
            resolve=self.client.resolve,
        )
        async with aclosing(pages):
            async for rows in pages:
                yield self.read(rows, self._listed)

    def _items(self, answer: Answer) -> list[Any]:
        try:
            return custom_api.found(answer.data, self.config, self.system)[1]
        except PayloadError:
            raise BadAnswerError(
                "the ERP's answer has no list of rows where it should be"
            ) from None

    def _mark(self, now: float) -> None:
        since = datetime.fromtimestamp(now - self._settings.since.overlap_s, UTC)
        self._watermark = {"since": written(since.replace(microsecond=0))}

    def _since(self, at: datetime, how: Since) -> str:
        match how.format:
            case "iso":
                return written(at)
            case "date":
                return (at.astimezone(self.config.zone).date() - timedelta(days=1)).isoformat()
            case "unix":
                return str(int(at.timestamp()))
            case _:
                return str(int(at.timestamp()) * 1000)

    async def _in_batches(self, endpoint: str, skus: Sequence[str]) -> AsyncGenerator[Parsed, None]:
        how = self._settings.by_sku
        for at in range(0, len(skus), how.batch):
            some = list(skus[at : at + how.batch])
            # it only reads, whatever the method's name
            answer = await self.client.request(
                "POST", _path(endpoint), json_body={how.field: some}, idempotent=True
            )
            yield only(self.read(answer.data), keys_of(some))

    async def _one_by_one(self, endpoint: str, skus: Sequence[str]) -> AsyncGenerator[Parsed, None]:
        in_path = SKU in endpoint
        for sku in skus:
            path = _path(endpoint.replace(SKU, quote(sku, "")))
            params = None if in_path else {self._settings.by_sku.parameter: sku}
            answer = await self.client.get(path, params=params, accept={404})
            if answer.status != 404:
                yield only(self.read(answer.data), keys_of([sku]))

    # -- booking ----------------------------------------------------------------------------

    async def _booked(self, rules: Push, key: str) -> Any:
        """Return what an earlier try has booked; None: nothing, or nobody can tell.

        A look that is refused is no finding, and no refusal of the sales: BadAnswerError.
        """
        if rules.lookup is None:
            return None
        path = _path(rules.lookup.replace(ID, quote(key, "")))
        try:
            return _record(await self.client.get(path, accept={404}))
        except RefusedError as error:
            told = f"what is booked cannot be looked up: {error}"
            raise BadAnswerError(told, status=error.status) from None

    def _body(self, rules: Push, key: str, sales: Sequence[Sale]) -> dict[str, Any]:
        lines = [self._line(rules, sale) for sale in sales]
        named = {rules.id: key} if rules.id else {}
        return {**rules.constants, **named, rules.lines: lines}

    def _line(self, rules: Push, sale: Sale) -> dict[str, Any]:
        names, whole = rules.line, sale.quantity == sale.quantity.to_integral_value()
        number: object = int(sale.quantity) if whole else float(sale.quantity)
        if rules.quantity_as == "text":
            number = f"{sale.quantity:f}"
        line: dict[str, Any] = {names.sku: sale.sku, names.quantity: number}
        if names.warehouse and sale.warehouse is not None:
            line[names.warehouse] = self._theirs(sale.warehouse)
        if names.id:
            line[names.id] = sale.id
        return line

    def _theirs(self, warehouse: str) -> str:
        """Return the source's name of a warehouse that may have another one here."""
        known = self.config.warehouses
        pairs = known.items() if isinstance(known, dict) else ()
        return next((source for source, here in pairs if here == warehouse), warehouse)


def _path(endpoint: str) -> str:
    """Take an endpoint as the specification does: appended to the base URL, slash or not."""
    return endpoint.lstrip("/")


def _key(sales: Sequence[Sale]) -> str:
    """Return a sale's id, or for several of them what only these together have."""
    if len(sales) == 1:
        return sales[0].id
    return hashlib.sha256("\n".join(sorted(sale.id for sale in sales)).encode()).hexdigest()


def _record(answer: Answer) -> Any:
    """Return what a lookup found, None for nothing."""
    if answer.status == 404:
        return None
    data = answer.data
    for name in custom_api.USUAL:
        if isinstance(data, dict) and isinstance(data.get(name), list):
            data = data[name]
    if isinstance(data, list):
        return data[0] if data else None
    return data


@asynccontextmanager
async def _open(
    system: SystemName, connection: CustomApiConnection, dial: Dial, config: ErpConfig
) -> AsyncIterator[CustomApiSession]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            dial.client(
                connection, headers=_headers(connection, dial), rate=connection.requests_per_second
            )
        )
        given = connection.credentials
        if connection.auth_type == "oauth2":
            assert given.client_id
            assert given.client_secret
            assert given.token_url
            # it may be another origin; the same policy holds for it
            server = await stack.enter_async_context(dial.client(connection, given.token_url))
            grant = Grant(
                given.client_id,
                given.client_secret.get_secret_value(),
                given.scope,
                given.client_in,
                {name: value.get_secret_value() for name, value in given.token_fields.items()},
            )
            client.auth = ClientCredentials(server, given.token_url, grant)
        yield CustomApiSession(client, connection, config, system)


def _headers(connection: CustomApiConnection, dial: Dial) -> dict[str, str]:
    """Return the headers of credentials that stay as they are."""
    given = connection.credentials
    match connection.auth_type:
        case "bearer":
            assert given.token
            return {"Authorization": f"Bearer {given.token.get_secret_value()}"}
        case "basic":
            assert given.password
            both = f"{given.username}:{given.password.get_secret_value()}".encode()
            encoded = base64.b64encode(both).decode()
            dial.redactor.add(encoded)
            return {"Authorization": f"Basic {encoded}"}
        case "api_key":
            assert given.api_key
            return {given.api_key_header: given.api_key.get_secret_value()}
        case _:
            return {}


def opener(system: SystemName) -> Callable[[CustomApiConnection, Dial, ErpConfig], OpenSource]:
    """Return what opens sessions under the name of `system`."""
    return partial(_open, system)
