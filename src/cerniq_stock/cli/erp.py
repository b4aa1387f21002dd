"""`cerniq-stock erp`: which ERPs a tenant has, how they are reached, and the keys of all that."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cerniq_stock.cli import erp_parse, erp_push, erp_subscribe, erp_sync
from cerniq_stock.cli.call import Call, command, group
from cerniq_stock.cli.erp_parse import read_bytes
from cerniq_stock.cli.options import System
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.cli.problems import ERROR, UsageProblemError
from cerniq_stock.erp.rows import SystemName

if TYPE_CHECKING:
    from cerniq_stock.views import IntegrationView, Rotation

app = group(
    "ERPs: how a tenant's are reached, kept in line with, and understood.\n\n"
    "From nothing to the shelf: new-key, add, test, sync --full --dry-run, apply. Credentials are"
    " stored encrypted and shown by no command; see docs/erp.md."
)
app.add_typer(erp_parse.commands)
app.add_typer(erp_sync.commands)
app.add_typer(erp_push.commands)
app.add_typer(erp_subscribe.commands)

Config = typer.Option(
    metavar="FILE", help="Connection and parse settings, secrets too: JSON; - is stdin."
)
Options = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="How syncs behave: JSON, see docs/erp.md; - is stdin."),
]
Schedule = typer.Option(metavar="CRON", help="When it is synchronised; none: as all others.")

NO_SCHEDULE = "none"
SHOWN = 60


@command(
    app,
    "add",
    "erp add SAGA --config saga.json",
    "erp add OBLIO --name 'Oblio, Cluj' --config - --options oblio-options.json",
)
async def add(
    call: Call,
    system: System,
    *,
    config: Annotated[str, Config],
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What people call it; else the system.")
    ] = None,
    options: Options = None,
    schedule: Annotated[str | None, Schedule] = None,
    disabled: Annotated[
        bool, typer.Option("--disabled", help="It is not synchronised yet.")
    ] = False,
) -> Shown:
    """Store how an ERP is reached, encrypted. A tenant has one of each system.

    Try it with `erp test`. Secrets come from a file or from stdin only: the arguments of a command
    can be seen by others, and stay in the shell's history.
    """
    _check_stdin(config, options)
    async with call.integrations() as (integrations, tenant):
        view = await integrations.add(
            tenant.id,
            system,
            name=system.value if name is None else name,
            schedule=_expression(schedule),
            enabled=not disabled,
            config=read_bytes(config, "config"),
            options=_optional(options, "options"),
        )
    return Shown(view, (_stored(view),))


@command(
    app,
    "change",
    "erp change SAGA --config saga.json",
    "erp change OBLIO --options options.json --name 'Oblio, Cluj'",
)
async def change(
    call: Call,
    system: System,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="What people call it.")] = None,
    config: Annotated[str | None, Config] = None,
    options: Options = None,
) -> Shown:
    """Change what is given. Settings are given whole, with their secrets; options, too.

    After another configuration the next sync reads everything.
    """
    if name is None and config is None and options is None:
        raise UsageProblemError("USAGE", "Nothing to change: give --name, --config or --options")
    _check_stdin(config, options)
    async with call.integrations() as (integrations, tenant):
        view = await integrations.change(
            tenant.id,
            system,
            name=name,
            config=_optional(config, "config"),
            options=_optional(options, "options"),
        )
    return Shown(view, (_stored(view),))


@command(app, "list", "erp list", "erp list --json")
async def list_integrations(call: Call) -> Shown:
    """List a tenant's ERPs."""
    async with call.integrations() as (integrations, tenant):
        found = await integrations.listed(tenant.id)
    columns = ("system", "name", "enabled", "schedule", "last sync", "status")
    rows = [
        (x.erp_system, x.name, x.enabled, x.sync_schedule, x.last_sync_at, x.last_sync_status)
        for x in found
    ]
    return Shown(found, (Table(columns, rows, "No ERPs"),))


@command(app, "show", "erp show SAGA", "erp show SAGA --json")
async def show(call: Call, system: System) -> Shown:
    """Show an ERP's settings, *** for every secret.

    Without the keys of credentials there is a warning instead of the settings.
    """
    from cerniq_stock.erp.secrets import SecretsError  # noqa: PLC0415 - it brings cryptography
    from cerniq_stock.wire import to_wire  # noqa: PLC0415 - it brings pydantic

    configuration: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    async with call.integrations() as (integrations, tenant):
        view = await integrations.get(tenant.id, system)
        try:
            configuration = await integrations.configuration(tenant.id, system)
        except SecretsError as error:
            warnings = (f"The settings stay closed: {error}",)
    facts = [*_facts(view), *_flat(configuration or {})]
    document = to_wire(view) | {"configuration": configuration}
    return Shown(document, (Table(("", ""), facts),), warnings)


@command(app, "test", "erp test SAGA", "erp test CSV_IMPORT --json")
async def test(call: Call, system: System) -> Shown:
    """Log in, or find the file, and ask for as little as possible. Nothing is changed."""
    async with call.integrations() as (integrations, tenant):
        health = await integrations.test(tenant.id, system)
    document = {"erpSystem": system.value, "ok": True, "latencyS": round(health.latency_s, 3)}
    return Shown(document, (f"{system} answers in {health.latency_s * 1000:.0f} ms",))


@command(app, "enable", "erp enable SAGA")
async def enable(call: Call, system: System) -> Shown:
    """Let it be synchronised by its schedule."""
    return await _switch(call, system, enabled=True)


@command(app, "disable", "erp disable SAGA")
async def disable(call: Call, system: System) -> Shown:
    """Let it not be synchronised until it is enabled again."""
    return await _switch(call, system, enabled=False)


async def _switch(call: Call, system: SystemName, *, enabled: bool) -> Shown:
    async with call.integrations() as (integrations, tenant):
        view = await integrations.change(tenant.id, system, enabled=enabled)
    return Shown(view, (f"{system} is {'enabled' if enabled else 'disabled'}",))


@command(
    app,
    "schedule",
    "erp schedule SAGA '*/5 8-18 * * 1-6'",
    "erp schedule SAGA none",
)
async def schedule(
    call: Call,
    system: System,
    expression: Annotated[
        str, typer.Argument(metavar="CRON", help="Five fields, in Romanian time; or none.")
    ],
) -> Shown:
    """Set when it is synchronised.

    `none`: every quarter of an hour, as all others. Each night at two all of it is read, anyway;
    files are read whole whenever they are new.
    """
    async with call.integrations() as (integrations, tenant):
        view = await integrations.schedule(tenant.id, system, _expression(expression))
    return Shown(view, (f"{system}: {view.sync_schedule or 'as all others'}",))


@command(app, "remove", "erp remove SAGA --yes")
async def remove(
    call: Call,
    system: System,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, its credentials shall be gone.")] = False,
) -> Shown:
    """Delete an ERP's settings and credentials. The log of its runs stays.

    What the ERP has committed is free here again, and its open conflicts are over. If it is cut
    off, say it again.
    """
    if not yes:
        raise UsageProblemError("USAGE", f"This deletes the credentials of {system}; say --yes")
    async with call.integrations() as (integrations, tenant):
        gone = await integrations.remove(tenant.id, system)
    parts = [f"{system} is removed"]
    if gone.levels_freed:
        levels = "level" if gone.levels_freed == 1 else "levels"
        parts.append(f"what it had blocked is free again, on {gone.levels_freed:,} {levels}")
    if gone.conflicts_ended:
        over = "conflict is" if gone.conflicts_ended == 1 else "conflicts are"
        parts.append(f"{gone.conflicts_ended:,} open {over} over")
    return Shown(gone, ("; ".join(parts),))


# -- keys -------------------------------------------------------------------------------------


@command(app, "new-key", "erp new-key", "erp new-key --name 2027")
def new_key(
    _: Call,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Its name; each key has one.")] = "k1",
) -> Shown:
    """Make a key for CERNIQ_SECRET_KEYS and print it. It is stored nowhere: keep it safe."""
    from cerniq_stock.erp.secrets import new_key as made  # noqa: PLC0415 - it brings cryptography

    key = made(name)
    return Shown({"key": key}, (key,))


@command(app, "rotate-keys", "erp rotate-keys --dry-run", "erp rotate-keys --json")
async def rotate_keys(
    call: Call,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
) -> Shown:
    """Put all credentials under the first key.

    Of all tenants, and while all goes on. Put a new key before the old one in CERNIQ_SECRET_KEYS,
    of every process; run this; when it finds none left, take the old key out. It can be stopped
    and run again at any time. Exit code 1 where something does not open.
    """
    from cerniq_stock.wiring import open_integrations  # noqa: PLC0415 - it brings everything

    settings = call.settings
    async with call.stock() as stock, open_integrations(settings, stock.dsn) as integrations:
        told = await integrations.rotate_keys(dry_run=dry_run)
    failed = [(x.tenant_id, x.id, x.reason) for x in told.failed]
    parts = (_counted(told), Table(("tenant", "integration", "reason"), failed, ""))
    again = ("Some were changed meanwhile; run it again",) if told.missed else ()
    return Shown(told, parts if failed else parts[:1], again, ERROR if failed else 0)


def _counted(told: "Rotation") -> str:
    done = "to be put" if told.dry_run else "put"
    return (
        f"{told.rewrapped} {done} under key {told.kid}, {told.current} there before,"
        f" {told.missed} missed, {len(told.failed)} failed"
    )


# -- how --------------------------------------------------------------------------------------


def _check_stdin(config: str | None, options: str | None) -> None:
    if config == options == "-":
        raise UsageProblemError("USAGE", "Only one of --config and --options can be stdin")


def _optional(name: str | None, field: str) -> bytes | None:
    return None if name is None else read_bytes(name, field)


def _expression(text: str | None) -> str | None:
    return None if text is None or text.strip().lower() == NO_SCHEDULE else text


def _stored(view: "IntegrationView") -> str:
    return f"{view.erp_system} is stored; try it: cerniq-stock erp test {view.erp_system}"


def _facts(view: "IntegrationView") -> list[tuple[str, Any]]:
    return [
        ("id", view.id),
        ("system", view.erp_system),
        ("name", view.name),
        ("enabled", view.enabled),
        ("schedule", view.sync_schedule or "as all others"),
        ("last sync", view.last_sync_at),
        ("status", view.last_sync_status),
        *_flat({"options": view.options}),
    ]


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings, one a line; long ones, as certificates are, are cut."""
    for key, entry in value.items():
        where = f"{path}.{key}" if path else key
        if isinstance(entry, Mapping):
            yield from _flat(entry, where)
        else:
            long = isinstance(entry, str) and len(entry) > SHOWN
            yield where, f"{entry[: SHOWN - 1]}…" if long else entry
