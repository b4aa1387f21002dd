"""Webhooks of Oblio: who registers one answers each call with its id, at once and every time.

They are not signed, and what they tell is not documented: a call means that stock has changed, and
no more. What a call is known by is a secret in the address, which Oblio repeats to whoever may list
the webhooks. (oblio.eu/api)
"""

import base64
import re
from collections.abc import Mapping
from typing import Any

from cerniq_stock.erp.http import Answer
from cerniq_stock.erp.oblio_session import OblioSession
from cerniq_stock.erp.trouble import BadAnswerError, ErpError

TOPIC = "stock"
_HEADER = "x-oblio-request-id"
_REQUEST = re.compile(r"[\x21-\x7e]{1,500}")
_GONE = frozenset({204, 404})
_ID = re.compile(r"[A-Za-z0-9_-]{1,150}")


def handshake_answer(headers: Mapping[str, str]) -> str | None:
    """Return what a call is answered with, with 200; None: it does not come from Oblio.

    `headers` have their names in lower case. The call that registers a webhook is like any other.
    """
    number = headers.get(_HEADER, "")
    return base64.b64encode(number.encode()).decode() if _REQUEST.fullmatch(number) else None


async def subscribe(session: OblioSession, url: str) -> str:
    """Let changes of the company's stock be told to `url`; returns the webhook's id.

    What is there already is left as it is. Otherwise `url` is called before this returns.
    """
    session.client.redactor.add(url)
    listed = await session.client.get("webhooks", params={"cif": session.cif, "topic": TOPIC})
    for hook in _hooks(listed):
        if hook.get("endpoint") == url and hook.get("topic") == TOPIC:
            return _id(hook)
    wanted = {"cif": session.cif, "topic": TOPIC, "endpoint": url}
    made = await session.client.request("POST", "webhooks", json_body=wanted)
    data = made.data.get("data")
    if isinstance(data, dict) and "id" in data:
        return _id(data)
    # what the answer holds is not documented
    listed = await session.client.get("webhooks", params={"cif": session.cif, "topic": TOPIC})
    return next((_id(hook) for hook in _hooks(listed) if hook.get("endpoint") == url), _id({}))


async def end(session: OblioSession, id_: str) -> None:
    """End a webhook; one that is gone has ended."""
    try:
        await session.client.request("DELETE", f"webhooks/{id_}", idempotent=True, accept=_GONE)
    except ErpError as error:
        # it may be in the envelope or not be there at all
        if error.status not in _GONE:
            raise


def _hooks(answer: Answer) -> list[dict[str, Any]]:
    found = answer.data.get("data")
    if not isinstance(found, list):
        raise BadAnswerError("the ERP's answer has no list of webhooks")
    return [hook for hook in found if isinstance(hook, dict)]


def _id(hook: Mapping[str, Any]) -> str:
    id_ = str(hook.get("id", ""))
    if not _ID.fullmatch(id_):
        raise BadAnswerError("the ERP told nothing useful about a webhook")
    return id_
