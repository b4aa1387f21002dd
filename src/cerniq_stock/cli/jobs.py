"""`cerniq-stock job`: jobs added, looked at, taken back, tried again."""

import asyncio
import json
import math
import signal
from contextlib import suppress
from typing import Annotated, Any

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import Call, command, group
from cerniq_stock.cli.options import Limit
from cerniq_stock.cli.output import Shown, Table, cell
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.jobs.port import MAX_JOB_ID, JobCounts, JobState, JobView, NewJob

app = group(
    "Jobs, which workers run: cerniq-stock worker, or cerniq-stock up.\n\n"
    "Their names, payloads and results are the specification's."
)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Job's id.")]
Platform = Annotated[
    bool, typer.Option("--platform", help="Jobs of the platform itself: those of its schedules.")
]
RedisUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Jobs of BullMQ on this Redis, not of PostgreSQL."),
]
REFRESH_S = 1.0
SHOWN = 30


@command(
    app,
    "add",
    """job add stock:reserve:order '{"orderId": "6f1d2c1e-8a52-4b7e-9d0a-3c5f1b2a7e10"}'""",
    """job add stock:reserve:release '{"reservationId": "01K7…", "reason": "MANUAL"}' --delay 60""",
)
async def add(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Kind, as stock:reserve:create.")],
    payload: Annotated[str, typer.Argument(metavar="JSON", help="Payload; tenantId is filled in.")],
    job: Annotated[
        str | None, typer.Option("--id", metavar="TEXT", help="Its id: the same again adds none.")
    ] = None,
    priority: Annotated[
        int, typer.Option(metavar="N", help="0 comes first, then 1, 2, up to 1000.")
    ] = 0,
    delay: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long it waits before it may begin.")
    ] = 0.0,
    trace: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Appears in every log line of the job.")
    ] = None,
    redis_url: RedisUrl = None,
) -> Shown:
    """Add a job and print its id."""
    asked = _payload(payload)
    async with call.queue(redis_url=redis_url) as (queue, tenant_id):
        new = NewJob(
            name=name,
            payload={"tenantId": str(tenant_id), **asked},
            id=job,
            priority=priority,
            delay_s=delay,
            trace_id=trace,
        )
        known = job is not None and await queue.get(tenant_id, _id(job)) is not None
        (id_,) = await queue.add(tenant_id, [new])
    warnings = (f"Job {id_} was added before: nothing was added now",) if known else ()
    return Shown({"id": id_, "known": known}, (id_,), warnings)


def _payload(text: str) -> dict[str, Any]:
    try:
        asked = json.loads(text)
    except ValueError as error:
        raise InvalidInputError("payload", f"The payload is no JSON: {error}") from None
    if not isinstance(asked, dict):
        raise InvalidInputError("payload", "The payload must be a JSON object")
    return asked


@command(
    app,
    "list",
    "job list",
    "job list --state failed --name stock:reserve:order",
)
async def list_jobs(
    call: Call,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this kind.")] = None,
    state: Annotated[
        JobState | None, typer.Option(case_sensitive=False, help="Only in this state.")
    ] = None,
    platform: Platform = False,
    redis_url: RedisUrl = None,
    limit: Limit = 50,
) -> Shown:
    """List jobs, the newest first."""
    async with call.queue(platform=platform, redis_url=redis_url) as (queue, tenant_id):
        found = await queue.jobs(tenant_id, name=name, state=state, limit=limit)
    columns = ("job", "kind", "state", "attempts", "added", "error")
    rows = [(x.id, x.name, x.state, x.attempts, x.created_at, _short(x.error)) for x in found]
    return Shown(found, (Table(columns, rows, "No jobs"),))


def _short(error: str | None) -> str | None:
    """As much as a list has room for; `job show` has it all."""
    return error if error is None or len(error) <= SHOWN else f"{error[: SHOWN - 1]}…"


@command(app, "show", "job show 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD", "job show res-1 --json")
async def show(
    call: Call, job: JobId, platform: Platform = False, redis_url: RedisUrl = None
) -> Shown:
    """Show a job: what was asked, how far it is, what came of it."""
    async with call.queue(platform=platform, redis_url=redis_url) as (queue, tenant_id):
        found = await queue.get(tenant_id, _id(job))
    if found is None:
        raise NotFoundError(f"No job {job}")
    facts = [(name, value) for name, value in _facts(found) if value is not None]
    return Shown(found, (Table(("", ""), facts), *_told(found)))


def _facts(job: JobView) -> list[tuple[str, Any]]:
    return [
        ("job", job.id),
        ("kind", job.name),
        ("state", job.state),
        ("priority", job.priority or None),
        ("attempts", job.attempts),
        ("trace", job.trace_id if job.trace_id != job.id else None),
        ("added", job.created_at),
        ("to begin", job.run_at if job.run_at != job.created_at else None),
        ("ended", job.finished_at),
        ("error", job.error),
    ]


def _told(job: JobView) -> tuple[str, ...]:
    documents = {"payload": job.payload, "progress": job.progress, "result": job.result}
    parts = [
        f"{name}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in documents.items()
        if value is not None
    ]
    return (*parts, *(job.traceback or "").splitlines())


@command(app, "retry", "job retry 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD")
async def retry(
    call: Call, job: JobId, platform: Platform = False, redis_url: RedisUrl = None
) -> Shown:
    """Let a failed job run again, with all its attempts."""
    async with call.queue(platform=platform, redis_url=redis_url) as (queue, tenant_id):
        done = await queue.retry(tenant_id, _id(job))
    if not done:
        raise NotFoundError(f"No failed job {job}")
    return Shown({"id": job, "retried": True}, (f"Job {job} waits for a worker",))


@command(app, "cancel", "job cancel 01K7Z9V3J0Q4T5X6Y7Z8A9B0CD")
async def cancel(
    call: Call, job: JobId, platform: Platform = False, redis_url: RedisUrl = None
) -> Shown:
    """Take back a job that has not begun."""
    async with call.queue(platform=platform, redis_url=redis_url) as (queue, tenant_id):
        done = await queue.cancel(tenant_id, _id(job))
    if not done:
        raise NotFoundError(f"No job {job} that waits")
    return Shown({"id": job, "cancelled": True}, (f"Job {job} is cancelled",))


@command(app, "watch", "job watch", "job watch --seconds 60")
async def watch(
    call: Call,
    platform: Platform = False,
    redis_url: RedisUrl = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="For how long; else until Ctrl-C.")
    ] = None,
) -> Shown:
    """Show how many jobs are where, live; the last figures are the answer."""
    from rich.live import Live  # noqa: PLC0415 - only this command draws

    loop = asyncio.get_running_loop()
    enough = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, enough.set)
    end = math.inf if seconds is None else loop.time() + seconds
    async with call.queue(platform=platform, redis_url=redis_url) as (queue, tenant_id):
        counts = await queue.counts(tenant_id)
        with Live(_drawn(counts), transient=True, console=call.console()) as live:
            while not enough.is_set() and (left_s := end - loop.time()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(enough.wait(), min(REFRESH_S, left_s))
                counts = await queue.counts(tenant_id)
                live.update(_drawn(counts))
    return Shown(counts, (_table(counts),))


def _table(counts: tuple[JobCounts, ...]) -> Table:
    columns = ("kind", *(state.lower() for state in JobState), "oldest waits since")
    rows = [
        (x.name, *(x.states.get(state, 0) for state in JobState), x.oldest_waiting_at)
        for x in counts
    ]
    return Table(columns, rows, "No jobs")


def _drawn(counts: tuple[JobCounts, ...]) -> Any:
    """The same for a terminal that may be narrow: a line stays one line there."""
    from rich import box  # noqa: PLC0415 - only this command draws
    from rich.table import Table as Drawn  # noqa: PLC0415 - likewise

    shown = _table(counts)
    table = Drawn(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in shown.columns:
        table.add_column(name, no_wrap=True)
    for row in shown.rows:
        table.add_row(*map(cell, row))
    return table


def _id(job: str) -> str:
    return validate.text("jobId", job, most=MAX_JOB_ID)
