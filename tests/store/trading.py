"""What the tests of `verify` look at: two tenants' trade, and how to do it harm."""

from dataclasses import replace

import asyncpg
from tests.helpers import (
    adjust,
    consume,
    negotiation,
    of_order,
    order,
    put,
    receive,
    release,
    reserve,
    reserve_order,
    shop,
    uid,
)

from cerniq_stock.domain.commands import DeductOrder, ReleaseOrder, ReturnOrder
from cerniq_stock.domain.model import ZERO, Level, Tenant
from cerniq_stock.store.sweep import sweep_tenant
from cerniq_stock.store.transaction import Transaction

SHOP = Tenant(uid("tenant"), "Shop", warehouses=("W1", "W2"))
NEIGHBOUR = Tenant(uid("neighbour"), "Neighbour", warehouses=("W1", "W2"))


async def open_shop(superuser: asyncpg.Connection, tenant: Tenant) -> None:
    """Fifty of A and B in two warehouses; C never had any stock, D has none yet."""
    state = shop("A=0 B=0 C=0 D=0", tenant=tenant)
    levels = {
        uid(sku): tuple(Level(uid(sku), w, ZERO, ZERO, ZERO, 0) for w in tenant.warehouses)
        for sku in "AB"
    }
    await put(superuser, replace(state, levels=levels))
    await superuser.execute(
        "UPDATE stock_levels SET total = 50 WHERE tenant_id = $1 AND product_id <> ALL ($2)",
        *(tenant.id, [uid("C"), uid("D")]),
    )


async def trade(app: asyncpg.Connection, tenant: Tenant) -> None:
    """Leave reservations and orders in every state, on both warehouses; all kinds of movements."""
    commands = [
        reserve("active", "A=60 B=3 A=1"),
        reserve("another", "A=7 B=2"),
        reserve("partly", "A=4"),
        consume("partly", "A=1"),
        release("partly", "A=1"),
        reserve("consumed", "B=5"),
        consume("consumed"),
        reserve("released", "B=5"),
        release("released"),
        reserve("failed", "C=1"),
        reserve("expired", "B=6", expires_in_h=0),
        reserve("displaced", "B=70"),
        reserve("hard", "B=60", type="HARD"),
        *(receive("B=2", into="W2") for _ in range(8)),
        adjust("B", blocked=3, into="W2"),
        negotiation("n2", "DEAD"),
        receive("B=30", into="W1"),
        receive("D=20", into="W1"),
        order("new", "B=2"),
        order("kept", "B=4 D=3 B=2"),
        reserve_order("kept", "for_kept"),
        order("begun", "D=6 D=2"),
        reserve_order("begun", "for_begun"),
        of_order(DeductOrder, "begun", "D=3"),
        of_order(ReleaseOrder, "begun", "D=2"),
        of_order(ReturnOrder, "begun", "D=1", into="W2"),
        order("delivered", "D=2"),
        of_order(DeductOrder, "delivered"),
        order("cancelled", "D=1"),
        reserve_order("cancelled", "for_cancelled"),
        of_order(ReleaseOrder, "cancelled"),
        negotiation("n3", "CLOSING"),
        reserve("converted", "D=2", to="n3"),
        order("mixed", "D=6", of="n3"),
        of_order(ReleaseOrder, "mixed", "D=1"),
        of_order(DeductOrder, "mixed", "D=1"),
        reserve_order("mixed", "for_mixed"),
        of_order(ReleaseOrder, "mixed", "D=1"),
        of_order(DeductOrder, "mixed", "D=1"),
    ]
    for command in commands:
        await Transaction(tenant.id, [command]).run(app)
    await sweep_tenant(app, tenant.id)


async def harm(dsn: str, sql: str) -> None:
    """Break something of the shop (not of its neighbour) past all triggers."""
    superuser = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    mine = f"tenant_id = '{SHOP.id}'"
    await superuser.execute(f"SET session_replication_role = replica; {sql.replace('MINE', mine)}")
    await superuser.close()
