"""Subscriptions of Business Central: they live three days, and shake hands at every renewal.

Whoever receives notifications answers 2xx at once, or 503 when there is too much: any other answer
of 4xx ends the subscription. The item ledger cannot be subscribed to, so movements of stock are not
told; notifications are about prices, states and names.
"""

import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cerniq_stock.erp.http import Answer
from cerniq_stock.erp.microsoft_bc_session import MicrosoftBcSession
from cerniq_stock.erp.odata import literal
from cerniq_stock.erp.times import moment
from cerniq_stock.erp.trouble import BadAnswerError, RefusedError
from cerniq_stock.errors import InvalidInputError

_TOKEN = re.compile(r"[\x21-\x7e]{1,2048}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,150}")
_CHANGED_MEANWHILE = frozenset({409, 412})


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as the server last told; `renew_at` is the middle of what it has left."""

    id: str
    url: str
    etag: str
    expires_at: datetime
    renew_at: datetime


def handshake_answer(query: Mapping[str, str]) -> str | None:
    """Return what a call with `validationToken` is answered with, as plain text and with 200.

    None: this call is no handshake.
    """
    token = query.get("validationToken", "")
    return token if _TOKEN.fullmatch(token) else None


async def subscribe(session: MicrosoftBcSession, url: str) -> Subscription:
    """Subscribe to the company's items. What is subscribed already is renewed.

    The handshake comes to `url` before this returns.
    """
    there = await _find(session, url)
    if there is not None:
        renewed = await renew(session, there)
        if renewed is not None:
            return renewed
    answer = await session.client.request(
        "POST", "subscriptions", json_body=await _wanted(session, url)
    )
    return _read(session, answer.data)


async def renew(session: MicrosoftBcSession, subscription: Subscription) -> Subscription | None:
    """Make it live another three days, after another handshake.

    None: it is gone. Subscribe anew then, and read everything.
    """
    for _ in range(2):
        answer = await _on(session, "PATCH", subscription.id, subscription.etag, subscription.url)
        if answer.status == 404:
            return None
        if answer.status not in _CHANGED_MEANWHILE:
            return _read(session, answer.data)
        current = await session.client.get(_path(subscription.id), accept={404})
        if current.status == 404:
            return None
        subscription = _read(session, current.data)
    raise RefusedError("the subscription is being changed by somebody else", status=answer.status)


async def unsubscribe(session: MicrosoftBcSession, subscription: Subscription) -> None:
    """End a subscription, whatever its state; one that is gone has ended."""
    await end(session, subscription.id)


async def end(session: MicrosoftBcSession, id_: str) -> None:
    """End a subscription by its id."""
    await _on(session, "DELETE", id_, "*")


async def _on(
    session: MicrosoftBcSession, method: str, id_: str, etag: str, url: str | None = None
) -> Answer:
    """Change or delete a subscription. Doing it twice is doing it once."""
    return await session.client.request(
        method,
        _path(id_),
        json_body=await _wanted(session, url) if url else None,
        headers={"If-Match": etag},
        idempotent=True,
        accept={404, *_CHANGED_MEANWHILE},
    )


async def _find(session: MicrosoftBcSession, url: str) -> Subscription | None:
    """Look for a subscription of ours: the answer to the first one may have been lost."""
    resource = (await _resource(session)).lower()
    async with aclosing(session.pages("subscriptions")) as pages:
        async for rows in pages:
            for row in (row for row in rows if isinstance(row, dict)):
                same = str(row.get("resource")).lower().endswith(resource.lstrip("/"))
                if same and row.get("notificationUrl") == url:
                    return _read(session, row)
    return None


async def _wanted(session: MicrosoftBcSession, url: str) -> dict[str, str]:
    secret = session.connection.client_state
    if secret is None:
        raise InvalidInputError("client_state", "notifications need a client_state to be known by")
    return {
        "notificationUrl": url,
        "resource": await _resource(session),
        "clientState": secret.get_secret_value(),
    }


async def _resource(session: MicrosoftBcSession) -> str:
    return f"/api/v2.0/companies({await session.company()})/items"


def _path(id_: str) -> str:
    return f"subscriptions({literal(id_)})"


def _read(session: MicrosoftBcSession, data: Any) -> Subscription:
    given = data if isinstance(data, dict) else {}
    names = ("subscriptionId", "notificationUrl", "@odata.etag")
    id_, url, etag = (str(given.get(name) or "") for name in names)
    expires_at = moment(given.get("expirationDateTime"), session.config.zone)
    if not _ID.fullmatch(id_) or not url or not etag or expires_at is None:
        raise BadAnswerError("Business Central told nothing useful about a subscription")
    now = datetime.fromtimestamp(session.client.clock.wall(), UTC)
    return Subscription(id_, url, etag, expires_at, now + (expires_at - now) / 2)
