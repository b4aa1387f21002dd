"""`cerniq-stock verify`: everything compared with what it must be."""

from cerniq_stock.cli.call import Call, command, top_level
from cerniq_stock.cli.options import AllTenants
from cerniq_stock.cli.output import Shown, Table
from cerniq_stock.cli.problems import ERROR, OK

commands = top_level()


@command(commands, "verify", "verify", "verify --all-tenants --json")
async def verify(call: Call, *, all_tenants: AllTenants = False) -> Shown:
    """Rebuild all figures from what happened, and compare. Reads only; may run at any time.

    Every difference is named; any at all ends in exit code 1.
    """
    with call.progress() as show:

        def report(check: str, done: int, total: int) -> None:
            show(f"checking {check}", done, total)

        if all_tenants:
            async with call.stock() as stock:
                found = await stock.verify(progress=report)
        else:
            async with call.tenant() as (stock, tenant):
                found = await stock.verify(tenant.id, progress=report)
    looked = (
        f"levels {found.levels}, movements {found.movements}, reservations {found.reservations},"
        f" tenants {found.tenants}, in {found.duration_s:.1f} s"
    )
    verdict = "Everything holds" if found.ok else f"Differences: {len(found.differences)}"
    rows = [(x.rule, x.tenant_id, x.subject, x.expected, x.found) for x in found.differences]
    table = Table(("rule", "tenant", "subject", "expected", "found"), rows, "")
    parts = (f"{verdict}: {looked}", *((table,) if rows else ()))
    return Shown(found, parts, exit_code=OK if found.ok else ERROR)
