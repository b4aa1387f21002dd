"""Mutants of orders: each breaks one rule of `verify`."""

from dataclasses import replace

from tests.helpers import uid
from tests.store.mutants import UNCHECKED, Mutant, header

LINE_RULES = {"order.reserved", "order.figures"}


def of_order_line(
    rule: str, name: str, line_no: int, change: str, *, first: str = "", alone: bool = False
) -> Mutant:
    sql = (
        f"{first} UPDATE stock_order_lines SET {change}"
        f" WHERE MINE AND order_id = '{uid(name)}' AND line_no = {line_no}"
    )
    subject = str(uid(name)) + (f" #{line_no}" if rule in LINE_RULES else "")
    return Mutant(rule, subject, sql, alone)


def of_order_header(rule: str, name: str, change: str, subject: str | None = None) -> Mutant:
    sql = f"UPDATE stock_orders SET {change} WHERE MINE AND id = '{uid(name)}'"
    return Mutant(rule, subject or str(uid(name)), sql, alone=True)


def of_order_movement(rule: str, name: str, type_: str, change: str) -> Mutant:
    sql = (
        f"UPDATE stock_movements SET {change}"
        f" WHERE MINE AND order_id = '{uid(name)}' AND type = '{type_}'"
    )
    return Mutant(rule, f"{uid(name)}, product {uid('D')}", sql, alone=True)


ORDER_MUTANTS = [
    of_order_line("order.reserved", "kept", 1, "reserved = 3", alone=True),
    of_order_line("order.reserved", "kept", 2, "product_id = tenant_id", alone=True),
    # one more here, one less there: of one product and one order
    of_order_line(
        "order.reserved", "kept", 3, "quantity = 1, reserved = 1", alone=True,
        first="UPDATE stock_order_lines SET quantity = 5, reserved = 5"
        f" WHERE MINE AND order_id = '{uid('kept')}' AND line_no = 1;",
    ),
    replace(
        of_order_line("order.reserved", "new", 1, "line_no = 2, reserved = 1"),
        subject=f"{uid('new')} #2",
    ),
    Mutant(
        "order.reserved", f"{uid('kept')} #2",
        f"DELETE FROM stock_order_lines WHERE MINE AND order_id = '{uid('kept')}' AND line_no = 2",
        alone=True,
    ),
    replace(
        header("order.reserved", "for_kept", f"order_id = '{uid('new')}'"),
        subject=f"{uid('kept')} #1",
    ),
    of_order_line("order.moved", "begun", 1, "deducted = 4, released = 1"),
    of_order_line("order.moved", "begun", 1, "deducted = 2", alone=True),
    of_order_line("order.moved", "begun", 1, "returned = 2", alone=True),
    of_order_line("order.moved", "delivered", 1, "product_id = tenant_id", alone=True),
    of_order_line("order.moved", "delivered", 1, "deducted = 1"),
    of_order_movement("order.moved", "begun", "RETURN", "order_id = NULL"),
    of_order_movement("order.moved", "delivered", "SALE", "order_id = tenant_id"),
    of_order_movement("order.moved", "delivered", "SALE", "type = 'SYNC'"),
    # given back, and never held
    of_order_line("order.released", "begun", 1, "released = 1", alone=True),
    of_order_line("order.released", "mixed", 1, "released = 1", alone=True),
    of_order_line("order.released", "begun", 2, "quantity = 3", alone=True),
    of_order_movement("order.released", "begun", "RELEASE", "type = 'SYNC'"),
    of_order_movement("order.released", "mixed", "RELEASE", "order_id = NULL"),
    of_order_movement("order.released", "mixed", "RESERVATION", "type = 'SYNC'"),
    Mutant(
        "order.released", f"{uid('new')}, product {uid('D')}",
        f"UPDATE stock_movements SET order_id = '{uid('new')}'"
        " WHERE MINE AND reference_id = 'converted' AND type = 'RELEASE'",
        alone=True,
    ),
    of_order_line("order.figures", "kept", 1, "released = 1", first=UNCHECKED),
    of_order_line("order.figures", "new", 1, "released = 3", first=UNCHECKED, alone=True),
    of_order_line("order.figures", "begun", 1, "returned = 4", first=UNCHECKED),
    of_order_line("order.figures", "kept", 1, "released = -1", first=UNCHECKED),
    of_order_line("order.figures", "new", 1, "released = -1", first=UNCHECKED, alone=True),
    of_order_line("order.figures", "new", 1, "reserved = -1", first=UNCHECKED),
    of_order_line("order.figures", "new", 1, "returned = -1", first=UNCHECKED),
    of_order_line("order.figures", "new", 1, "deducted = -1, returned = -1", first=UNCHECKED),
    of_order_header("order.reservation", "begun", "reservation_id = NULL", "for_begun"),
    of_order_header("order.reservation", "begun", "reservation_id = 'active'", "for_begun"),
    of_order_header("order.reservation", "cancelled", "reservation_id = NULL", "for_cancelled"),
    Mutant(
        "order.reservation", "for_kept",
        "UPDATE stock_reservations SET expires_at = '2222-02-22' WHERE MINE AND id = 'for_kept';"
        " UPDATE stock_reservation_lines SET expires_at = '2222-02-22'"
        " WHERE MINE AND reservation_id = 'for_kept'",
        alone=True,
    ),
    header("order.reservation", "for_cancelled", "order_id = tenant_id", alone=True),
    of_order_header("order.reservation", "delivered", "reservation_id = 'nothing'"),
    of_order_header("order.reservation", "delivered", "reservation_id = 'active'"),
    of_order_header("order.reservation", "delivered", "reservation_id = 'for_begun'"),
    of_order_header("order.negotiation", "mixed", "negotiation_id = tenant_id"),
    of_order_header("order.negotiation", "new", "negotiation_id = tenant_id"),
    Mutant(
        "order.lines", str(uid("new")),
        f"DELETE FROM stock_order_lines WHERE MINE AND order_id = '{uid('new')}'",
        alone=True,
    ),
    *(
        of_order_header("order.status", name, f"status = '{status}'")
        for name, status in (
            ("new", "RESERVED"), ("new", "CANCELLED"), ("kept", "NEW"), ("begun", "RESERVED"),
            ("begun", "DELIVERED"), ("delivered", "PARTLY_DELIVERED"), ("cancelled", "DELIVERED"),
            ("cancelled", "NEW"),
        )
    ),
    of_order_line("order.status", "new", 1, "released = 2", alone=True),
]  # fmt: skip
