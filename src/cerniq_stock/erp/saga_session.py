"""A session with the bridge to SAGA that the platform's specification describes (§5.2).

The vendor documents no REST interface: the path, the header of the key and (by `items_path` of the
configuration) the envelope are settings, with the specification's values unless set.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from cerniq_stock.erp import saga
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.http import Answer, ErpClient
from cerniq_stock.erp.rows import Parsed, PayloadError
from cerniq_stock.erp.session import Connection, Dial, Seconds, Secret, Session, Word, keys_of, only
from cerniq_stock.erp.source import Watermark
from cerniq_stock.erp.times import day
from cerniq_stock.errors import InvalidInputError

CODES_AT_ONCE = 50
_EVERY = "*"


class SagaConnection(Connection):
    """A SAGA bridge, one company of it, and one warehouse or all."""

    api_key: Secret
    company_code: Word
    warehouse_code: Word | None = None
    timeout_s: Seconds = 30.0
    base_path: str = "api/v1"
    auth_header: Word = "Authorization"
    auth_scheme: str = "Bearer"
    """What stands before the key; may be empty."""


class SagaSession(Session):
    """SAGA knows everything, what changed since a day, and single articles."""

    system = "SAGA"

    def __init__(self, client: ErpClient, connection: SagaConnection, config: ErpConfig) -> None:
        warehouse = connection.warehouse_code
        if warehouse and config.warehouses is None:
            # a webhook may tell of the others, too
            config = config.model_copy(update={"warehouses": (warehouse,)})
        super().__init__(client, config, saga.parse)
        self._base = connection.base_path.strip("/")
        self._whose = {
            "firma": connection.company_code,
            "gestiune": connection.warehouse_code or _EVERY,
        }

    def everything(self) -> AsyncIterator[Parsed]:
        """Read `stocuri/toate`, which comes in one piece."""
        return self._stocks("toate", {})

    def changed(self, since: Watermark) -> AsyncIterator[Parsed]:
        """Read `stocuri/modificate` since a day."""
        first = day(since.get("since"))
        if first is None:
            raise InvalidInputError("since", "this is no watermark of SAGA")
        return self._stocks("modificate", {"dataModificareMin": first.isoformat()})

    async def of_skus(self, skus: Sequence[str]) -> AsyncGenerator[Parsed, None]:
        """Ask `stocuri/articole`, which takes fifty codes at once."""
        for at in range(0, len(skus), CODES_AT_ONCE):
            codes = list(skus[at : at + CODES_AT_ONCE])
            # it only reads, whatever the method's name
            answer = await self.client.request(
                "POST",
                self._path("stocuri/articole"),
                json_body={**self._whose, "coduri": codes},
                idempotent=True,
            )
            yield only(self._asked_for(answer), keys_of(codes))

    async def ask_little(self) -> None:
        """Ask for the bridge's state; anything in JSON will do."""
        await self.client.get(self._path("status"))

    async def _stocks(self, which: str, more: dict[str, str]) -> AsyncGenerator[Parsed, None]:
        began = self.client.clock.monotonic()
        path = self._path(f"stocuri/{which}")
        answer = await self.client.get(path, params={**self._whose, **more})
        parsed = self._asked_for(answer)
        # it compares days, and a change of today may have come after this answer
        now = datetime.fromtimestamp(self.server_time(answer, began), UTC)
        today = now.astimezone(self.config.zone).date()
        self._watermark = {"since": (today - timedelta(days=1)).isoformat()}
        yield parsed

    def _asked_for(self, answer: Answer) -> Parsed:
        """Read an answer. One that tells of another event would pass for an empty one."""
        if saga.is_webhook(answer.data):
            raise PayloadError("This is no answer of SAGA: it tells of an event")
        return self.read(answer.data)

    def _path(self, path: str) -> str:
        return f"{self._base}/{path}" if self._base else path


@asynccontextmanager
async def open_saga(
    connection: SagaConnection, dial: Dial, config: ErpConfig
) -> AsyncIterator[SagaSession]:
    """Open a session with SAGA."""
    key = f"{connection.auth_scheme} {connection.api_key.get_secret_value()}".strip()
    headers = {connection.auth_header: key}
    async with dial.client(connection, headers=headers) as client:
        yield SagaSession(client, connection, config)
