"""A session with Oblio (oblio.eu/api): tokens, pages of 250, two requests a second.

Oblio tells no changes and takes no stock. More than three requests a second cost the token ten
minutes, so the session keeps to two and goes away when it is told to.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Self

from pydantic import Field, model_validator

from cerniq_stock.erp import oblio
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.http import Answer, ErpClient
from cerniq_stock.erp.paging import by_position
from cerniq_stock.erp.rows import Parsed
from cerniq_stock.erp.session import Connection, Dial, Secret, Session, Url, Word, keys_of, only
from cerniq_stock.erp.tokens import ClientCredentials, Grant
from cerniq_stock.erp.trouble import (
    BadAnswerError,
    ErpError,
    RateLimitedError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)

PAGE = 250
REQUESTS_PER_SECOND = 2.0
BLOCKED_S = 600.0
SINGLY = 40
"""From so many products on the whole catalogue is read: 250 come with a request, or one."""
_PRODUCTS = "nomenclature/products"
_STATUS = re.compile(r"[1-5][0-9]{2}")


class OblioConnection(Connection):
    """An account, one company of it, and one management or all.

    `email` and `secret` are those of Setări > Date cont; the secret changes with the password.
    """

    base_url: Url = "https://www.oblio.eu/api"
    email: Word
    secret: Secret
    cif: Word = Field(pattern=r"^[A-Za-z]{0,2} ?[0-9]{2,12}$")
    work_station: Word | None = None
    management: Word | None = None
    include_unsalable: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.management is None) != (self.work_station is None):
            raise ValueError("work_station and management are given together, or neither")
        return self


class OblioSession(Session):
    """Oblio knows everything, and single products."""

    system = "OBLIO"

    def __init__(self, client: ErpClient, connection: OblioConnection, config: ErpConfig) -> None:
        self.cif = connection.cif
        self._asked: dict[str, object] = {"cif": connection.cif}
        if connection.management:
            place = {"workStation": connection.work_station, "management": connection.management}
            self._asked |= place
            if config.warehouse is None:
                # rows of one management do not name it
                name = f"{connection.work_station}|{connection.management}"
                config = config.model_copy(update={"warehouse": name})
        if connection.include_unsalable:
            self._asked["includeUnsalable"] = 1
        super().__init__(client, config, oblio.parse)

    def everything(self) -> AsyncIterator[Parsed]:
        """Read all pages; there is no way to go on from, so the watermark stays None."""
        return self._products({})

    async def of_skus(self, skus: Sequence[str]) -> AsyncGenerator[Parsed, None]:
        """Ask for one code after the other, or where they are many for everything."""
        if len(skus) >= SINGLY:
            async with aclosing(self.picked(skus)) as pages:
                async for page in pages:
                    yield page
            return
        for sku in skus:
            async with aclosing(self._products({"code": sku})) as pages:
                async for page in pages:
                    # what the filter takes for equal is not documented
                    yield only(page, keys_of([sku]))

    def announced(self, payload: Any) -> AsyncIterator[Parsed]:
        """Read everything: what a webhook tells is not documented, and nobody signs it."""
        del payload
        return self.everything()

    async def ask_little(self) -> None:
        """Ask for the account's companies; the configured one must be among them."""
        answer = await self.client.get("nomenclature/companies")
        companies = answer.data.get("data") if isinstance(answer.data, dict) else None
        if not isinstance(companies, list):
            raise BadAnswerError("the ERP's answer has no list of companies")
        known = {_digits(one.get("cif")) for one in companies if isinstance(one, dict)}
        if _digits(self.cif) not in known:
            raise RefusedError("the company of the configured cif is none of this account")

    async def _products(self, more: dict[str, object]) -> AsyncGenerator[Parsed, None]:
        async def fetch(offset: int) -> Answer:
            params = {**self._asked, **more, "offset": offset}
            return await self.client.get(_PRODUCTS, params=params)

        pages = by_position(fetch, size=PAGE, items=lambda answer: answer.data.get("data"))
        async with aclosing(pages):
            async for page in pages:
                yield self.read({"data": page})


def verdict(answer: Answer) -> None:
    """Raise what an answer with a good status says in its body; the words are not repeated."""
    if not isinstance(answer.data, dict):
        raise BadAnswerError("the ERP's answer is not in its envelope", status=answer.status)
    told = str(answer.data.get("status", answer.status))
    if not _STATUS.fullmatch(told):
        raise BadAnswerError("the ERP's answer has a status that is none", status=answer.status)
    status = int(told)
    if 200 <= status < 300:
        return
    kinds: dict[int, type[ErpError]] = {401: UnauthorizedError, 429: RateLimitedError}
    kind = kinds.get(status, UnreachableError if status >= 500 else RefusedError)
    wait_s = BLOCKED_S if status == 429 else None
    raise kind(f"the ERP says {status} in its answer", status=status, retry_after_s=wait_s)


def _digits(value: object) -> str:
    """Return the digits of a tax number: with and without RO it is the same company."""
    return "".join(re.findall(r"[0-9]", str(value)))


@asynccontextmanager
async def open_oblio(
    connection: OblioConnection, dial: Dial, config: ErpConfig
) -> AsyncIterator[OblioSession]:
    """Open a session with Oblio."""
    # an ERP that blocks us does not say for how long
    retry = replace(dial.retry, limited_s=BLOCKED_S)
    async with dial.client(
        connection, retry=retry, rate=REQUESTS_PER_SECOND, verdict=verdict
    ) as client:
        secret = connection.secret.get_secret_value()
        grant = Grant(connection.email, secret, style="body")
        client.auth = ClientCredentials(client, "authorize/token", grant)
        yield OblioSession(client, connection, config)
