"""The one way to a session: settings of a system in, a Source out."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from cerniq_stock.erp import sap_b1_push
from cerniq_stock.erp.config import ErpConfig, read_config
from cerniq_stock.erp.custom_api_session import opener
from cerniq_stock.erp.custom_api_settings import CustomApiConnection
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.microsoft_bc_session import MicrosoftBcConnection, open_microsoft_bc
from cerniq_stock.erp.oblio_session import OblioConnection, open_oblio
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.saga_session import SagaConnection, open_saga
from cerniq_stock.erp.sap_b1_session import SapB1Connection, open_sap_b1
from cerniq_stock.erp.session import Connection, Dial, fault_of
from cerniq_stock.erp.source import Booking, OpenSource, Source
from cerniq_stock.erp.systems import SYSTEMS, Capabilities
from cerniq_stock.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Line:
    """How one system is connected to: the model of its settings, and what opens a session."""

    settings: type[Connection]
    open: Callable[[Any, Dial, ErpConfig], OpenSource]


LINES: dict[SystemName, Line] = {
    SystemName.SAGA: Line(SagaConnection, open_saga),
    SystemName.SAP_B1: Line(SapB1Connection, open_sap_b1),
    SystemName.MICROSOFT_BC: Line(MicrosoftBcConnection, open_microsoft_bc),
    SystemName.OBLIO: Line(OblioConnection, open_oblio),
    SystemName.CUSTOM_API: Line(CustomApiConnection, opener(SystemName.CUSTOM_API)),
    SystemName.SENIOR: Line(CustomApiConnection, opener(SystemName.SENIOR)),
    SystemName.WIZCOUNT: Line(CustomApiConnection, opener(SystemName.WIZCOUNT)),
}
"""One entry for each system that is spoken to."""


@asynccontextmanager
async def open_source(
    system: SystemName,
    settings: Connection | Mapping[str, Any],
    policy: Policy,
    config: ErpConfig | None = None,
    **dial: Any,
) -> AsyncIterator[Source]:
    """Open a session. `settings` are the system's own, secrets in clear; `config` says how to read.

    `dial` has further fields of `session.Dial`: the operator's `ca_file`, and what is for tests.
    """
    given = settings if isinstance(settings, Connection) else read_connection(system, settings)
    how = Dial(policy, **dial)
    how.redactor.add(*given.secrets())
    async with LINES[system].open(given, how, config or read_config({})) as source:
        yield source


def capabilities(system: SystemName, connection: Connection | None = None) -> Capabilities:
    """Return what a system can do, by one connection's settings if they matter."""
    can = SYSTEMS[system].capabilities
    pushes = isinstance(connection, CustomApiConnection) and connection.push is not None
    return replace(can, push=True) if pushes else can


def may_book(system: SystemName) -> bool:
    """Tell whether there are settings by which a system takes sales."""
    line = LINES.get(system)
    own = line is not None and issubclass(line.settings, CustomApiConnection)
    return own or SYSTEMS[system].capabilities.push


def booking(connection: object, parse: ErpConfig) -> Booking | None:
    """Return how a connection takes sales; None: it takes none."""
    match connection:
        case SapB1Connection():
            places = connection.stock != "totals"
            return Booking(sap_b1_push.MOST, finds_repeats=True, places=places)
        case CustomApiConnection(push=push) if push is not None:
            mapped = parse.field_mapping is not None and parse.field_mapping.warehouse is not None
            return Booking(push.most, finds_repeats=push.lookup is not None, places=mapped)
        case _:
            return None


def read_connection(system: SystemName, given: Mapping[str, Any]) -> Connection:
    """Read a system's settings. Raises InvalidInputError naming the key, never what stood there."""
    line = LINES.get(system)
    if line is None:
        raise InvalidInputError("system", f"{system} has no connection: its files are imported")
    try:
        return line.settings.model_validate(given)
    except ValidationError as error:
        key, reason = fault_of(error, line.settings)
    raise InvalidInputError(key, f"Connection of {system}: {reason}")
