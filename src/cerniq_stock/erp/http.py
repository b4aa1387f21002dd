"""The HTTP base of every ERP session: one origin, bounded in time, bytes and tries.

What an ERP answers is hostile until it was read: no redirects, no cookies unless asked for, bodies
cut at a cap after decompression, JSON without floats and without NaN. What it said never gets into
a message or a log, and neither does a secret of the session.
"""

import asyncio
import json
import logging
import re
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import IO, Any, Protocol, Self
from urllib.parse import quote, urlencode, urljoin

import httpcore2
import httpx2
import structlog

from cerniq_stock.erp.bodies import MEGABYTE, is_page, pieces, read_json, retry_after
from cerniq_stock.erp.guard import GuardedTransport, Policy, Resolver, parse_url, system_resolver
from cerniq_stock.erp.redactor import Redactor
from cerniq_stock.erp.trouble import (
    BadAnswerError,
    CertificateError,
    ErpError,
    ForbiddenAddressError,
    OffOriginError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from cerniq_stock.errors import InvalidInputError

# the standard library's: a program that has configured nothing hears no more than warnings
log = structlog.wrap_logger(logging.getLogger("cerniq_stock.erp"))
# they log URLs with their queries, and at DEBUG all headers
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_IDEMPOTENT = frozenset({"GET", "HEAD"})
_ERROR_BODY = 16 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one attempt; `read_s` between two pieces, `total_s` for all of it."""

    connect_s: float = 10.0
    read_s: float = 60.0
    total_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently an idempotent request is repeated.

    An ERP that asks for more than `most_s` is not waited for: the caller comes back later. So long
    as `limited_s` an ERP wants to be left alone that says 429 and nothing else.
    """

    attempts: int = 4
    first_s: float = 0.5
    most_s: float = 60.0
    limited_s: float | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, to be replaced in tests."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = secrets.SystemRandom().random


class Auth(Protocol):
    """What makes a session's requests authorised.

    Requests of its own it makes with `authorize=False`. It is never called twice at once.
    """

    async def headers(self) -> Mapping[str, str]:
        """Return the headers to send, logging in only where that has not been done."""

    async def renew(self) -> None:
        """Forget what the ERP no longer takes; `headers` is called next."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer; `data` is its JSON, None where it had no body."""

    status: int
    headers: httpx2.Headers
    url: str
    data: Any = None
    size: int = 0


@dataclass(slots=True)
class _Call:
    """One request and what may come of it."""

    method: str
    url: str
    idempotent: bool
    authorize: bool
    accept: frozenset[int]
    limit: int
    total_s: float
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    sink: IO[bytes] | None = None
    may_be_empty: bool = False


class ErpClient:
    """A session with one ERP. Everything goes to the origin of `base_url`.

    Paths are relative to `base_url`, which is a folder: `Items` is `<base_url>/Items`, while
    `/Items` is at the root of the host. `verdict` raises the ErpError that an answer is in truth,
    where an ERP says 200 to everything.
    """

    def __init__(
        self,
        base_url: str,
        policy: Policy,
        *,
        auth: Auth | None = None,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
        rate: float | None = None,
        max_bytes: int = 64 * MEGABYTE,
        cookies: bool = False,
        resolver: Resolver = system_resolver,
        redactor: Redactor | None = None,
        clock: Clock | None = None,
        verdict: Callable[[Answer], None] | None = None,
    ) -> None:
        self._base = parse_url(base_url)
        self.base_url = self._base.url.partition("?")[0].rstrip("/") + "/"
        self.auth = auth
        self.redactor = redactor or Redactor()
        self._headers = dict(headers or {})
        self._timeouts = timeouts or Timeouts()
        self._retry = retry or Retry()
        self._space_s = 1 / rate if rate else 0.0
        self._free_at = 0.0
        self._max_bytes = max_bytes
        self.clock = clock or Clock()
        self._verdict = verdict
        self._generation = 0
        self._login = asyncio.Lock()
        self._login_task: asyncio.Task[Any] | None = None
        self._rejected: UnauthorizedError | None = None
        times = self._timeouts
        self._http = httpx2.AsyncClient(
            transport=GuardedTransport(policy, tls or _usual_tls(), resolver=resolver),
            cookies=None if cookies else CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx2.Timeout(times.read_s, connect=times.connect_s, pool=times.total_s),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def resolve(self, link: str, against: str | None = None) -> str:
        """Return a link as a URL of the session's origin; anything else is OFF_ORIGIN.

        A relative one is taken from `against`, the request's URL, or from the base.
        """
        if re.search(r"[\x00-\x1f\x7f\\]", link):
            raise OffOriginError("a link of the ERP is no URL")
        try:
            link = link.strip()
            # urljoin mends what is broken, and a broken authority must not be mended
            whole = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", link)
            target = parse_url(link if whole else urljoin(against or self.base_url, link))
        except (ForbiddenAddressError, ValueError):
            raise OffOriginError("a link of the ERP is no URL of its server") from None
        if target.origin != self._base.origin:
            raise OffOriginError("a link of the ERP leads away from the configured server")
        return target.url

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        json_body: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        authorize: bool = True,
        accept: Iterable[int] = (),
        max_bytes: int | None = None,
        may_be_empty: bool = False,
    ) -> Answer:
        """Ask for JSON. `accept` names statuses besides 2xx that are answers, with JSON or not.

        `may_be_empty`: a status of success without a body says enough, not 204 only.
        """
        call = self._call(method, path, params, headers, idempotent, authorize, accept, max_bytes)
        call.may_be_empty = may_be_empty
        if json_body is not None:
            call.content = json.dumps(json_body, ensure_ascii=False, allow_nan=False).encode()
            call.headers = {"Content-Type": "application/json", **call.headers}
        elif form is not None:
            call.content = urlencode(form).encode()
            call.headers = {"Content-Type": "application/x-www-form-urlencoded", **call.headers}
        return await self._perform(call)

    async def get(self, path: str, **options: Any) -> Answer:
        """Shorthand of `request("GET", …)`."""
        return await self.request("GET", path, **options)

    async def download(
        self,
        path: str,
        to: IO[bytes],
        *,
        params: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
        total_s: float | None = None,
    ) -> Answer:
        """Write a body of any kind but HTML to a file, which is then at its beginning."""
        call = self._call("GET", path, params, headers, True, True, (), max_bytes)
        call.total_s = total_s or call.total_s
        call.sink = to
        return await self._perform(call)

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, object] | None,
        headers: Mapping[str, str] | None,
        idempotent: bool | None,
        authorize: bool,
        accept: Iterable[int],
        max_bytes: int | None,
    ) -> _Call:
        url = self.resolve(path)
        if params:
            # OData writes `$` and `,` as they are, and some servers insist
            query = urlencode({k: str(v) for k, v in params.items()}, quote_via=quote, safe="$,:()")
            url = f"{url}{'&' if '?' in url else '?'}{query}"
        return _Call(
            method=method,
            url=url,
            idempotent=method in _IDEMPOTENT if idempotent is None else idempotent,
            authorize=authorize and self.auth is not None,
            accept=frozenset(accept),
            limit=self._max_bytes if max_bytes is None else max_bytes,
            total_s=self._timeouts.total_s,
            headers=headers or {},
        )

    async def _perform(self, call: _Call) -> Answer:
        """Try until there is an answer, patience ends, or credentials fail a second time."""
        tried, renewed = 0, False
        while True:
            generation = self._generation
            authorization = await self._authorization() if call.authorize else {}
            try:
                return await self._attempt(call, authorization)
            except UnauthorizedError:
                if renewed or not call.authorize:
                    raise
                renewed = True
                await self._renew(generation)
            except ErpError as error:
                tried += 1
                wait_s = self._patience(tried, error)
                if not (call.idempotent and error.retryable) or wait_s is None:
                    raise
                log.info(
                    "erp again",
                    url=self.shown(call.url),
                    code=error.code,
                    status=error.status,
                    wait_s=round(wait_s, 2),
                )
                await self.clock.sleep(wait_s)

    def _patience(self, tried: int, error: ErpError) -> float | None:
        """Return how long to wait before the next attempt; None: no more of them."""
        retry = self._retry
        if tried >= retry.attempts:
            return None
        if error.retry_after_s is not None:
            return error.retry_after_s if error.retry_after_s <= retry.most_s else None
        grown = min(retry.first_s * 2 ** (tried - 1), retry.most_s)
        return float(grown * (0.5 + self.clock.chance() / 2))

    async def _authorization(self) -> Mapping[str, str]:
        """Log in once at a time; what was refused is not tried again: users get locked out."""
        assert self.auth is not None
        assert self._login_task is not asyncio.current_task(), "authorize=False is missing"
        async with self._login:
            if self._rejected:
                raise UnauthorizedError(str(self._rejected), status=self._rejected.status)
            self._login_task = asyncio.current_task()
            try:
                return await self.auth.headers()
            except UnauthorizedError as error:
                self._rejected = error
                raise
            finally:
                self._login_task = None

    async def _renew(self, generation: int) -> None:
        """Renew once for all requests that were refused under the same credentials."""
        assert self.auth is not None
        async with self._login:
            if self._generation == generation:
                self._generation += 1
                await self.auth.renew()

    async def _pace(self) -> None:
        """Wait for this session's turn; turns lie evenly apart."""
        now = self.clock.monotonic()
        turn = max(now, self._free_at)
        self._free_at = turn + self._space_s
        if turn > now:
            await self.clock.sleep(turn - now)

    async def _attempt(self, call: _Call, authorization: Mapping[str, str]) -> Answer:
        await self._pace()
        request = self._build(call, authorization)
        began = self.clock.monotonic()
        try:
            async with asyncio.timeout(call.total_s):
                response = await self._http.send(request, stream=True)
                try:
                    answer = await self._take(call, response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpcore2.TimeoutException):
            raise TimedOutError("the ERP did not answer in time") from None
        except httpcore2.LocalProtocolError:
            raise RefusedError("the request cannot be sent as it is configured") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            if _is_distrust(error):
                raise CertificateError(
                    "the ERP's certificate is not trusted: expired, for another name, or by an"
                    " authority that is not known here"
                ) from None
            raise UnreachableError("the ERP cannot be reached, or broke off") from None
        except httpx2.HTTPError:
            raise BadAnswerError("the ERP's answer makes no sense as HTTP") from None
        log.debug(
            "erp request",
            method=call.method,
            url=self.shown(call.url),
            status=answer.status,
            bytes=answer.size,
            seconds=round(self.clock.monotonic() - began, 3),
        )
        return answer

    def shown(self, url: str) -> str:
        """Return a URL as it may be logged: its parameters without their values."""
        bare, _, query = url.partition("?")
        names = "&".join(part.partition("=")[0] for part in query.split("&") if part)
        return self.redactor.clean(f"{bare}?{names}" if names else bare)

    def _build(self, call: _Call, authorization: Mapping[str, str]) -> httpx2.Request:
        headers = {
            "Accept": "*/*" if call.sink else "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "cerniq-stock",
            **self._headers,
            **call.headers,
            **authorization,
        }
        try:
            return self._http.build_request(
                call.method, call.url, headers=headers, content=call.content
            )
        except (ValueError, httpx2.InvalidURL):
            raise RefusedError("the request cannot be sent as it is configured") from None

    async def _take(self, call: _Call, response: httpx2.Response) -> Answer:
        status = response.status_code
        if not 200 <= status < 300 and status not in call.accept:
            raise await self._refusal(response)
        if call.sink:
            call.sink.seek(0)
            call.sink.truncate()
        kept, size = bytearray(), 0
        async with aclosing(pieces(response, call.limit)) as body:
            async for piece in body:
                if call.sink and not size and is_page(piece):
                    raise BadAnswerError("the ERP answered with a page instead of data")
                size += len(piece)
                if call.sink:
                    call.sink.write(piece)
                else:
                    kept += piece
        if call.sink:
            call.sink.seek(0)
        data = None if call.sink else _data(call, status, kept)
        answer = Answer(status, response.headers, call.url, data, size)
        if self._verdict:
            self._verdict(answer)
        return answer

    async def _refusal(self, response: httpx2.Response) -> ErpError:
        """Return the error that an unsuccessful answer stands for."""
        status = response.status_code
        try:
            async with aclosing(pieces(response, _ERROR_BODY)) as body:
                problem = read_json(b"".join([piece async for piece in body]), status)
        except (ErpError, httpcore2.NetworkError, httpcore2.ProtocolError):
            problem = None
        wait_s = retry_after(response.headers, self.clock.wall())
        if status == 429 and wait_s is None:
            wait_s = self._retry.limited_s
        kind, sentence = next(
            (kind, sentence) for statuses, kind, sentence in _REFUSALS if status in statuses
        )
        return kind(
            f"the ERP {sentence} ({status})", status=status, retry_after_s=wait_s, problem=problem
        )


_REFUSALS: tuple[tuple[Iterable[int], type[ErpError], str], ...] = (
    ({401}, UnauthorizedError, "does not take these credentials"),
    ({429}, RateLimitedError, "asks for fewer requests"),
    ({408}, TimedOutError, "did not finish in time"),
    (range(300, 400), RefusedError, "answered with a redirect, which is not followed"),
    (range(500, 600), UnreachableError, "is in trouble"),
    (range(1000), RefusedError, "refused the request"),
)


def _data(call: _Call, status: int, body: bytearray) -> Any:
    """Read a body's JSON; None where there is none and need be none."""
    bare = status in {204, 205, 304} or call.method == "HEAD"
    if bare or (call.may_be_empty and not body.strip()):
        return None
    try:
        return read_json(body, status)
    except BadAnswerError:
        # an accepted 404 may well be a page
        if status not in call.accept:
            raise
        return None


@cache
def _usual_tls() -> ssl.SSLContext:
    """Read the system's authorities once; it takes as long as many requests."""
    return tls_context()


def _is_distrust(error: BaseException) -> bool:
    """Tell whether somewhere below an error a certificate was not trusted."""
    below = error.__cause__ or error.__context__
    return isinstance(error, ssl.SSLCertVerificationError) or bool(below and _is_distrust(below))


def tls_context(ca_file: Path | None = None, ca_pem: str | None = None) -> ssl.SSLContext:
    """Trust the system's authorities, and those of a file or of a text in PEM besides."""
    context = httpcore2.default_ssl_context()
    try:
        if ca_file or ca_pem:
            context.load_verify_locations(cafile=ca_file, cadata=ca_pem)
    except (OSError, ValueError):
        raise InvalidInputError("ca", "the authority's certificate is not readable PEM") from None
    return context
