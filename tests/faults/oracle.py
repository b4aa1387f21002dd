"""Compares what callers were told with what the database holds, row by row.

Not by the engine's own reads and not by `verify`: the tables are read as they are and added up
here. A finding is *lost* (acknowledged and not there), *doubled* (there more than once) or
*differs* (anything else that should not be).
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import asyncpg

from tests.faults.intents import Intent, Story, Told, is_refused

ZERO = Decimal(0)
Amounts = dict[str, Decimal]


class Finding(NamedTuple):
    """Something that must not be."""

    kind: Literal["lost", "doubled", "differs"]
    subject: str
    text: str


class Move(NamedTuple):
    """A movement, with the level after it as the movements up to here add up."""

    id: str
    type: str
    sku: str
    reference: str | None
    total: Decimal
    reserved: Decimal
    blocked: Decimal
    level_total: Decimal
    level_reserved: Decimal


def _amounts() -> Amounts:
    return defaultdict(lambda: ZERO)


class Books:
    """Everything the database holds, read in one snapshot."""

    def __init__(self) -> None:
        self.moves: dict[str | None, list[Move]] = defaultdict(list)
        self.by_reservation: dict[tuple[str, str], Amounts] = defaultdict(_amounts)
        self.reservations: dict[str, asyncpg.Record] = {}
        self.keys: dict[str, str] = {}
        self.lines: dict[str, list[asyncpg.Record]] = defaultdict(list)
        self.commands: set[str] = set()
        self.totals: dict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
        self.negotiations: dict[tuple[str, str], str] = {}
        self.findings: list[Finding] = []


async def examine(dsn: str, story: Story) -> list[Finding]:
    """Everything that the database and the story do not agree on. Every intent has an answer."""
    assert not story.unknown
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "cerniq"})
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            books = await _read(connection)
    finally:
        await connection.close()
    return [
        *books.findings,
        *_contradictions(story),
        *_answers(books, story),
        *_strangers(books, story),
        *_reservations(books),
        *_extensions(books, story),
        *_negotiations(books, story),
        *_totals(books, story),
    ]


# -- the database ---------------------------------------------------------------------------


async def _read(connection: asyncpg.Connection) -> Books:
    books = Books()
    for row in await connection.fetch("SELECT * FROM stock_reservations"):
        books.reservations[row["id"]] = row
        if row["reservation_key"] in books.keys:
            books.findings.append(Finding("doubled", row["reservation_key"], "two reservations"))
        books.keys[row["reservation_key"]] = row["id"]
    for row in await connection.fetch(
        "SELECT l.*, p.sku FROM stock_reservation_lines AS l"
        " JOIN products AS p ON p.tenant_id = l.tenant_id AND p.id = l.product_id"
    ):
        books.lines[row["reservation_id"]].append(row)
    for row in await connection.fetch("SELECT key FROM stock_commands"):
        if row["key"] in books.commands:
            books.findings.append(Finding("doubled", row["key"], "two stored answers"))
        books.commands.add(row["key"])
    for row in await connection.fetch("SELECT tenant_id, id, state FROM negotiations"):
        books.negotiations[str(row["tenant_id"]), str(row["id"])] = row["state"]
    levels = await _read_movements(connection, books)
    await _read_levels(connection, books, levels)
    return books


class Sum(NamedTuple):
    """A level as its movements add up."""

    total: Decimal = ZERO
    reserved: Decimal = ZERO
    blocked: Decimal = ZERO
    movements: int = 0

    @property
    def available(self) -> Decimal:
        return self.total - self.reserved - self.blocked


Place = tuple[Any, Any, str]


async def _read_movements(connection: asyncpg.Connection, books: Books) -> dict[Place, Sum]:
    """Follow each level from its first movement to its last."""
    sums: dict[Place, Sum] = defaultdict(Sum)
    seen: set[str] = set()
    async for row in connection.cursor(
        "SELECT * FROM stock_movements ORDER BY tenant_id, product_id, warehouse, sequence",
        prefetch=5_000,
    ):
        place = row["tenant_id"], row["product_id"], row["warehouse"]
        before = sums[place]
        after = sums[place] = Sum(
            before.total + row["total_delta"],
            before.reserved + row["reserved_delta"],
            before.blocked + row["blocked_delta"],
            before.movements + 1,
        )
        books.findings += _link(row, before, after, twice=row["id"] in seen)
        seen.add(row["id"])
        move = Move(
            row["id"],
            row["type"],
            row["sku"],
            row["reference_id"],
            row["total_delta"],
            row["reserved_delta"],
            row["blocked_delta"],
            after.total,
            after.reserved,
        )
        books.moves[row["created_by"]].append(move)
        if row["reference_type"] == "RESERVATION":
            of_line = books.by_reservation[move.reference or "", move.sku]
            of_line[move.type] += move.reserved
    return sums


def _link(row: asyncpg.Record, before: Sum, after: Sum, *, twice: bool) -> Iterator[Finding]:
    """One movement must follow from the one before it."""
    name = f"movement {row['id']}"
    if twice:
        yield Finding("doubled", name, "two movements of this id")
    if row["sequence"] < after.movements:
        yield Finding("doubled", name, f"two movements are number {row['sequence']} of the level")
    elif row["sequence"] > after.movements:
        yield Finding("lost", name, f"number {row['sequence']} follows {before.movements}")
    if row["previous_available"] != before.available:
        yield Finding(
            "differs",
            name,
            f"says {row['previous_available']} was available, but it was {before.available}",
        )
    if min(after.available, after.reserved, after.blocked) < 0:
        yield Finding("differs", name, f"oversold: {after}")


async def _read_levels(
    connection: asyncpg.Connection, books: Books, sums: dict[Place, Sum]
) -> None:
    """The levels are the sums of their movements and of what is held."""
    for row in await connection.fetch(
        "SELECT s.*, p.sku, (SELECT coalesce(sum(l.held), 0) FROM stock_reservation_lines AS l"
        "  WHERE l.tenant_id = s.tenant_id AND l.product_id = s.product_id"
        "  AND l.warehouse = s.warehouse) AS held"
        " FROM stock_levels AS s"
        " JOIN products AS p ON p.tenant_id = s.tenant_id AND p.id = s.product_id"
    ):
        place = row["tenant_id"], row["product_id"], row["warehouse"]
        found = Sum(row["total"], row["reserved"], row["blocked"], row["version"])
        added = sums.pop(place, Sum())
        name = f"level {row['sku']}/{row['warehouse']} of {row['tenant_id']}"
        if found != added:
            books.findings.append(Finding("differs", name, f"is {found}, moved to {added}"))
        if row["held"] != row["reserved"]:
            books.findings.append(
                Finding("differs", name, f"reserves {row['reserved']}, its lines {row['held']}")
            )
        books.totals[str(row["tenant_id"]), row["sku"]] += row["total"]
    for place in sums:
        books.findings.append(Finding("differs", f"level {place}", "has movements only"))


# -- each answer ----------------------------------------------------------------------------


def _contradictions(story: Story) -> Iterator[Finding]:
    for key, first, second in story.contradictions:
        yield Finding("differs", key, f"answered {first}, then {second}")
    for key, code in story.failed.items():
        yield Finding("differs", key, f"the engine broke: {code}, see the clients' log")


def _answers(books: Books, story: Story) -> Iterator[Finding]:
    for key, told in story.answers.items():
        intent = story.intents[key]
        if is_refused(told):
            if key in books.keys or key in books.commands or key in books.moves:
                yield Finding("differs", key, f"refused, but had an effect: {told}")
        elif intent.verb == "reserve":
            yield from _reserved(books, intent, told)
        elif key not in books.commands:
            yield Finding("lost", key, f"no stored answer to {intent.verb}: {told}")
        else:
            yield from _moved(books, intent, told)


def _reserved(books: Books, intent: Intent, told: Told) -> Iterator[Finding]:
    row = books.reservations.get(books.keys.get(intent.key, ""))
    if row is None:
        yield Finding("lost", intent.key, f"no such reservation: {told['reservationId']}")
        return
    stored = {
        "id": (row["id"], told["reservationId"]),
        "negotiation": (str(row["negotiation_id"]), intent.args["negotiation"]),
        "tenant": (str(row["tenant_id"]), intent.tenant),
        "type": (row["type"], intent.args["type"]),
        "priority": (row["priority"], intent.args["priority"]),
        "requested": (row["total_requested"], _exact(told["totalRequested"])),
        "reserved": (row["total_reserved"], _exact(told["totalReserved"])),
        "first expiry": (row["first_expires_at"].isoformat(), told["expiresAt"]),
        "failed": (row["status"] == "FAILED", told["status"] == "FAILED"),
    }
    for name, (found, expected) in stored.items():
        if found != expected:
            yield Finding("differs", intent.key, f"{name} is {found}, answered {expected}")
    lines: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for line in books.lines[row["id"]]:
        lines[line["line_no"]] += line["reserved"]
    items: Amounts = _amounts()
    for number, item in enumerate(told["items"], 1):
        quantity = _exact(item["reservedQuantity"])
        items[item["sku"]] += quantity
        yield from _compare(intent.key, f"line {number}", lines[number], quantity)
        if min(item["availableBefore"], item["availableAfter"]) < 0:
            yield Finding("differs", intent.key, f"oversold: {item}")
    moves = books.moves.get(intent.key, [])
    yield from _match(intent.key, moves, "RESERVATION", items, row["id"])
    for move in moves:
        if move.type != "RESERVATION" and (
            move.type != "RELEASE" or move.reference != intent.args["replaces"]
        ):
            yield Finding("differs", intent.key, f"not by this command: {move}")
    replaced = books.reservations.get(intent.args["replaces"] or "")
    if told["success"] and replaced is not None and replaced["status"] == "ACTIVE":
        yield Finding("lost", intent.key, f"replaced {replaced['id']}, which is still active")


def _moved(books: Books, intent: Intent, told: Told) -> Iterator[Finding]:
    moves = books.moves.get(intent.key, [])
    expected: Amounts = _amounts()
    match intent.verb:
        case "release" | "consume":
            for item in told["itemsReleased"]:
                expected[item["sku"]] -= _exact(item["releasedQuantity"])
            if sum(expected.values(), ZERO) != -_exact(told["totalReleased"]):
                yield Finding("differs", intent.key, f"does not add up: {told}")
            type_ = "SALE" if intent.verb == "consume" else "RELEASE"
            yield from _match(intent.key, moves, type_, expected, *told["reservationId"].split(","))
        case "receive":
            yield from _received(intent, told, moves)
            type_ = "PURCHASE"
        case "negotiation":
            type_ = "RELEASE"
            references = {move.reference for move in moves}
            for missing in set(told["released"]) - references:
                yield Finding("lost", intent.key, f"did not release {missing}")
            for other in references - set(told["released"]):
                yield Finding("differs", intent.key, f"released {other} as well")
        case _:
            type_ = ""
    for move in moves:
        if move.type != type_:
            yield Finding("differs", intent.key, f"not by this command: {move}")


def _received(intent: Intent, told: Told, moves: list[Move]) -> Iterator[Finding]:
    quantity = Decimal(intent.args["quantity"])
    found = sum((move.total for move in moves), ZERO)
    yield from _compare(intent.key, f"receipt of {intent.args['sku']}", found, quantity)
    for move in moves[:1]:
        after = move.level_total, move.level_reserved
        answered = _exact(told["total"]), _exact(told["reserved"])
        if after != answered or move.sku != told["sku"]:
            yield Finding("differs", intent.key, f"the level was {after}, answered {answered}")


def _match(
    key: str, moves: list[Move], type_: str, expected: Amounts, *references: str
) -> Iterator[Finding]:
    """The movements of a command are of the reservations and the figures it answered."""
    found: Amounts = _amounts()
    for move in moves:
        if move.type != type_:
            continue
        found[move.sku] += move.reserved
        if move.reference not in references:
            yield Finding("differs", key, f"moved {move.reference}, answered {references}")
        if move.total != (move.reserved if type_ == "SALE" else ZERO):
            yield Finding("differs", key, f"moved the total by {move.total}")
    for sku in {*found, *expected}:
        yield from _compare(key, f"{type_} of {sku}", found[sku], expected[sku])


def _compare(key: str, name: str, found: Decimal, expected: Decimal) -> Iterator[Finding]:
    if found == expected:
        return
    if abs(found) < abs(expected):
        kind: Literal["lost", "doubled", "differs"] = "lost"
    elif expected and found % expected == 0:
        kind = "doubled"
    else:
        kind = "differs"
    yield Finding(kind, key, f"{name}: {found} in the database, answered {expected}")


# -- the whole ------------------------------------------------------------------------------


def _strangers(books: Books, story: Story) -> Iterator[Finding]:
    """Nothing is in the database that nobody asked for."""
    for key in {*books.keys, *books.commands} - {*story.intents}:
        yield Finding("differs", key, "in the database, but nobody asked for it")
    for name, moves in books.moves.items():
        if name in story.intents:
            continue
        taker = books.reservations.get(name or "")
        for move in moves:
            if taker is None or taker["type"] != "HARD" or move.type != "RELEASE":
                yield Finding("differs", f"movement {move.id}", f"by {name}, who did not ask")


def _reservations(books: Books) -> Iterator[Finding]:
    """What a reservation's lines say is what was moved for it."""
    for id_, row in books.reservations.items():
        lines: dict[str, Amounts] = defaultdict(_amounts)
        held = ZERO
        for line in books.lines.pop(id_, []):
            held += line["held"]
            of_line = lines[line["sku"]]
            of_line["RESERVATION"] += line["reserved"]
            of_line["SALE"] -= line["consumed"]
            of_line["RELEASE"] -= line["released"]
        if (row["status"] == "ACTIVE") != (held > 0):
            yield Finding("differs", id_, f"is {row['status']} and holds {held}")
        for sku, of_line in lines.items():
            moved = books.by_reservation.pop((id_, sku), {})
            for type_ in {*of_line, *moved}:
                yield from _compare(f"{id_} {sku}", type_, moved.get(type_, ZERO), of_line[type_])
    for id_ in books.lines:
        yield Finding("differs", id_, "lines without a reservation")
    for id_, sku in books.by_reservation:
        yield Finding("differs", f"{id_} {sku}", "movements without a line")


def _extensions(books: Books, story: Story) -> Iterator[Finding]:
    """The extensions of a reservation are numbered 1, 2, 3 and add up to its expiry."""
    numbers: dict[str, list[int]] = defaultdict(list)
    hours: dict[str, int] = defaultdict(int)
    for intent in story.effective:
        if intent.verb == "extend":
            told = story.answers[intent.key]
            numbers[told["reservationId"]].append(told["extensions"])
            hours[told["reservationId"]] += intent.args["hours"]
    for id_, row in books.reservations.items():
        told_numbers = sorted(numbers[id_])
        yield from _compare(
            id_, "extensions", Decimal(row["extensions"]), Decimal(len(told_numbers))
        )
        if told_numbers != list(range(1, len(told_numbers) + 1)):
            yield Finding("doubled", id_, f"extensions answered: {told_numbers}")
        expected: datetime = row["first_expires_at"] + timedelta(hours=hours[id_])
        if row["expires_at"] != expected:
            yield Finding("differs", id_, f"lasts until {row['expires_at']}, answered {expected}")


def _negotiations(books: Books, story: Story) -> Iterator[Finding]:
    """Who was told that a negotiation is dead never finds it alive."""
    states: dict[tuple[str, str], str] = {}
    for intent in story.effective:
        name = intent.tenant, intent.args.get("negotiation", "")
        if intent.verb == "negotiation" and states.get(name) != "DEAD":
            states[name] = intent.args["state"]
    for name in {*states, *books.negotiations}:
        if states.get(name) != books.negotiations.get(name):
            yield Finding(
                "differs",
                f"negotiation {name[1]}",
                f"is {books.negotiations.get(name)}, answered {states.get(name)}",
            )


def _totals(books: Books, story: Story) -> Iterator[Finding]:
    """By the answers alone: what came in and was not sold is on the shelf."""
    totals: dict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
    for intent in story.effective:
        told = story.answers[intent.key]
        if intent.verb == "receive":
            totals[intent.tenant, intent.args["sku"]] += Decimal(intent.args["quantity"])
        elif intent.verb == "consume":
            for item in told["itemsReleased"]:
                totals[intent.tenant, item["sku"]] -= _exact(item["releasedQuantity"])
    for place in {*totals, *books.totals}:
        if totals[place] != books.totals[place]:
            yield Finding(
                "differs",
                f"{place[1]} of {place[0]}",
                f"{books.totals[place]} on the shelf, by the answers {totals[place]}",
            )


def _exact(number: float) -> Decimal:
    return Decimal(str(number))
