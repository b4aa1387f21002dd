"""`cerniq-stock erp sync`, and what people do about syncs: runs, conflicts, dry runs applied."""

import getpass
from collections.abc import Iterable
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.erp_parse import read_bytes
from cerniq_stock.cli.options import Limit, OfSystem, System
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.cli.problems import UsageProblemError
from cerniq_stock.domain.sync import Strategy

if TYPE_CHECKING:
    from cerniq_stock.sync.result import SyncError, SyncResult
    from cerniq_stock.sync.review import Conflict, RunView

commands = top_level()

MOST_LINES = 20
MOST_NAMES = 10
LONGEST_REASON = 100
MOST_LISTED = 1_000
"""SKUs that are missing in the ERP: so many of a result's are named, and not counted beyond."""


class Decision(StrEnum):
    """What a person may decide."""

    ACCEPT_ERP = "accept-erp"
    KEEP_LOCAL = "keep-local"
    SET_VALUE = "set-value"


@command(
    commands,
    "sync",
    "erp sync SAGA",
    "erp sync OBLIO --full --dry-run",
    "erp sync SAGA --sku LAPTOP-14 --sku FAINA-25 --strategy merge",
    "erp sync CSV_IMPORT --file stoc.csv --dry-run",
)
async def sync(
    call: Call,
    system: System,
    full: Annotated[bool, typer.Option("--full", help="The whole catalogue.")] = False,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="This file, of CSV_IMPORT; - is stdin."),
    ] = None,
    sku: Annotated[
        list[str] | None, typer.Option(metavar="SKU", help="Only this product; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; keep the plan for erp apply.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Believe the ERP, whatever was known before.")
    ] = False,
    accept: Annotated[
        bool,
        typer.Option("--accept-snapshot", help="Take one that looks like a mistake."),
    ] = False,
    strategy: Annotated[
        Strategy | None,
        typer.Option(case_sensitive=False, help="Who wins; else as the integration says."),
    ] = None,
) -> Shown:
    """Bring the stock in line with an ERP.

    What changed since the last time, or with --full all of it. A file is always the whole
    catalogue. What the ERP says of single products that cannot be used is told, leaves their
    stock as it is, and is no error of the command.
    """
    from cerniq_stock.sync.result import Asked, SyncType  # noqa: PLC0415 - it brings a client

    if full and sku:
        raise UsageProblemError("USAGE", "Give --full or --sku, not both")
    kind = SyncType.SELECTIVE if sku else SyncType.FULL if full else SyncType.INCREMENTAL
    skus = tuple(validate.sku("sku", x) for x in sku or ())
    asked = Asked(kind=kind, skus=skus, force=force, accept=accept, dry=dry_run, strategy=strategy)
    upload = None if file is None else read_bytes(file)
    async with call.syncs() as (syncs, tenant):
        result = await syncs.run(tenant.id, system, asked, upload=upload)
    return _result(result)


@command(commands, "apply", "erp apply 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD")
async def apply(
    call: Call,
    run: Annotated[str, typer.Argument(metavar="SYNC", help="Id of a dry run.")],
) -> Shown:
    """Apply what a dry run would have changed.

    Exactly that, and only if nothing has moved since.
    """
    run = validate.made_id("sync", run)
    async with call.syncs() as (syncs, tenant):
        result = await syncs.apply(tenant.id, run)
    return _result(result)


@command(commands, "runs", "erp runs", "erp runs --system SAGA --limit 5")
async def runs(call: Call, system: OfSystem = None, limit: Limit = 50) -> Shown:
    """List syncs, the newest first."""
    async with call.syncs() as (syncs, tenant):
        found = await syncs.review.runs(tenant.id, system=system, limit=limit)
    counts = "changes", "conflicts", "errors"
    columns = ("sync", "system", "kind", "status", "dry", *counts, "began", "took", "why")
    rows = [
        (
            *(x.id, x.erp_system, x.sync_type, x.status, x.dry_run),
            *(x.changes_count, x.conflicts_count, x.errors_count),
            *(x.started_at, _took(x), _short(x.error_message)),
        )
        for x in found
    ]
    return Shown(found, (Table(columns, rows, "No syncs"),))


@command(commands, "run", "erp run 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD")
async def run(
    call: Call,
    sync: Annotated[str, typer.Argument(metavar="SYNC", help="Id of a sync, as of erp runs.")],
) -> Shown:
    """Show what a sync told when it ended: changes, errors, what is unknown or missing."""
    async with call.syncs() as (syncs, tenant):
        return _result(await syncs.review.result(tenant.id, validate.made_id("sync", sync)))


@command(commands, "conflicts", "erp conflicts", "erp conflicts --all --system SAGA")
async def conflicts(
    call: Call,
    system: OfSystem = None,
    ended: Annotated[bool, typer.Option("--all", help="Those that were resolved, too.")] = False,
    limit: Limit = 50,
) -> Shown:
    """List what a person has to decide: both values side by side."""
    async with call.syncs() as (syncs, tenant):
        found = await syncs.review.conflicts(tenant.id, system=system, ended=ended, limit=limit)
    values = "here", "ERP", "agreed"
    who = ("decided", "to", "by", "because") if ended else ()
    columns = ("conflict", "system", "SKU", "warehouse", "reason", *values, "seen", *who)
    rows = [
        (
            *(x.id, x.erp_system, x.sku, x.warehouse, x.reason),
            *(x.local_value, x.erp_value, x.last_agreed, x.seen_at),
            *((x.resolution, x.resolved_value, x.resolved_by, x.resolved_because) if ended else ()),
        )
        for x in found
    ]
    return Shown(found, (Table(columns, rows, "No conflicts"),))


@command(
    commands,
    "resolve",
    "erp resolve 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD accept-erp --by 'stock clerk'",
    "erp resolve 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD set-value --value 12.5 --because 'counted today'",
)
async def resolve(
    call: Call,
    conflict: Annotated[str, typer.Argument(metavar="CONFLICT", help="Its id.")],
    decision: Annotated[Decision, typer.Argument(metavar="DECISION", case_sensitive=False)],
    value: Annotated[
        str | None, typer.Option(metavar="QUANTITY", help="The total, with set-value.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Who decides; without it the operating system's account."),
    ] = None,
    because: Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")] = None,
) -> Shown:
    """Decide a conflict: accept-erp, keep-local or set-value. Who and why are kept with it."""
    from cerniq_stock.sync.review import Resolution  # noqa: PLC0415 - it brings a client

    conflict = validate.made_id("conflict", conflict)
    how = Resolution(decision.value.replace("-", "_").upper())
    by = _account() if by is None else by
    async with call.syncs() as (syncs, tenant):
        told: Conflict = await syncs.review.resolve(
            tenant.id, conflict, how, value=value, by=by, because=because
        )
    text = f"{told.sku} in {told.warehouse} is {told.resolved_value} now"
    return Shown(told, (text,))


def _account() -> str | None:
    """Who runs this; None where the system has no name for it, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _result(result: "SyncResult") -> Shown:
    figures = result.statistics
    what = "would change" if result.dry_run else "changed"
    head = (
        f"Sync {result.sync_id} {result.sync_type} of {result.erp_system}: "
        f"{figures.total_products:,} rows, {figures.products_updated:,} levels {what}, "
        f"{figures.conflicts_resolved:,} conflicts resolved, {figures.conflicts_manual:,} for you, "
        f"{figures.errors_count:,} errors, {result.duration / 1000:.1f} s"
    )
    columns = ("SKU", "warehouse", "field", "before", "after", "what")
    rows = [
        (x.sku, x.warehouse, x.field, x.previous_value, x.new_value, x.change_type)
        for x in result.changes
    ]
    told = _some(map(_remark, result.errors), figures.errors_count)
    notes = _some(map(_remark, result.warnings), len(result.warnings))
    if result.changes_count > len(rows):
        notes.append(f"{result.changes_count - len(rows):,} more changes are not listed")
    if result.unknown:
        count = max(result.unknown_count, len(result.unknown))
        notes.append(f"Unknown here ({count:,}): {_names(result.unknown, count)}")
    if result.missing:
        count = len(result.missing)
        least = " or more" if count >= MOST_LISTED else ""
        notes.append(f"Missing in the ERP ({count:,}{least}): {_names(result.missing, count)}")
    return Shown(result, (head, Table(columns, rows, "No changes"), *told), tuple(notes))


def _remark(said: "SyncError") -> str:
    return f"{said.sku or ''} {said.code}: {said.message}".strip()


def _some(lines: Iterable[str], count: int) -> list[str]:
    """The first ones, and how many there are beside them."""
    shown = list(islice(lines, MOST_LINES))
    return shown if count <= len(shown) else [*shown, f"and {count - len(shown):,} more"]


def _names(skus: tuple[str, ...], count: int) -> str:
    shown = skus[:MOST_NAMES]
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    return ", ".join(shown) + more


def _took(run: "RunView") -> str | None:
    return None if run.status == "RUNNING" else f"{run.duration_ms / 1000:.1f}s"


def _short(reason: str | None) -> str | None:
    """Why a run failed, as far as a table has room for it; all of it is in the JSON."""
    if reason is None or len(reason) <= LONGEST_REASON:
        return reason
    return f"{reason[: LONGEST_REASON - 1].rstrip()}…"
