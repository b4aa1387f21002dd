"""Webhooks of SAP Business One (FP 2602 and later, v2 only): whether they are what they say.

A subscription's handshake is a GET with a token in a header, and both it and every event are signed
where the subscription's authentication is HMAC.
"""

import base64
import hmac
import re
from collections.abc import Mapping

SIGNATURE = "x-b1-webhook-signature"
_TOKEN_HEADER = "x-b1-webhook-token"  # noqa: S105 - the name of a header
_TOKEN = re.compile(r"[\x21-\x7e]{1,2048}")


def handshake_answer(headers: Mapping[str, str]) -> dict[str, str] | None:
    """Return the JSON that a handshake is answered with; None: this call is none.

    `headers` have their names in lower case. Under HMAC the token itself is what is signed.
    """
    token = headers.get(_TOKEN_HEADER, "")
    return {"Challenge": token} if _TOKEN.fullmatch(token) else None


def is_signed(body: bytes, signature: str | None, key: str) -> bool:
    """Tell whether a raw body has the HMAC-SHA256 of our key.

    Nobody says whether that is written in hex or in base64, so both are taken.
    """
    if not signature or not key:
        return False
    digest = hmac.new(key.encode(), body, "sha256").digest()
    told = signature.strip().encode("utf-8", "surrogatepass")
    in_hex = hmac.compare_digest(told.lower(), digest.hex().encode())
    return in_hex | hmac.compare_digest(told, base64.b64encode(digest))
