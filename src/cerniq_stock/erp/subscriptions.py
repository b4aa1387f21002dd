"""Systems that can be told where to tell of changes: asked for, renewed, ended by one's word.

Of the others somebody at the ERP enters the address: SAP Business One names its events in the
company's own catalogue, the interface of SAGA has no call for it, those of one's own may have any.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cerniq_stock.erp import microsoft_bc_webhooks, oblio_webhooks
from cerniq_stock.erp.microsoft_bc_session import MicrosoftBcSession
from cerniq_stock.erp.oblio_session import OblioSession
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.source import Source
from cerniq_stock.erp.trouble import RefusedError
from cerniq_stock.errors import InvalidInputError

SUBSCRIBED_TO = (SystemName.MICROSOFT_BC, SystemName.OBLIO)
"""The systems for which there is something to do here."""
_BAD_REQUEST = 400
LOOKED_AFTER = timedelta(days=1)
"""A webhook that does not end by itself is looked for so often: anybody may take it out there."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A subscription that is there now. `expires_at` None: it does not end by itself."""

    id: str
    renew_at: datetime
    expires_at: datetime | None


def check_system(system: SystemName) -> None:
    """Refuse a system that is told elsewhere where its webhooks go. Raises InvalidInputError."""
    if system not in SUBSCRIBED_TO:
        raise InvalidInputError(
            "system", f"{system} is subscribed to at the ERP itself; see docs/erp.md, Webhooks"
        )


async def keep(source: Source, url: str) -> Kept:
    """See to it that changes are told to `url`: renewed if it is so already, else made.

    The handshake comes to `url` before this returns. Raises ErpError, InvalidInputError.
    """
    try:
        return await _kept(source, url)
    except RefusedError as error:
        if error.status != _BAD_REQUEST:
            raise
    raise RefusedError(
        "the ERP refuses the subscription; most likely the address does not answer its handshake",
        status=_BAD_REQUEST,
    )


async def _kept(source: Source, url: str) -> Kept:
    match source:
        case MicrosoftBcSession():
            told = await microsoft_bc_webhooks.subscribe(source, url)
            # by a clock that is wrong it has ended before
            return Kept(told.id, min(told.renew_at, told.expires_at), told.expires_at)
        case OblioSession():
            now = datetime.fromtimestamp(source.client.clock.wall(), UTC)
            return Kept(await oblio_webhooks.subscribe(source, url), now + LOOKED_AFTER, None)
    raise AssertionError(source)


async def end(source: Source, id_: str) -> None:
    """End a subscription; one that is gone has ended. Raises ErpError."""
    match source:
        case MicrosoftBcSession():
            await microsoft_bc_webhooks.end(source, id_)
        case OblioSession():
            await oblio_webhooks.end(source, id_)
        case _:
            raise AssertionError(source)
