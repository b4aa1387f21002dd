"""The working copy of one batch: loaded figures, and what the commands so far have changed.

The commands of a batch see each other through it. It never leaves `decide_many`, which is why
the outside of the domain is pure although the inside updates dictionaries.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from cerniq_stock.domain import messages
from cerniq_stock.domain.commands import Reserve
from cerniq_stock.domain.model import (
    NEVER,
    PRIORITY_RANK,
    ZERO,
    Level,
    Line,
    Movement,
    MovementType,
    Notification,
    Order,
    Product,
    ProductStatus,
    ReleaseReason,
    Reservation,
    ReservationStatus,
    ReservationType,
    Tenant,
)
from cerniq_stock.domain.outcomes import Answer, ReserveResult
from cerniq_stock.domain.sync import Remembered


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a batch of one tenant's commands may look at, loaded under its locks.

    `levels` are in the tenant's warehouse order. `reservations` holds those that the commands
    name, and those that may have to give way. Answers stand with the digest of their question.
    """

    tenant: Tenant
    products: Mapping[str, Product]
    levels: Mapping[UUID, tuple[Level, ...]]
    negotiations: Mapping[UUID, str] = field(default_factory=dict)
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    reserve_answers: Mapping[str, tuple[bytes, ReserveResult]] = field(default_factory=dict)
    answers: Mapping[str, tuple[bytes, Answer]] = field(default_factory=dict)
    orders: Mapping[UUID, Order] = field(default_factory=dict)


class Created(NamedTuple):
    """A reservation as it was made in this batch, with its command and its first answer."""

    reservation: Reservation
    command: Reserve
    answer: ReserveResult


class Synced(NamedTuple):
    """What an integration remembers of a level from now on."""

    integration_id: UUID
    product_id: UUID
    warehouse: str
    remembered: Remembered


@dataclass(frozen=True, slots=True)
class Changes:
    """What a batch writes.

    Levels in their final state; reservations as they were made; and reservations that changed
    (they may have been made in this very batch) in their final state. Orders in their final state.
    """

    levels: tuple[Level, ...] = ()
    created: tuple[Created, ...] = ()
    changed: tuple[Reservation, ...] = ()
    movements: tuple[Movement, ...] = ()
    notifications: tuple[Notification, ...] = ()
    negotiations: tuple[tuple[UUID, str], ...] = ()
    answers: tuple[tuple[str, bytes, Answer], ...] = ()
    new_orders: tuple[Order, ...] = ()
    changed_orders: tuple[Order, ...] = ()
    synced: tuple[Synced, ...] = ()


class Reference(NamedTuple):
    """What a movement refers to: type and id of a document, the negotiation, and the order."""

    type: str | None = None
    id: str | None = None
    negotiation_id: UUID | None = None
    order_id: UUID | None = None


NO_REFERENCE = Reference()


def held_by(reservation: Reservation | Reserve) -> Reference:
    """Who holds what moves."""
    id_ = reservation.id if isinstance(reservation, Reservation) else reservation.reservation_id
    return Reference("RESERVATION", id_, reservation.negotiation_id, reservation.order_id)


class Work:
    """Mutable during one batch, private to it."""

    def __init__(self, state: State, now: datetime) -> None:
        self.now = now
        self.tenant = state.tenant
        self.products = state.products
        self.levels = {product_id: list(levels) for product_id, levels in state.levels.items()}
        self.negotiations = dict(state.negotiations)
        self.reservations = dict(state.reservations)
        self.reserve_answers = dict(state.reserve_answers)
        self.answers = dict(state.answers)
        self.orders = dict(state.orders)
        self.created: list[Created] = []
        self.changed_levels: set[tuple[UUID, str]] = set()
        self.changed_reservations: set[str] = set()
        self.changed_negotiations: set[UUID] = set()
        self.new_orders: set[UUID] = set()
        self.changed_orders: set[UUID] = set()
        self.new_answers: list[str] = []
        self.movements: list[Movement] = []
        self.notifications: list[Notification] = []
        self.synced: list[Synced] = []
        self._holders: dict[UUID, list[str]] | None = None
        self._until: dict[int, datetime] = {}

    def changes(self) -> Changes:
        """Freeze what is to be written."""
        reservations = self.reservations
        changed = self.changed_levels
        return Changes(
            levels=tuple(
                level
                for product_id in dict.fromkeys([product_id for product_id, _ in changed])
                for level in self.levels[product_id]
                if (product_id, level.warehouse) in changed
            ),
            created=tuple(self.created),
            changed=tuple(reservations[id_] for id_ in sorted(self.changed_reservations)),
            movements=tuple(self.movements),
            notifications=tuple(self.notifications),
            negotiations=tuple((id_, self.negotiations[id_]) for id_ in self.changed_negotiations),
            answers=tuple((key, *self.answers[key]) for key in self.new_answers),
            new_orders=tuple(self.orders[id_] for id_ in sorted(self.new_orders)),
            changed_orders=tuple(
                self.orders[id_] for id_ in sorted(self.changed_orders - self.new_orders)
            ),
            synced=tuple(self.synced),
        )

    def hours_from_now(self, hours: int | None) -> datetime:
        """When something of so many hours ends; a batch asks for few different ones."""
        if hours is None:
            return NEVER
        until = self._until.get(hours)
        if until is None:
            until = self._until[hours] = self.now + timedelta(hours=hours)
        return until

    # -- levels -----------------------------------------------------------------------------

    def free(self, product_id: UUID) -> Decimal:
        """What the stored figures of a product leave, over all warehouses."""
        levels = self.levels[product_id]
        return levels[0].free if len(levels) == 1 else sum((x.free for x in levels), ZERO)

    def available(self, product_id: UUID) -> Decimal:
        """What of a product can be promised, over all warehouses."""
        levels = self.levels[product_id]
        return levels[0].available if len(levels) == 1 else sum((x.available for x in levels), ZERO)

    def index(self, product_id: UUID, warehouse: str) -> int:
        """Place of a warehouse's level among the product's; a level is made where none is."""
        levels = self.levels[product_id]
        for index, level in enumerate(levels):
            if level.warehouse == warehouse:
                return index
        order = self.tenant.warehouses
        earlier = set(order[: order.index(warehouse)])
        index = sum(level.warehouse in earlier for level in levels)
        levels.insert(index, Level(product_id, warehouse, ZERO, ZERO, ZERO, 0))
        return index

    def move(
        self,
        product_id: UUID,
        sku: str,
        index: int,
        kind: MovementType,
        *,
        total: Decimal = ZERO,
        reserved: Decimal = ZERO,
        blocked: Decimal = ZERO,
        reference: Reference = NO_REFERENCE,
        notes: str | None = None,
        by: str | None = None,
    ) -> Level:
        """Change one level and record the movement. Every change of stock passes here."""
        levels = self.levels[product_id]
        _, warehouse, old_total, old_reserved, old_blocked, version, due = levels[index]
        new_total = old_total + total
        new_reserved = old_reserved + reserved
        new_blocked = old_blocked + blocked
        assert new_reserved >= 0 <= new_blocked, levels[index]
        assert new_total >= new_reserved + new_blocked, levels[index]
        version += 1
        new = Level(product_id, warehouse, new_total, new_reserved, new_blocked, version, due)
        levels[index] = new
        self.changed_levels.add((product_id, warehouse))
        before = old_total - old_reserved - old_blocked
        self.movements.append(
            Movement(
                product_id,
                sku,
                warehouse,
                kind,
                total,
                reserved,
                blocked,
                before,
                version,
                *reference,
                notes,
                by,
            )
        )
        return new

    def tell_if_low(self, product: Product, before: Decimal, after: Decimal) -> None:
        """Notify once when `available` falls to the reorder point (§7.3)."""
        if after <= product.reorder_point < before and product.status == ProductStatus.ACTIVE:
            self.notifications.append(messages.low_stock(self.tenant.language, product, after))

    # -- reservations -----------------------------------------------------------------------

    def add_reservation(
        self, reservation: Reservation, command: Reserve, answer: ReserveResult
    ) -> None:
        """Keep a new reservation, its question and its answer."""
        self.reservations[reservation.id] = reservation
        self.created.append(Created(reservation, command, answer))
        self.reserve_answers[command.key] = (command.fingerprint, answer)
        if self._holders is not None:
            for product_id in {line.product_id for line in reservation.lines}:
                self._holders.setdefault(product_id, []).append(reservation.id)

    def holders(self, product_id: UUID) -> list[Reservation]:
        """Loaded reservations with a line on the product, ended ones included."""
        if self._holders is None:
            self._holders = {}
            for reservation in self.reservations.values():
                for held in {line.product_id for line in reservation.lines}:
                    self._holders.setdefault(held, []).append(reservation.id)
        return [self.reservations[id_] for id_ in self._holders.get(product_id, ())]

    def give_back(
        self,
        reservation: Reservation,
        amounts: Mapping[tuple[int, str], Decimal],
        reason: ReleaseReason,
        *,
        notes: str | None = None,
        by: str | None = None,
    ) -> Reservation:
        """Release, or with CONSUMED sell, so much of each (line_no, warehouse).

        The reservation ends when nothing is left. Its fresh copy is returned.
        """
        lines = tuple(
            self._give_line_back(reservation, line, amount, reason, notes, by)
            if (amount := amounts.get((line.line_no, line.warehouse)))
            else line
            for line in reservation.lines
        )
        fresh = reservation._replace(lines=lines)
        if not any(line.held for line in lines):
            fresh = fresh._replace(
                status=_END_STATUS.get(reason, ReservationStatus.RELEASED),
                released_at=self.now,
                release_reason=reason,
                released_by=by,
                release_notes=notes,
            )
        self.reservations[fresh.id] = fresh
        self.changed_reservations.add(fresh.id)
        return fresh

    def _give_line_back(
        self,
        reservation: Reservation,
        line: Line,
        amount: Decimal,
        reason: ReleaseReason,
        notes: str | None,
        by: str | None,
    ) -> Line:
        assert ZERO < amount <= line.held, (line, amount)
        sold = reason is ReleaseReason.CONSUMED
        index = self.index(line.product_id, line.warehouse)
        self.move(
            line.product_id,
            line.sku,
            index,
            MovementType.SALE if sold else MovementType.RELEASE,
            total=-amount if sold else ZERO,
            reserved=-amount,
            reference=held_by(reservation),
            notes=notes or reason.value,
            by=by,
        )
        if not reservation.live(self.now):
            levels = self.levels[line.product_id]
            level = levels[index]
            levels[index] = level._replace(due=max(level.due - amount, ZERO))
        if sold:
            return line._replace(consumed=line.consumed + amount)
        return line._replace(released=line.released + amount)

    def expire(self, reservation: Reservation, *, only: UUID | None = None) -> Reservation:
        """Write down that a reservation is over (of one product, where `only` says so)."""
        amounts = {
            (line.line_no, line.warehouse): line.held
            for line in reservation.lines
            if line.held and only in (None, line.product_id)
        }
        return self.give_back(reservation, amounts, ReleaseReason.EXPIRED)

    # -- giving way -------------------------------------------------------------------------

    def expire_holders(self, product_id: UUID) -> None:
        """Write down every loaded reservation of the product that is past its expiry."""
        for reservation in self.holders(product_id):
            if reservation.status == ReservationStatus.ACTIVE and not reservation.live(self.now):
                self.expire(reservation, only=product_id)

    def soft_lines(
        self, product_id: UUID, warehouse: str | None = None
    ) -> Iterator[tuple[Reservation, Line]]:
        """Lines that give way to HARD: lowest priority first, then the latest created first."""
        soft = [
            reservation
            for reservation in self.holders(product_id)
            if reservation.type == ReservationType.SOFT and reservation.live(self.now)
        ]
        soft.sort(key=lambda r: (r.created_at, r.id), reverse=True)
        soft.sort(key=lambda r: PRIORITY_RANK[r.priority])
        for reservation in soft:
            for line in reservation.lines:
                if (
                    line.held
                    and line.product_id == product_id
                    and warehouse in (None, line.warehouse)
                ):
                    yield reservation, line

    def displace(
        self, product: Product, lacking: Decimal, taker: str, warehouse: str | None = None
    ) -> list[str]:
        """Take up to `lacking` from SOFT reservations. Returns the ids of those displaced."""
        displaced: dict[str, Decimal] = {}
        for victim, line in list(self.soft_lines(product.id, warehouse)):
            if lacking <= 0:
                break
            amount = min(line.held, lacking)
            lacking -= amount
            self.give_back(
                self.reservations[victim.id],
                {(line.line_no, line.warehouse): amount},
                ReleaseReason.REPLACED,
                notes=f"displaced by {taker}",
                by=taker,
            )
            displaced[victim.id] = displaced.get(victim.id, ZERO) + amount
        for id_, amount in displaced.items():
            self.notifications.append(
                messages.displaced(self.tenant.language, product, self.reservations[id_], amount)
            )
        return list(displaced)


_END_STATUS = {
    ReleaseReason.CONSUMED: ReservationStatus.CONSUMED,
    ReleaseReason.EXPIRED: ReservationStatus.EXPIRED,
}
