"""What the sessions of all systems share: settings with secrets in them, and manners."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from ssl import SSLContext
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from cerniq_stock.erp.bodies import MEGABYTE, http_date
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.guard import Policy, Resolver, parse_url, system_resolver
from cerniq_stock.erp.http import Answer, Clock, ErpClient, Retry, Timeouts, tls_context
from cerniq_stock.erp.redactor import Redactor
from cerniq_stock.erp.rows import AnnouncementError, Parsed, PayloadError, Remark
from cerniq_stock.erp.source import Health, Sale, Watermark
from cerniq_stock.erp.text import sku_key, trimmed
from cerniq_stock.erp.trouble import ForbiddenAddressError, RefusedError
from cerniq_stock.errors import InvalidInputError

CA_FILE = "CERNIQ_ERP_CA_FILE"
_MOST_AHEAD_S = 86_400.0


def _url(text: str) -> str:
    try:
        target = parse_url(text)
    except ForbiddenAddressError as error:
        raise ValueError(str(error)) from None
    if "?" in target.rest:
        raise ValueError("the URL must not have a query")
    return target.url


Url = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_url)]
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Seconds = Annotated[float, Field(gt=0, le=600)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=8192)]


class Settings(BaseModel):
    """Settings by their names here, or as the specification writes them (`apiKey`)."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )


def fault_of(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Return the key at fault, and a sentence about it that repeats nothing of what stood there.

    An unknown key comes first: most often it is the name of another one that is missing, misspelt.
    """
    faults = error.errors(include_input=False, include_context=False, include_url=False)
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    key = ".".join(map(str, fault["loc"])) or "connection"
    if fault["type"] != "extra_forbidden":
        return key, f"{key}: {fault['msg'].removeprefix('Value error, ')}"
    names = ", ".join(_names(model, fault["loc"][:-1]))
    return key, f"unknown key {key}" + (f"; there may be {names}" if names else "")


def _names(model: type[BaseModel], path: tuple[int | str, ...]) -> Iterable[str]:
    """Return which keys there may be at a place within a model's settings."""
    if not path:
        return model.model_fields
    for name, entry in model.model_fields.items():
        if path[0] in {name, entry.alias}:
            for inner in (entry.annotation, *get_args(entry.annotation)):
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    return _names(inner, path[1:])
    return ()


class Connection(Settings):
    """How one integration is reached; secrets are in fields of type Secret and nowhere else."""

    base_url: Url
    ca_pem: str | None = Field(default=None, max_length=100_000)
    """An authority besides the system's, for a server with a certificate of its own."""
    timeout_s: Seconds = 60.0
    """For one answer. `timeout`, in milliseconds, is the specification's name."""

    @model_validator(mode="before")
    @classmethod
    def _milliseconds(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("timeout"), int | float):
            return given
        rest = {name: value for name, value in given.items() if name != "timeout"}
        return {"timeout_s": given["timeout"] / 1000, **rest}

    def secrets(self) -> list[str]:
        """Return every secret, to keep it out of logs."""
        return list(_secrets(self))


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        yield from _secrets({name: getattr(value, name) for name in type(value).model_fields})
    elif isinstance(value, dict):
        for part in value.values():
            yield from _secrets(part)


@dataclass(frozen=True, slots=True)
class Dial:
    """How this installation connects; one for each session, as its redactor knows the secrets.

    `ca_file` has the operator's authorities, besides the system's.
    """

    policy: Policy
    ca_file: Path | None = None
    resolver: Resolver = system_resolver
    clock: Clock = field(default_factory=Clock)
    retry: Retry = field(default_factory=Retry)
    max_bytes: int = 64 * MEGABYTE
    redactor: Redactor = field(default_factory=Redactor)

    def client(self, connection: Connection, url: str | None = None, **options: Any) -> ErpClient:
        """Return a session with the server of a connection, or with another one of it."""
        given: dict[str, Any] = {
            "tls": self._trusted(connection.ca_pem),
            "timeouts": Timeouts(total_s=connection.timeout_s),
            "retry": self.retry,
            "max_bytes": self.max_bytes,
            "resolver": self.resolver,
            "redactor": self.redactor,
            "clock": self.clock,
        }
        return ErpClient(url or connection.base_url, self.policy, **{**given, **options})

    def _trusted(self, ca_pem: str | None) -> SSLContext | None:
        """Whom a session trusts; None: the system's authorities."""
        of_all = None if self.ca_file is None else _of_operator(self.ca_file)
        return tls_context(self.ca_file, ca_pem) if ca_pem else of_all


def _of_operator(ca_file: Path) -> SSLContext:
    """Trust the operator's file, too. Raises InvalidInputError naming the setting."""
    try:
        return _read_once(ca_file, ca_file.stat().st_mtime_ns)
    except (OSError, InvalidInputError):
        what = f"{CA_FILE}: {ca_file} cannot be read as certificates in PEM"
    raise InvalidInputError(CA_FILE, what)


@lru_cache(maxsize=2)
def _read_once(ca_file: Path, _changed_ns: int) -> SSLContext:
    """Read it again when it has changed only: it takes as long as many requests."""
    return tls_context(ca_file)


class Session:
    """What a Source is where a system adds nothing. Subclasses read and ask; this refuses.

    `system` is its name in sentences, `parse` the system's own.
    """

    system = "The ERP"

    def __init__(
        self, client: ErpClient, config: ErpConfig, parse: Callable[[Any, ErpConfig], Parsed]
    ) -> None:
        self.client = client
        self.config = config
        self._parse = parse
        self._watermark: Watermark | None = None

    @property
    def watermark(self) -> Watermark | None:
        """From where `changed` may go on the next time."""
        return self._watermark

    def everything(self) -> AsyncIterator[Parsed]:
        """Read the whole catalogue."""
        raise NotImplementedError

    def changed(self, since: Watermark) -> AsyncIterator[Parsed]:
        """Refuse: the system does not tell."""
        del since
        raise RefusedError(f"{self.system} does not tell what changed: everything has to be read")

    def of_skus(self, skus: Sequence[str]) -> AsyncIterator[Parsed]:
        """Read everything, for these products."""
        return self.picked(skus)

    def announced(self, payload: Any) -> AsyncIterator[Parsed]:
        """Read the rows that a webhook brings."""
        return self.brought(payload)

    async def check(self) -> Health:
        """Log in and ask for as little as possible."""
        began = self.client.clock.monotonic()
        await self.ask_little()
        return Health(self.client.clock.monotonic() - began)

    async def ask_little(self) -> None:
        """Ask the cheapest question there is."""
        raise NotImplementedError

    async def push(self, sales: Sequence[Sale]) -> str | None:
        """Refuse: the system takes nothing."""
        del sales
        raise RefusedError(f"{self.system} takes no sales, or is not configured for it")

    # -- for subclasses ---------------------------------------------------------------------

    def read(self, payload: Any, config: ErpConfig | None = None) -> Parsed:
        """Parse a payload; what a system says, of its failure or in a row, may repeat a secret."""
        try:
            parsed = self._parse(payload, config or self.config)
        except PayloadError as error:
            told = self.client.redactor.clean(str(error))
        else:
            return replace(
                parsed,
                errors=self._cleaned(parsed.errors),
                warnings=self._cleaned(parsed.warnings),
                skipped=self._cleaned(parsed.skipped),
            )
        # raised out here: the sentence before would hang on the error
        raise PayloadError(told)

    def _cleaned(self, remarks: tuple[Remark, ...]) -> tuple[Remark, ...]:
        clean = self.client.redactor.clean
        return tuple(
            one if one.raw is None else replace(one, raw=clean(one.raw)) for one in remarks
        )

    async def picked(self, skus: Sequence[str]) -> AsyncGenerator[Parsed, None]:
        """Read everything and keep these products."""
        wanted, before = keys_of(skus), self._watermark
        try:
            async with aclosing(_closable(self.everything())) as pages:
                async for page in pages:
                    yield only(page, wanted)
        finally:
            # who read some products may not go on from here
            self._watermark = before

    async def brought(self, payload: Any) -> AsyncGenerator[Parsed, None]:
        """Yield a webhook's own rows, but ask for goods with lots.

        It may tell of one lot only, and the others would be missing from the sum.
        """
        parsed = self._read_announcement(payload)
        partial = [row.sku for row in parsed.rows if row.lot]
        partial += [error.sku for error in parsed.errors if error.lot and error.sku]
        skus = list(dict.fromkeys(partial))
        wanted = keys_of(skus)
        yield _filtered(parsed, lambda sku: sku is None or sku_key(sku) not in wanted)
        if skus:
            async with aclosing(_closable(self.of_skus(skus))) as pages:
                async for page in pages:
                    yield page

    def _read_announcement(self, payload: Any) -> Parsed:
        try:
            return self.read(payload)
        except PayloadError as error:
            raise AnnouncementError(str(error)) from None

    def server_time(self, answer: Answer, began: float) -> float:
        """Return the ERP's time, in seconds, at the moment `began` of our monotonic clock.

        Its Date may be from the beginning of the answer's way or from its end: taken for the end,
        the result is never too late. Where it tells none, our clock has to do; so it does where
        that would be too late for certain: who goes on from a day to come misses all until then.
        """
        clock = self.client.clock
        ours, told = clock.wall(), http_date(answer.headers.get("date", ""))
        if told is None or not 0 <= told <= ours + _MOST_AHEAD_S:
            told = ours
        return told - (clock.monotonic() - began)


def keys_of(skus: Sequence[str]) -> frozenset[str]:
    """Return SKUs as they are compared."""
    return frozenset(sku_key(trimmed(sku)) for sku in skus)


def only(parsed: Parsed, wanted: Collection[str]) -> Parsed:
    """Keep what is about some products, by `keys_of`."""
    return _filtered(parsed, lambda sku: sku is not None and sku_key(sku) in wanted)


def _filtered(parsed: Parsed, keep: Callable[[str | None], bool]) -> Parsed:
    def remarks(given: tuple[Remark, ...]) -> tuple[Remark, ...]:
        return tuple(remark for remark in given if keep(remark.sku))

    rows = tuple(row for row in parsed.rows if keep(row.sku))
    return Parsed(rows, remarks(parsed.errors), remarks(parsed.warnings), remarks(parsed.skipped))


async def _closable(pages: AsyncIterator[Parsed]) -> AsyncGenerator[Parsed, None]:
    """Pass pages on; whoever stops early closes what they come from."""
    try:
        async for page in pages:
            yield page
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()
