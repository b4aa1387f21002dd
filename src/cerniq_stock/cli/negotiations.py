"""`cerniq-stock negotiation`: the states that decide whether goods may be held."""

from typing import Annotated, Any
from uuid import uuid4

import typer

from cerniq_stock import validate
from cerniq_stock.cli.call import Call, accepted, command, group
from cerniq_stock.cli.options import By, Key
from cerniq_stock.cli.output import Shown
from cerniq_stock.domain.model import ENDS_NEGOTIATION, MAY_RESERVE

app = group(
    "States of negotiations, which decide about reserving.\n\n"
    "PROPOSAL, NEGOTIATION and CLOSING may reserve; DEAD and TIMEOUT release all that is held."
)


@command(
    app,
    "set",
    "negotiation set 0b6a1a3e-4f0e-4c1f-9f57-0c7f0f5b7a11 CLOSING",
    "negotiation set 0b6a1a3e-4f0e-4c1f-9f57-0c7f0f5b7a11 DEAD --by 'sales agent'",
)
async def set_state(
    call: Call,
    negotiation: Annotated[str, typer.Argument(metavar="UUID", help="Negotiation.")],
    state: Annotated[str, typer.Argument(metavar="STATE", help="A word, such as CLOSING.")],
    key: Key = None,
    by: By = None,
) -> Shown:
    """Record a negotiation's state; DEAD and TIMEOUT release all it holds.

    Another word than these and PROPOSAL, NEGOTIATION and CLOSING is kept, with a warning: nothing
    can be reserved in it, and what is held stays held.
    """
    answer = await _set(call, negotiation, state, key=key, by=by)
    before = answer.previous_state or "new"
    text = f"Negotiation {answer.negotiation_id}: {before} -> {answer.state}"
    freed = tuple(f"Reservation {id_} was released" for id_ in answer.released)
    return Shown(answer, (text, *freed), _warnings(answer.state))


@command(
    app,
    "new",
    "negotiation new",
    "negotiation new CLOSING",
    "reserve --negotiation $(cerniq-stock negotiation new) --line LAPTOP-14=3",
)
async def new(
    call: Call,
    state: Annotated[
        str, typer.Argument(metavar="STATE", help="A word, such as CLOSING.")
    ] = "PROPOSAL",
    by: By = None,
) -> Shown:
    """Make a negotiation and print its id."""
    answer = await _set(call, str(uuid4()), state, key=None, by=by)
    return Shown(answer, (str(answer.negotiation_id),), _warnings(answer.state))


def _warnings(state: str) -> tuple[str, ...]:
    """A word that the engine knows nothing of may be meant, or mistyped."""
    if state in MAY_RESERVE | ENDS_NEGOTIATION:
        return ()
    may, end = (", ".join(sorted(words)) for words in (MAY_RESERVE, ENDS_NEGOTIATION))
    known = f"{may} may reserve; {end} release all that is held"
    return (f"{state} is not among the states known ({known}): nothing can be reserved in it",)


async def _set(call: Call, negotiation: str, state: str, *, key: str | None, by: str | None) -> Any:
    negotiation_id = validate.uuid("negotiationId", negotiation)
    word = validate.state("state", state.upper())
    async with call.tenant() as (stock, tenant):
        return accepted(
            await stock.set_negotiation(tenant.id, negotiation_id, word, key=key, by=by)
        )
