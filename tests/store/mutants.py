"""Mutants of stock, movements and reservations: each breaks one rule of `verify`."""

from dataclasses import dataclass, replace

from tests.helpers import uid


@dataclass(frozen=True)
class Mutant:
    """`sql` breaks `rule` for `subject`. `alone`: and nothing else."""

    rule: str
    subject: str
    sql: str
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.rule}-{self.sql[:40]}"


def on(sku: str, warehouse: str) -> str:
    return f"MINE AND product_id = '{uid(sku)}' AND warehouse = '{warehouse}'"


def level(rule: str, change: str, *, first: str = "", alone: bool = False) -> Mutant:
    sql = f"{first} UPDATE stock_levels SET {change} WHERE {on('A', 'W2')}"
    return Mutant(rule, "A @ W2", sql, alone)


def movement(
    rule: str, change: str, where: str, subject: str, *, first: str = "", alone: bool = False
) -> Mutant:
    sql = f"{first} UPDATE stock_movements SET {change} WHERE {on('B', 'W2')} AND {where}"
    return Mutant(rule, f"B @ W2 #{subject}", sql, alone)


def line(
    rule: str, change: str, subject: str = "active", *, first: str = "", alone: bool = False
) -> Mutant:
    sql = (
        f"{first} UPDATE stock_reservation_lines SET {change}"
        f" WHERE MINE AND reservation_id = '{subject}' AND line_no = 1"
    )
    return Mutant(rule, subject, sql, alone)


def header(rule: str, id_: str, change: str, *, first: str = "", alone: bool = False) -> Mutant:
    sql = f"{first} UPDATE stock_reservations SET {change} WHERE MINE AND id = '{id_}'"
    return Mutant(rule, id_, sql, alone)


def loose(table: str, *columns: str) -> str:
    """Make generated columns plain ones."""
    return "".join(f"ALTER TABLE {table} ALTER {x} DROP EXPRESSION;" for x in columns)


UNCHECKED = """
DO $$
DECLARE c record;
BEGIN
    FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
        WHERE contype = 'c' AND connamespace = 'cerniq'::regnamespace AND coninhcount = 0
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname);
    END LOOP;
END $$;
"""

# The same number, sum and sum of squares as 1 … 8, smallest and largest as well.
SAME_SUMS = "sequence = CASE sequence WHEN 2 THEN 3 WHEN 6 THEN 4 ELSE 8 END"

# What `active` holds of A in W2, and what `another` does, exchanged by one.
EXCHANGED = f"""
UPDATE stock_reservation_lines SET reserved = reserved + 1
WHERE {on("A", "W2")} AND reservation_id = 'active' AND line_no = 1;
UPDATE stock_reservation_lines SET reserved = reserved - 1
WHERE {on("A", "W2")} AND reservation_id = 'another';
UPDATE stock_reservations SET total_reserved = total_reserved + 1, total_requested = 99
WHERE MINE AND id = 'active';
UPDATE stock_reservations SET total_reserved = total_reserved - 1 WHERE MINE AND id = 'another';
"""

MUTANTS = [
    level("level.figures", "available = available + 1", first=loose("stock_levels", "available")),
    level("level.figures", "total = 1", first=UNCHECKED),
    level("level.figures", "blocked = -1, total = total - 1", first=UNCHECKED),
    level("level.total", "total = total + 1", alone=True),
    level("level.reserved", "reserved = reserved + 1"),
    level("level.blocked", "blocked = blocked + 1", alone=True),
    level("level.version", "version = version + 1", alone=True),
    level("level.version", "version = version - 1", alone=True),
    level("level.held", "reserved = reserved - 1"),
    Mutant("product.level", "C", f"DELETE FROM stock_levels WHERE {on('C', 'W1')}", alone=True),
    Mutant("movement.level", "A @ W2", f"DELETE FROM stock_levels WHERE {on('A', 'W2')}"),
    Mutant("line.level", "A @ W2", f"DELETE FROM stock_levels WHERE {on('A', 'W2')}"),
    movement("movement.sequence", "sequence = 99", "sequence = 5", "6"),
    movement("movement.sequence", "sequence = 1", "sequence = 2", "1"),
    movement("movement.sequence", "sequence = sequence + 1", "true", "2"),
    movement("movement.sequence", SAME_SUMS, "sequence IN (2, 6, 7)", "3"),
    Mutant(
        "movement.sequence", "B @ W2 #4",
        f"DELETE FROM stock_movements WHERE {on('B', 'W2')} AND sequence = 3",
    ),
    Mutant(
        "movement.sequence", "B @ W2 #2",
        f"DELETE FROM stock_movements WHERE {on('B', 'W2')} AND sequence = 1",
    ),
    movement("movement.chain", "previous_available = previous_available + 1", "sequence = 4", "4"),
    movement("movement.chain", "previous_available = previous_available + 1", "true", "1"),
    movement("movement.chain", "total_delta = total_delta + 1", "sequence = 4", "5"),
    movement(
        "movement.figures", "new_available = new_available + 1", "sequence = 4", "4",
        first=loose("stock_movements", "new_available"),
    ),
    movement(
        "movement.figures", "previous_available = -100", "sequence = 4", "4", first=UNCHECKED
    ),
    Mutant(
        "line.reservation", "active",
        "DELETE FROM stock_reservations WHERE MINE AND id = 'active'",
    ),
    line("line.figures", "held = held + 1", first=loose("stock_reservation_lines", "held")),
    line("line.figures", "consumed = -1, released = released + 1", first=UNCHECKED),
    line("line.figures", "reserved = 0, consumed = 0, released = 0", first=UNCHECKED),
    line("line.expiry", "expires_at = expires_at + interval '1 us'", alone=True),
    header(
        "line.held", "active",
        "status = 'RELEASED', released_at = now(), release_reason = 'MANUAL'",
    ),
    Mutant("line.movements", "A @ W2: active", EXCHANGED, alone=True),
    Mutant("line.movements", "A @ W2: another", EXCHANGED, alone=True),
    line("line.movements", "released = 1", "another"),
    replace(line("level.held", "released = 1", "another"), subject="A @ W2"),
    header("reservation.pending", "failed", "status = 'PENDING'"),
    header(
        "reservation.failed", "released",
        "status = 'FAILED', released_at = NULL, release_reason = NULL", alone=True,
    ),
    header("reservation.failed", "failed", "status = 'RELEASED', released_at = now()"),
    header("reservation.requested", "active", "total_requested = 1", first=UNCHECKED, alone=True),
    header("reservation.total", "active", "total_reserved = 1", alone=True),
    header("reservation.total", "consumed", "total_reserved = 1", alone=True),
    Mutant(
        "reservation.total", "released",
        "DELETE FROM stock_reservation_lines WHERE MINE AND reservation_id = 'released'",
        alone=True,
    ),
    header("reservation.total", "failed", "total_reserved = 1"),
    Mutant(
        "reservation.holds", "another",
        "UPDATE stock_reservation_lines SET released = reserved"
        " WHERE MINE AND reservation_id = 'another'",
    ),
    Mutant(
        "reservation.holds", "another",
        "DELETE FROM stock_reservation_lines WHERE MINE AND reservation_id = 'another'",
    ),
    header("reservation.early", "expired", "expires_at = now() + interval '1 hour'", alone=True),
    header("reservation.end", "released", "release_reason = NULL", alone=True),
    header("reservation.end", "consumed", "release_reason = 'MANUAL'", alone=True),
    header("reservation.end", "released", "release_reason = 'EXPIRED'", alone=True),
    header("reservation.end", "released", "released_at = NULL", first=UNCHECKED, alone=True),
    header(
        "reservation.end", "active", "released_at = now(), release_reason = 'MANUAL'",
        first=UNCHECKED, alone=True,
    ),
    header("reservation.negotiation", "released", "negotiation_id = tenant_id", alone=True),
    Mutant(
        "negotiation.ended", "another", "UPDATE negotiations SET state = 'DEAD' WHERE MINE",
        alone=True,
    ),
]  # fmt: skip
