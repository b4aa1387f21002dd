"""Access tokens by OAuth2 client credentials (RFC 6749, section 4.4)."""

import asyncio
import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote_plus

from cerniq_stock.erp.bodies import http_date
from cerniq_stock.erp.http import Answer, ErpClient
from cerniq_stock.erp.trouble import BadAnswerError, RefusedError, UnauthorizedError

_MARGIN_S = 60.0
_UNSAID_S = 600.0
_LONGEST_S = 86_400.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
_SECONDS = re.compile(r"[0-9]{1,12}")
# of what a server says only these words are repeated
_WORDS = frozenset(
    {"invalid_client", "invalid_grant", "invalid_scope", "invalid_request"}
    | {"unauthorized_client", "unsupported_grant_type"}
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What to ask a token for.

    `style` says how the client names itself: in a Basic header, or in the form. `extra` are more
    fields of the form, such as `resource` or `audience`.
    """

    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    style: Literal["basic", "body"] = "basic"
    extra: Mapping[str, str] | None = None

    def form(self) -> dict[str, str]:
        """Return the form's fields."""
        form = {"grant_type": "client_credentials", **(self.extra or {})}
        if self.scope:
            form["scope"] = self.scope
        if self.style == "body":
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        return form

    def basic(self) -> str:
        """Return the credentials of a Basic header; both parts are form-encoded first."""
        both = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        return base64.b64encode(both.encode()).decode()


class ClientCredentials:
    """Authorises a session by a token, which is renewed in time and when it is refused.

    `server` is the session with whoever gives the tokens: the ERP itself, or another origin. Give
    both sessions one redactor, as the token is known to the first and used by the second.
    """

    def __init__(self, server: ErpClient, url: str, grant: Grant) -> None:
        self._server = server
        self._url = url
        self._grant = grant
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._good_until = 0.0
        server.redactor.add(grant.client_secret, grant.basic())

    async def headers(self) -> Mapping[str, str]:
        """Return the Authorization header, with a token that lives long enough."""
        async with self._lock:
            if self._token is None or self._server.clock.monotonic() >= self._good_until:
                self._token = await self._fetch()
            return {"Authorization": f"Bearer {self._token}"}

    async def renew(self) -> None:
        """Forget the token."""
        async with self._lock:
            self._token = None

    async def _fetch(self) -> str:
        asked_at = self._server.clock.monotonic()
        grant = self._grant
        headers = {"Authorization": f"Basic {grant.basic()}"} if grant.style == "basic" else {}
        try:
            answer = await self._server.request(
                "POST",
                self._url,
                form=grant.form(),
                headers=headers,
                # a second token does no harm
                idempotent=True,
                authorize=False,
            )
        except (UnauthorizedError, RefusedError) as error:
            if error.status not in {400, 401, 403}:
                raise
            word = error.problem.get("error") if isinstance(error.problem, dict) else None
            told = f": {word}" if isinstance(word, str) and word in _WORDS else ""
            raise UnauthorizedError(
                f"the ERP gives no token for these credentials{told}", status=error.status
            ) from None
        data = answer.data if isinstance(answer.data, dict) else {}
        token, kind = data.get("access_token"), str(data.get("token_type") or "bearer")
        if not (isinstance(token, str) and _TOKEN.fullmatch(token) and kind.lower() == "bearer"):
            raise BadAnswerError("the ERP answered with no bearer token")
        self._server.redactor.add(token)
        left_s = lifetime(answer)
        self._good_until = asked_at + left_s - min(_MARGIN_S, left_s / 2)
        return token


def lifetime(answer: Answer) -> float:
    """Return how long a token is good, by the clock of the server that gave it.

    Oblio says when the token was made: an older one is handed out again, and counts from then.
    """
    expires_in = _seconds(answer.data.get("expires_in"))
    if expires_in is None:
        return _UNSAID_S
    made, now = _seconds(answer.data.get("request_time")), http_date(answer.headers.get("date", ""))
    age = now - made if made is not None and now is not None else 0.0
    return min(max(expires_in - max(age, 0.0), 0.0), _LONGEST_S)


def _seconds(value: Any) -> float | None:
    """Read seconds from a number or a text."""
    text = str(value)
    return float(text) if _SECONDS.fullmatch(text) else None
