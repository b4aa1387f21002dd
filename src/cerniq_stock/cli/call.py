"""One call of the command line: the options that every command takes, and what it works on.

A command is a function whose first parameter is the `Call`, and which returns what to show. The
decorator `command` gives it the common options, runs it and shows the answer; what goes wrong is
told in one place, `app.Root`.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import typer

from cerniq_stock import validate
from cerniq_stock.cli import output
from cerniq_stock.cli.problems import RefusedError, UsageProblemError
from cerniq_stock.domain.outcomes import Refusal, Refused
from cerniq_stock.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from cerniq_stock.integrations import Integrations
    from cerniq_stock.jobs.port import JobQueue
    from cerniq_stock.service import Stock
    from cerniq_stock.settings import Settings
    from cerniq_stock.sync.syncs import Syncs
    from cerniq_stock.views import TenantView

A = TypeVar("A")
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": output.WIDTH}

SHARED = ("tenant", "database", "json", "quiet")
TENANT_HELP = "Tenant to work for; without it CERNIQ_TENANT_ID, or the only one there is."
DATABASE_HELP = "PostgreSQL to use; without it CERNIQ_DATABASE_URL, or the embedded server."
JSON_HELP = "Answer with one JSON document on stdout."
QUIET_HELP = "Say nothing on stderr but errors."


@dataclass
class Globals:
    """What the common options say, wherever on the line they stand."""

    tenant: str | None = None
    database: str | None = None
    json: bool = False
    quiet: bool = False

    def update(self, given: dict[str, Any]) -> None:
        """Take over what was given; what stands nearer to the command wins."""
        tenant, database = given.get("tenant"), given.get("database")
        self.tenant = self.tenant if tenant is None else tenant
        self.database = self.database if database is None else database
        self.json = self.json or given.get("json", False)
        self.quiet = self.quiet or given.get("quiet", False)


def _quiet_logs() -> None:
    """Sessions with ERPs log; unless told otherwise that would be on stdout."""
    from cerniq_stock import logs  # noqa: PLC0415 - few commands need it

    logs.configure("text", "WARNING", lasting=False)


class Call:
    """What one call works on."""

    def __init__(self, options: Globals) -> None:
        self.options = options

    @property
    def settings(self) -> "Settings":
        """The configuration, with what the command line says about the database."""
        from cerniq_stock.settings import Settings  # noqa: PLC0415 - it brings pydantic

        settings = Settings()
        if self.options.database is not None:
            settings = settings.model_copy(update={"database_url": self.options.database})
        if settings.database_url is not None:
            _check_url(settings.database_url)
        return settings

    @asynccontextmanager
    async def stock(self) -> "AsyncIterator[Stock]":
        """Open the engine for this one call."""
        from cerniq_stock.wiring import open_stock  # noqa: PLC0415 - it brings everything

        async with open_stock(settings=self.settings, sweep=False) as stock:
            yield stock

    @asynccontextmanager
    async def tenant(self) -> "AsyncIterator[tuple[Stock, TenantView]]":
        """Open the engine and find the tenant to work for."""
        # an empty variable is none; an empty option is a mistake
        named = self.options.tenant
        if named is None:
            named = self.settings.tenant_id or None
        id_ = None if named is None else validate.uuid("tenant", named)
        async with self.stock() as stock:
            yield stock, await _tenant(stock, id_)

    @asynccontextmanager
    async def queue(
        self, *, platform: bool = False, redis_url: str | None = None
    ) -> "AsyncIterator[tuple[JobQueue, UUID]]":
        """Open the queue of jobs and find whose jobs are meant."""
        from cerniq_stock.jobs.port import PLATFORM  # noqa: PLC0415 - with its user below
        from cerniq_stock.running import open_transport  # noqa: PLC0415 - it brings everything

        if platform:
            async with open_transport(self.settings, redis_url) as queue:
                yield queue, PLATFORM
            return
        async with self.tenant() as (_, tenant), open_transport(self.settings, redis_url) as queue:
            yield queue, tenant.id

    @asynccontextmanager
    async def integrations(self) -> "AsyncIterator[tuple[Integrations, TenantView]]":
        """Open what is stored of ERPs and find the tenant to work for."""
        from cerniq_stock.wiring import open_integrations  # noqa: PLC0415 - it brings everything

        _quiet_logs()
        async with (
            self.tenant() as (stock, tenant),
            open_integrations(self.settings, stock.dsn) as integrations,
        ):
            yield integrations, tenant

    @asynccontextmanager
    async def syncs(self) -> "AsyncIterator[tuple[Syncs, TenantView]]":
        """Open syncs with ERPs and find the tenant to work for."""
        from cerniq_stock.wiring import open_syncs  # noqa: PLC0415 - it brings everything

        _quiet_logs()
        async with (
            self.tenant() as (stock, tenant),
            open_syncs(self.settings, stock.dsn) as syncs,
        ):
            yield syncs, tenant

    def console(self) -> Any:
        """Open a console on stderr, for what is drawn while a command runs."""
        from rich.console import Console  # noqa: PLC0415 - seldom used

        return Console(stderr=True, quiet=self.options.quiet)

    def progress(self) -> Any:
        """Open a progress display on stderr."""
        return output.progress(quiet=self.options.quiet)

    def note(self, text: str) -> None:
        """Say something beside the data."""
        output.note(text, quiet=self.options.quiet)


def _check_url(url: str) -> None:
    """An address that no database can have; what the drivers say about it helps nobody."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"postgresql", "postgres"} and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UnavailableError("The database's address is not like postgresql://user@host/name")


async def _tenant(stock: "Stock", id_: UUID | None) -> "TenantView":
    if id_ is not None:
        return await stock.tenant(id_)
    tenants = await stock.tenants()
    if not tenants:
        raise NotFoundError("There is no tenant yet; make one: cerniq-stock tenant create NAME")
    if len(tenants) > 1:
        raise UsageProblemError(
            "TENANT_REQUIRED",
            f"There are {len(tenants)} tenants; name one with --tenant or CERNIQ_TENANT_ID",
        )
    return tenants[0]


def accepted(answer: A | Refused) -> A:
    """Pass on what was not refused."""
    if isinstance(answer, Refused):
        raise RefusedError(answer.code, answer.message)
    return answer


async def require_skus(stock: "Stock", tenant: "TenantView", skus: list[str]) -> dict[str, Any]:
    """Return the availability of SKUs, all of which must exist: a typing error is no zero."""
    for sku in skus:
        validate.text("sku", sku, most=validate.MAX_SKU)
    found = await stock.availability(tenant.id, skus)
    unknown = [sku for sku in skus if sku not in found]
    if unknown:
        raise RefusedError(
            Refusal.PRODUCT_UNKNOWN, f"Product with SKU {', '.join(unknown)} not found"
        )
    return found


def require_warehouse(tenant: "TenantView", warehouse: str | None) -> None:
    """Refuse a warehouse that the tenant does not have."""
    if warehouse is not None and warehouse not in tenant.warehouses:
        raise RefusedError(
            Refusal.WAREHOUSE_UNKNOWN,
            f"No warehouse {warehouse}; there is {', '.join(tenant.warehouses)}",
        )


# -- registration ---------------------------------------------------------------------------


def group(text: str) -> typer.Typer:
    """Make a group of commands."""
    app = typer.Typer(help=text, context_settings=CONTEXT, rich_markup_mode=None)
    app.callback(invoke_without_command=True)(with_options(enter_group, hidden=True))
    return app


def top_level() -> typer.Typer:
    """Make a collection of commands that stand directly under `cerniq-stock`."""
    return typer.Typer(rich_markup_mode=None)


def command(
    app: typer.Typer, name: str, *examples: str, negative: bool = False
) -> Callable[[F], F]:
    """Register a function as a command. `negative`: its arguments may be numbers below zero."""
    # a negative number looks like an option; unknown options end as arguments too many
    settings = CONTEXT | ({"ignore_unknown_options": True} if negative else {})
    lines = "\n".join(["\b", "Examples:", *[f"  cerniq-stock {example}" for example in examples]])

    def register(body: F) -> F:
        app.command(name, epilog=lines, context_settings=settings)(_entry(body))
        return body

    return register


def _entry(body: Callable[..., Any]) -> Callable[..., None]:
    """What Typer calls: takes the common options away, runs the body, shows its answer."""

    @wraps(body)
    def run_and_show(ctx: typer.Context, **arguments: Any) -> None:
        options = ctx.ensure_object(Globals)
        shown = body(Call(options), **arguments)
        if inspect.iscoroutine(shown):
            shown = run(shown)
        output.show(shown, as_json=options.json, quiet=options.quiet)
        if shown.exit_code:
            raise typer.Exit(shown.exit_code)

    own = list(inspect.signature(body).parameters.values())[1:]
    return with_options(run_and_show, own)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run asynchronous work to its end, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def enter_group(ctx: typer.Context) -> None:
    """Go on to the command that was named; without one, show which there are."""
    if ctx.invoked_subcommand is not None:
        return
    if ctx.ensure_object(Globals).json:
        raise UsageProblemError("USAGE", f"Missing command; see {ctx.command_path} --help")
    typer.echo(ctx.get_help(), err=True)
    raise typer.Exit(2)


def with_options(
    body: Callable[..., None],
    own: list[inspect.Parameter] | None = None,
    *,
    hidden: bool = False,
) -> Callable[..., None]:
    """Give a function the common options: Typer reads them from its signature."""
    shared = _shared_parameters(hidden=hidden)

    @wraps(body)
    def wrapped(ctx: typer.Context, **arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in shared}
        ctx.ensure_object(Globals).update(given)
        body(ctx, **arguments)

    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    mine = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own or []]
    parameters = [context, *mine, *shared.values()]
    # what `inspect` looks at first, and what mypy does not know
    vars(wrapped)["__signature__"] = inspect.Signature(parameters)
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapped


def _shared_parameters(*, hidden: bool) -> dict[str, inspect.Parameter]:
    text, flag = str | None, bool
    options: dict[str, tuple[Any, Any, Any]] = {
        "tenant": (text, None, typer.Option("--tenant", metavar="UUID", help=TENANT_HELP)),
        "database": (text, None, typer.Option("--database", metavar="URL", help=DATABASE_HELP)),
        "json": (flag, False, typer.Option("--json", help=JSON_HELP)),
        "quiet": (flag, False, typer.Option("--quiet", "-q", help=QUIET_HELP)),
    }
    parameters = {}
    for name, (kind, default, option) in options.items():
        option.hidden = hidden
        parameters[name] = inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, option],
        )
    return parameters
