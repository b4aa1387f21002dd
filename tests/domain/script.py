"""Decision tables: one command or one question per row, what must come of it after `->`.

    stock    A 10
    reserve  r1 A=4 B=1 hard      -> PARTIAL 4 0:PRODUCT_NOT_FOUND
    level    A                    -> 10 4 0

A table is run against an engine: the pure core one command at a time, the pure core with all
commands between two questions in one batch, or PostgreSQL. The outcome must be the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import uuid4

import asyncpg

from cerniq_stock.domain.batch import decide_many
from cerniq_stock.domain.commands import Command, DeductOrder, Item, ReleaseOrder, ReturnOrder
from cerniq_stock.domain.messages import plain
from cerniq_stock.domain.model import NEVER, Level, Movement, Notification, Product, Tenant, Unit
from cerniq_stock.domain.outcomes import (
    ExtendResult,
    ItemResult,
    LevelResult,
    NegotiationResult,
    OrderResult,
    Refused,
    ReleaseResult,
    ReserveResult,
)
from cerniq_stock.domain.reserve import REPLAYED
from cerniq_stock.domain.work import State
from cerniq_stock.store.transaction import Transaction
from tests import helpers
from tests.helpers import NOW, Stored, fold, product, shop, uid, with_due


class Engine(Protocol):
    async def start(self, state: State) -> None: ...
    async def decide(self, commands: Sequence[Command]) -> Sequence[Any]: ...
    async def wait(self, by: timedelta) -> None: ...
    async def look(self) -> tuple[Stored, datetime]: ...


class Pure:
    """The domain alone; `batched` puts as much as possible into one batch."""

    def __init__(self, *, batched: bool) -> None:
        self.batched = batched

    async def start(self, state: State) -> None:
        self.stored, self.now = Stored(state, (), ()), NOW

    async def decide(self, commands: Sequence[Command]) -> Sequence[Any]:
        batches = [commands] if self.batched else [[command] for command in commands]
        answers: list[Any] = []
        for batch in batches:
            state = with_due(self.stored.state, self.now)
            told, changes = decide_many(state, batch, self.now)
            answers += told
            self.stored = Stored(
                fold(self.stored.state, changes),
                self.stored.movements + changes.movements,
                self.stored.notifications + changes.notifications,
            )
        return answers

    async def wait(self, by: timedelta) -> None:
        self.now += by

    async def look(self) -> tuple[Stored, datetime]:
        return self.stored, self.now


class Postgres:
    """The same on PostgreSQL: the application role decides, a superuser looks."""

    def __init__(self, app: asyncpg.Connection, superuser: asyncpg.Connection) -> None:
        self.app, self.superuser = app, superuser

    async def start(self, state: State) -> None:
        self.tenant = replace(state.tenant, id=uuid4())
        await helpers.put(self.superuser, replace(state, tenant=self.tenant))
        stored = await helpers.read_back(self.superuser, self.tenant)
        self.seen = len(stored.movements)

    async def decide(self, commands: Sequence[Command]) -> Sequence[Any]:
        return [
            answer
            for command in commands
            for answer in await Transaction(self.tenant.id, [command]).run(self.app)
        ]

    async def wait(self, by: timedelta) -> None:
        await helpers.shift_expiry(self.superuser, self.tenant.id, by)

    async def look(self) -> tuple[Stored, datetime]:
        stored = await helpers.read_back(self.superuser, self.tenant)
        now = await self.superuser.fetchval("SELECT clock_timestamp()")
        # how the shop was stocked is no part of the table
        return replace(stored, movements=stored.movements[self.seen :]), now


async def check(engine: Engine, table: str) -> None:
    """Run a table; the first row that comes out differently is named."""
    rows = [row for line in table.splitlines() if (row := line.partition("#")[0].strip())]
    setup = [row for row in rows if "->" not in row and row.split()[0] in SETUP]
    await engine.start(_opening([row.split() for row in setup]))
    script = _Script(engine)
    for row in rows[len(setup) :]:
        await script.row(row)
    await script.flush()


SETUP = ("tenant", "product", "stock", "deal")


def _opening(rows: list[list[str]]) -> State:
    tenant = Tenant(uid("tenant"), "Shop")
    products: dict[str, Product] = {}
    levels: dict[str, list[Level]] = {}
    deals = {"n1": "PROPOSAL"}
    for verb, *words in rows:
        plain_words, options = _options(words)
        match verb, plain_words:
            case "tenant", []:
                warehouses = tuple(options.pop("warehouses", "MAIN").split(","))
                limits = {k: int(v) for k, v in options.items() if k != "language"}
                language = options.get("language", "ro")
                tenant = replace(tenant, warehouses=warehouses, language=language, **limits)
            case "product", [sku]:
                if "reorder_point" in options:
                    options["reorder_point"] = Decimal(options["reorder_point"])
                if "restock_date" in options:
                    options["restock_date"] = date.fromisoformat(options["restock_date"])
                products[sku] = product(sku, **options)
            case "stock", [sku, total, *rest]:
                blocked, *where = [*rest, "0"][:1] + rest[1:]
                warehouse = (where or [tenant.warehouses[0]])[0]
                figures = Decimal(total), Decimal(0), Decimal(blocked)
                products.setdefault(sku, product(sku))
                levels.setdefault(sku, []).append(Level(uid(sku), warehouse, *figures, 0))
            case "deal", [name, state]:
                deals[name] = state
            case _:
                raise AssertionError((verb, words))
    state = shop({}, tenant=tenant, products=products.values(), negotiations=deals)
    return replace(
        state,
        levels=state.levels | {uid(sku): tuple(of) for sku, of in levels.items()},
    )


def _options(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Words of the form name=value, for names in small letters, apart from the others."""
    pairs = [word.partition("=") for word in words]
    options = {name: value for name, eq, value in pairs if eq and name.islower()}
    return [word for word in words if word.partition("=")[0] not in options], options


class _Script:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.queue: list[tuple[str, Command, str]] = []
        self.told = 0
        self.moved = 0
        self.answers: dict[str, Any] = {}

    async def row(self, row: str) -> None:
        left, _, expected = (part.strip() for part in row.partition("->"))
        verb, *words = left.split()
        if verb in COMMANDS:
            self.queue.append((row, COMMANDS[verb](*words), expected))
            return
        await self.flush()
        if verb == "wait":
            await self.engine.wait(_duration(words[0]))
        else:
            stored, now = await self.engine.look()
            _expect(row, expected, getattr(self, f"_{verb}")(stored, now, *words))

    async def flush(self) -> None:
        """Ask the engine what was gathered since the last question, and compare."""
        queue, self.queue = self.queue, []
        if queue:
            answers = await self.engine.decide([command for _, command, _ in queue])
            for (row, command, expected), answer in zip(queue, answers, strict=True):
                _expect(row, expected, show(answer))
                self.answers[getattr(command, "reservation_id", "")] = answer

    # -- questions --------------------------------------------------------------------------

    def _level(self, stored: Stored, _: datetime, sku: str, warehouse: str = "") -> str:
        """Total, reserved and blocked of a level; `none` where there is no row."""
        levels = stored.state.levels[uid(sku)]
        for level in levels:
            if level.warehouse == (warehouse or stored.state.tenant.warehouses[0]):
                return " ".join(map(plain, level[2:5]))
        return "none"

    def _available(self, stored: Stored, now: datetime, sku: str) -> str:
        levels = with_due(stored.state, now).levels[uid(sku)]
        return plain(sum((level.available for level in levels), Decimal(0)))

    def _holds(self, stored: Stored, _: datetime, id_: str) -> str:
        """Status, reason of its end, and what each line holds (in which warehouse, if several)."""
        reservation = stored.state.reservations[id_]
        several = len(stored.state.tenant.warehouses) > 1
        held = [
            f"{line.sku}{'@' + line.warehouse if several else ''}={plain(line.held)}"
            for line in reservation.lines
            if line.held
        ]
        return " ".join([reservation.status, *filter(None, [reservation.release_reason]), *held])

    def _lasts(self, stored: Stored, now: datetime, id_: str) -> str:
        until = stored.state.reservations[id_].expires_at
        return "for ever" if until == NEVER else f"{round((until - now) / timedelta(hours=1))}h"

    def _saw(self, _: Stored, __: datetime, id_: str) -> str:
        """What each line found available and what it left."""
        items: tuple[ItemResult, ...] = self.answers[id_].items
        return " ".join(f"{plain(i.available_before)}>{plain(i.available_after)}" for i in items)

    def _backorder(self, _: Stored, __: datetime, id_: str) -> str:
        return " ".join(str(item.backorder_date or "-") for item in self.answers[id_].items)

    def _stands(self, stored: Stored, _: datetime, name: str) -> str:
        """Status and, of each line, quantity, reserved, deducted, released, returned."""
        order = stored.state.orders[uid(name)]
        lines = [f"{x.sku}={'/'.join(map(plain, x[3:]))}" for x in order.lines]
        return " ".join([order.status, *lines])

    def _told(self, stored: Stored, _: datetime) -> str:
        """Notifications since this was last asked."""
        new, self.told = stored.notifications[self.told :], len(stored.notifications)
        return " ".join(map(_show_notification, new)) or "nothing"

    def _moved(self, stored: Stored, _: datetime) -> str:
        """Movements since this was last asked, in the order of their level."""
        new, self.moved = stored.movements[self.moved :], len(stored.movements)
        return " ; ".join(map(_show_movement, new)) or "nothing"

    def _deal(self, stored: Stored, _: datetime, name: str) -> str:
        return stored.state.negotiations.get(uid(name), "none")


def _duration(text: str) -> timedelta:
    unit = {"h": "hours", "m": "minutes", "u": "microseconds"}[text[-1]]
    return timedelta(**{unit: int(text[:-1])})


def _expect(row: str, expected: str, found: str) -> None:
    assert found == " ".join(expected.split()), f"{row}\n    came out as: {found}"


# -- commands -------------------------------------------------------------------------------


def _reserve(id_: str, *words: str) -> Command:
    plain_words, options = _options(words)
    flags = {word.upper() for word in plain_words if "=" not in word}
    unit, other = options.pop("unit", None), options.pop("id", None)
    items = [
        Item(sku, quantity, uid(other) if other else None, Unit(unit) if unit else None)
        for sku, quantity in helpers.amounts(" ".join(w for w in plain_words if "=" in w))
    ]
    if "hours" in options:
        options["expires_in_h"] = int(options.pop("hours"))
    options["type"] = "HARD" if "HARD" in flags else "SOFT"
    options["priority"] = next(iter(flags & {"HIGH", "URGENT"}), "NORMAL")
    assert flags <= {"HARD", "HIGH", "URGENT"}, words
    return helpers.reserve(id_, items, **options)


def _release(of: str, *words: str) -> Command:
    plain_words, options = _options(words)
    reason = next((word for word in plain_words if "=" not in word), "MANUAL")
    items = " ".join(word for word in plain_words if "=" in word) or None
    return helpers.release(of, items, reason=reason, **options)


def _of_level(make: Any) -> Any:
    def command(item: str, *words: str) -> Command:
        _, options = _options(words)
        return make(item, **options)

    return command


def _adjust(sku: str, *words: str) -> Command:
    """`adjust A -3 +2`: total, then blocked."""
    plain_words, options = _options(words)
    return helpers.adjust(sku, *plain_words, **options)


def _extend(of: str, hours: str, *words: str) -> Command:
    return helpers.extend(of, int(hours), **_options(words)[1])


def _negotiation(name: str, state: str, *words: str) -> Command:
    return helpers.negotiation(name, state, **_options(words)[1])


def _order(name: str, *words: str) -> Command:
    """`order o1 A=2 B=1 of=n1`."""
    plain_words, options = _options(words)
    unit = options.pop("unit", None)
    items = [
        Item(sku, n, None, Unit(unit) if unit else None)
        for sku, n in helpers.amounts(" ".join(plain_words))
    ]
    return helpers.order(name, items, **options)


def _of_order(kind: Any) -> Any:
    def command(name: str, *words: str) -> Command:
        plain_words, options = _options(words)
        return helpers.of_order(kind, name, " ".join(plain_words) or None, **options)

    return command


COMMANDS = {
    "order": _order,
    "hold": lambda name, id_, *words: helpers.reserve_order(name, id_, **_options(words)[1]),
    "cancel": _of_order(ReleaseOrder),
    "deliver": _of_order(DeductOrder),
    "return": _of_order(ReturnOrder),
    "reserve": _reserve,
    "release": _release,
    "consume": lambda of, *words: _release(of, *words, "CONSUMED"),
    "extend": _extend,
    "negotiation": _negotiation,
    "receive": _of_level(helpers.receive),
    "take_back": _of_level(helpers.take_back),
    "count": _of_level(helpers.count),
    "adjust": _adjust,
}


# -- answers --------------------------------------------------------------------------------


def show(answer: Any) -> str:
    """An answer in the words of the tables."""
    return " ".join(_SHOW[type(answer)](answer))


def _show_reserve(answer: ReserveResult) -> list[str]:
    assert answer.success == (answer.total_reserved > 0)
    again = ["again"] if REPLAYED in answer.warnings else []
    if answer.reservation_id is None:
        assert answer.status == "FAILED"
        assert not answer.items
        return [answer.errors[0].code, *again]
    assert answer.total_reserved == sum(item.reserved_quantity for item in answer.items)
    errors = list(answer.errors)
    words = []
    for item in answer.items:
        refused = errors and not item.reserved_quantity
        code = f":{errors.pop(0).code}" if refused else ""
        words.append(f"{plain(item.reserved_quantity)}{code}")
    return [answer.status, *words, *again]


def _show_release(answer: ReleaseResult) -> list[str]:
    assert answer.success
    assert answer.total_released == sum(item.released_quantity for item in answer.items_released)
    was = [] if answer.previous_status == "ACTIVE" else [f"({answer.previous_status})"]
    items = [f"{item.sku}={plain(item.released_quantity)}" for item in answer.items_released]
    return [answer.new_status, *was, *items, *(["warned"] if answer.warnings else [])]


def _show_level(answer: LevelResult) -> list[str]:
    figures = answer.total, answer.reserved, answer.blocked, answer.available
    return [*map(plain, figures), *answer.displaced]


def _show_negotiation(answer: NegotiationResult) -> list[str]:
    return [answer.previous_state or "new", ">", answer.state, *answer.released]


def _show_extend(answer: ExtendResult) -> list[str]:
    return [answer.reservation_id, f"x{answer.extensions}"]


def _show_order(answer: OrderResult) -> list[str]:
    """Status, how much was done; or each line that could not be."""
    assert answer.success != bool(answer.errors)
    if answer.errors:
        assert not answer.quantity
        return [f"{error.sku}:{error.code}" for error in answer.errors]
    return [answer.status, plain(answer.quantity), *(["warned"] if answer.warnings else [])]


_SHOW: dict[type, Any] = {
    OrderResult: _show_order,
    ReserveResult: _show_reserve,
    ReleaseResult: _show_release,
    ExtendResult: _show_extend,
    NegotiationResult: _show_negotiation,
    LevelResult: _show_level,
    Refused: lambda answer: [answer.code],
}


def _show_notification(of: Notification) -> str:
    named = of.entity_id if of.entity_type == "RESERVATION" else of.message.split("SKU: ")[1][0]
    return f"{of.type}:{named}"


def _show_movement(of: Movement) -> str:
    """Type, SKU, changes of total, reserved and blocked, what it refers to, and who did it."""
    deltas = "/".join(map(plain, (of.total_delta, of.reserved_delta, of.blocked_delta)))
    words = [of.type, of.sku, deltas, of.reference_id or "", f"by={of.created_by}"]
    return " ".join(word for word in words if word not in ("", "by=None"))
