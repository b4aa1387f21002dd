"""What a platform needs where ERPs call it: the answer to a call, and the job that comes of it.

Pure functions, to be used by whatever listens. Take a call in like this: check that it is the ERP's
(`OBLIO`: the secret in your address; `SAP_B1`: `sap_b1_webhooks.is_signed`; `MICROSOFT_BC`: the job
checks that each notification repeats `client_state`, by a digest); answer with `answer` where it
has one; else add the `job`, and answer 202 at once, or 503 when there is too much: another 4xx
makes Business Central end the subscription.
"""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any
from uuid import UUID

from cerniq_stock.erp import microsoft_bc_webhooks, oblio_webhooks, sap_b1_webhooks
from cerniq_stock.erp.microsoft_bc_session import notifications, travelling
from cerniq_stock.erp.payload import decode, whole
from cerniq_stock.erp.rows import PayloadError, SystemName
from cerniq_stock.erp.saga import EVENT

_TEXT, _JSON = "text/plain", "application/json"


def answer(
    system: SystemName, query: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[str, str] | None:
    """Return content type and body that a call has to be answered with, beside 200; or None.

    `headers` have their names in lower case. Of MICROSOFT_BC and SAP_B1 such a call is a handshake
    and nothing else. OBLIO wants its answer every time; its calls tell of changes all the same.
    """
    match system:
        case SystemName.MICROSOFT_BC:
            token = microsoft_bc_webhooks.handshake_answer(query)
            return None if token is None else (_TEXT, token)
        case SystemName.SAP_B1:
            challenge = sap_b1_webhooks.handshake_answer(headers)
            return None if challenge is None else (_JSON, json.dumps(challenge))
        case SystemName.OBLIO:
            number = oblio_webhooks.handshake_answer(headers)
            return None if number is None else (_TEXT, number)
        case _:
            return None


def job(system: SystemName, tenant_id: UUID, body: bytes) -> tuple[str, dict[str, Any]]:
    """Return name and payload of the job that a call makes necessary. Raises PayloadError.

    Nothing is believed yet: the job asks the ERP wherever a notification only names what changed.
    Of OBLIO, where nobody documents or signs what is told, it reads everything, with all guards;
    calls that come together need no more than one job.
    """
    of = {"tenantId": str(tenant_id), "erpSystem": system.value}
    if system is SystemName.OBLIO:
        return "stock:sync:oblio", {**of, "syncType": "FULL"}
    if system is SystemName.CSV_IMPORT:
        raise PayloadError("Files have no webhooks")
    told = _json(body)
    if system is SystemName.MICROSOFT_BC:
        told = {"value": [travelling(one) for one in notifications(told)]}
    if system is SystemName.SAGA and not (isinstance(told, dict) and told.get("eveniment")):
        raise PayloadError(f"SAGA tells of no event; {EVENT} is one")
    return "stock:sync:erp", {**of, "syncType": "WEBHOOK", "webhookPayload": told}


def _json(body: bytes) -> Any:
    """Read a body as it travels in a job: JSON's own numbers, as its sender wrote them."""
    decode(body)
    return json.loads(body.decode("utf-8-sig"), parse_float=_number, parse_int=whole)


def _number(text: str) -> float | str:
    """One that no binary number can be stays text, and is found to be none where it is read."""
    number = float(text)
    return number if isfinite(number) else text
