"""One batch of a tenant's commands as one transaction: lock, load, decide, write once."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from cerniq_stock.domain.batch import decide_many
from cerniq_stock.domain.commands import Command, Reserve
from cerniq_stock.domain.model import ZERO
from cerniq_stock.domain.outcomes import (
    Answer,
    Refusal,
    Refused,
    ReservationError,
    ReserveResult,
)
from cerniq_stock.store.begin import NEW_STATE, MadeMeanwhileError, begin
from cerniq_stock.store.load import load
from cerniq_stock.store.queries import SQL
from cerniq_stock.store.write import Proof, write

Result = ReserveResult | Answer


class Transaction:
    """A batch on its way through the database.

    `answers` and `proof` are there from the moment of COMMIT on: should its outcome be lost on the
    wire, a row that only this batch wrote tells whether it took effect.
    """

    def __init__(
        self,
        tenant_id: UUID,
        commands: Sequence[Command],
        *,
        lock_timeout_ms: int | None = None,
        dry: bool = False,
        first: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
    ) -> None:
        """`lock_timeout_ms` is how long to wait for a lock, instead of the connection's limit.

        A `dry` one decides as it would, and writes nothing; `first` makes what is to be supposed.
        """
        assert dry or first is None, "what is supposed is not to stay"
        self.tenant_id = tenant_id
        self.commands = commands
        self.lock_timeout_ms = lock_timeout_ms
        self.dry = dry
        self.first = first
        self.answers: tuple[Result, ...] = ()
        self.proof: Proof | None = None

    async def run(self, connection: asyncpg.Connection) -> tuple[Result, ...]:
        """Decide and commit; return the answers in the order of the commands.

        May be run again on another connection after the first was lost: what was committed then
        is not done again.
        """
        while True:
            try:
                return await self._run(connection)
            except MadeMeanwhileError:
                await connection.execute("ROLLBACK")
            except BaseException:
                if not connection.is_closed() and connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
                raise

    async def _run(self, connection: asyncpg.Connection) -> tuple[Result, ...]:
        named = await begin(connection, self.tenant_id, self.commands, self.lock_timeout_ms)
        if self.first is not None:
            await self.first(connection)
        state, now, places = await load(connection, self.tenant_id, self.commands, named)
        # after the locks: by now the lost transaction has ended, one way or the other
        if self.proof is not None and await connection.fetchval(
            SQL["was_written"], self.tenant_id, *self.proof
        ):
            await connection.execute("ROLLBACK")
            return self.answers
        self.proof = None
        if state is None:
            self.answers = tuple(_no_tenant(command, now) for command in self.commands)
        else:
            self.answers, changes = decide_many(state, self.commands, now)
            if self.dry:
                await connection.execute("ROLLBACK")
                return self.answers
            self.proof = await write(connection, state.tenant.id, changes, now, places)
            undecided = named.changing_negotiations.difference(dict(changes.negotiations))
            if undecided:
                await connection.execute(
                    SQL["drop_negotiations"], self.tenant_id, list(undecided), NEW_STATE
                )
        await connection.execute("COMMIT")
        return self.answers


def _no_tenant(command: Command, now: datetime) -> Result:
    refused = Refused(Refusal.TENANT_NOT_FOUND, "No such tenant")
    if not isinstance(command, Reserve):
        return refused
    return ReserveResult(
        success=False,
        reservation_id=None,
        reservation_key=command.key,
        status="FAILED",
        items=(),
        total_reserved=ZERO,
        total_requested=sum((item.quantity for item in command.items), ZERO),
        expires_at=now + timedelta(hours=command.expires_in_h or 0),
        warnings=(),
        errors=(ReservationError("", refused.code, refused.message),),
    )
