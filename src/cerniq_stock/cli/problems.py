"""What can go wrong, as one sentence and one exit code. The tables of exit codes stand here."""

import re
from dataclasses import dataclass
from typing import Any

from cerniq_stock.domain.outcomes import Refusal
from cerniq_stock.errors import CerniqError, InvalidInputError, UnavailableError

OK = 0
ERROR = 1
USAGE = 2
NOT_FOUND = 3
REFUSED = 4
INVALID = 5
ERP = 6
UNAVAILABLE = 7
INTERRUPTED = 130

EXIT_CODES = {
    OK: "done; a reservation in part is done too, with a warning",
    ERROR: "error, or `verify` or `doctor` found something",
    USAGE: "the command line makes no sense: unknown command or option, nothing to work on",
    NOT_FOUND: "not found: tenant, SKU, warehouse, reservation, negotiation, ERP",
    REFUSED: "refused: nothing available, key used before, reservation over, ...",
    INVALID: "invalid input, or settings that do not fit; nothing was changed",
    ERP: "the ERP refuses, or answers what makes no sense; nothing was changed",
    UNAVAILABLE: "the database or the ERP is away, busy or slow; try again, with the same --key",
    INTERRUPTED: "interrupted",
}

REFUSALS = {
    Refusal.TENANT_NOT_FOUND: NOT_FOUND,
    Refusal.RESERVATION_EXISTS: REFUSED,
    Refusal.ORDER_EXISTS: REFUSED,
    Refusal.ORDER_NOT_FOUND: NOT_FOUND,
    Refusal.ORDER_CANCELLED: REFUSED,
    Refusal.NEGOTIATION_NOT_FOUND: NOT_FOUND,
    Refusal.NEGOTIATION_CLOSED: REFUSED,
    Refusal.RESERVATION_NOT_FOUND: NOT_FOUND,
    Refusal.RESERVATION_EXPIRED: REFUSED,
    Refusal.RESERVATION_ENDED: REFUSED,
    Refusal.ORDER_HOLDS: REFUSED,
    Refusal.NOT_EXPIRED: REFUSED,
    Refusal.EXTENSION_LIMIT: REFUSED,
    Refusal.DURATION_LIMIT: REFUSED,
    Refusal.PRODUCT_UNKNOWN: NOT_FOUND,
    Refusal.WAREHOUSE_UNKNOWN: NOT_FOUND,
    Refusal.UNIT_MISMATCH: INVALID,
    Refusal.QUANTITY_TOO_PRECISE: INVALID,
    Refusal.NOT_ORDERED: NOT_FOUND,
    Refusal.EXCEEDS_ORDERED: REFUSED,
    Refusal.EXCEEDS_DELIVERED: REFUSED,
    Refusal.NOT_RESERVED: REFUSED,
    Refusal.EXCEEDS_RESERVED: REFUSED,
    Refusal.BELOW_RESERVED: REFUSED,
    Refusal.STOCK_LIMIT: REFUSED,
    Refusal.PRODUCT_NOT_FOUND: NOT_FOUND,
    Refusal.PRODUCT_DISCONTINUED: REFUSED,
    Refusal.INSUFFICIENT_STOCK: REFUSED,
}

# Classes of SQLSTATE that say "not now" or "not there" rather than "never": connection, login,
# no such database, lost race, resources, operator, system.
_AWAY = ("08", "28", "3D", "40", "53", "55", "57", "58")
# How settings are written that are more than one word.
_WRITTEN = {
    "CERNIQ_ERP_PORTS": "[443, 50000]",
    "CERNIQ_JOB_RATES": '{"stock:sync:erp": 5}',
    "CERNIQ_JOB_TENANT_RATES": '{"stock:sync:erp": 0.5}',
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class RefusedError(Exception):
    """The engine refused. `answer` is all it said, where that is more than the code."""

    def __init__(self, code: Refusal, message: str, answer: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.answer = answer


class UsageProblemError(Exception):
    """The command line parses and still cannot be obeyed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OutputError(Exception):
    """What was to be said could not be written, for example to a full disk."""

    code = "OUTPUT"


# By code, not by class: most of these classes are loaded where an ERP is spoken to only. Whatever
# is not here ends with 1.
TROUBLE = {
    "INVALID_INPUT": INVALID,
    "OUTDATED": REFUSED,
    "NOT_FOUND": NOT_FOUND,
    "OVERLOADED": UNAVAILABLE,
    "UNAVAILABLE": UNAVAILABLE,
    "SECRETS": INVALID,
    "SNAPSHOT_REFUSED": REFUSED,
    "UNREACHABLE": UNAVAILABLE,
    "TIMEOUT": UNAVAILABLE,
    "RATE_LIMITED": UNAVAILABLE,
    "UNAUTHORIZED": ERP,
    "CERTIFICATE": ERP,
    "FORBIDDEN_ADDRESS": ERP,
    "REFUSED": ERP,
    "BAD_ANSWER": ERP,
    "BAD_PAYLOAD": ERP,
    "TOO_LARGE": ERP,
    "OFF_ORIGIN": ERP,
    "LOOP": ERP,
    "COMMAND_FAILED": ERROR,
}


@dataclass(frozen=True)
class Problem:
    """What to tell: people get the sentence, programs the document."""

    exit_code: int
    code: str
    sentence: str
    field: str | None = None
    answer: object = None

    @property
    def document(self) -> dict[str, Any]:
        """One JSON document; `answer` only where the engine said more."""
        error = {"code": self.code, "message": self.sentence, "field": self.field}
        return {"error": error} | ({"answer": self.answer} if self.answer is not None else {})


def one_line(text: object) -> str:
    """Put a text on one line that cannot steer a terminal."""
    return _CONTROL.sub(" ", str(text)).strip()


def problem_of(error: BaseException) -> Problem:
    """Say what an exception means. Nothing is unknown: the rest is a bug, exit code 1."""
    match error:
        case RefusedError():
            exit_code = REFUSALS[error.code]
            return Problem(exit_code, error.code.value, one_line(error), answer=error.answer)
        case UsageProblemError():
            return Problem(USAGE, error.code, one_line(error))
        case CerniqError() | OutputError():
            exit_code = TROUBLE.get(error.code, ERROR)
            return Problem(exit_code, error.code, one_line(error), getattr(error, "field", None))
        case KeyboardInterrupt():
            return Problem(INTERRUPTED, "INTERRUPTED", "Interrupted")
        case _:
            return _foreign(error)


def _foreign(error: BaseException) -> Problem:
    """Trouble that the engine does not wrap: the server, the network, the configuration."""
    # imported when something is wrong only: they cost more than most commands
    import asyncpg  # noqa: PLC0415 - see above
    from pydantic import ValidationError  # noqa: PLC0415 - see above
    from pydantic_settings import SettingsError  # noqa: PLC0415 - see above

    if isinstance(error, ValidationError):
        return _bad_setting(error.errors()[0])
    if isinstance(error, SettingsError):
        return _unread_setting(error)
    if isinstance(error, asyncpg.DataError):
        return Problem(INVALID, InvalidInputError.code, one_line(error))
    state = _sqlstate(error)
    if state is not None and not state.startswith(_AWAY):
        return Problem(ERROR, f"SQLSTATE_{state}", f"The database refuses: {_reason(error)}")
    if state is not None or isinstance(error, (OSError, asyncpg.InterfaceError)):
        return _away(f"The database cannot be used: {_reason(error)}")
    return _odd(error)


def _odd(error: BaseException) -> Problem:
    """What has its own idea of a message, or what nobody thought of."""
    from cerniq_stock.store.binaries import EmbeddedServerError  # noqa: PLC0415 - seldom needed

    if isinstance(error, EmbeddedServerError):
        return _away(error.message)
    if type(error).__module__.startswith("sqlalchemy."):
        return _away(f"The database cannot be used: {_reason(error)}")
    return Problem(ERROR, "BUG", f"This is a bug, please report it: {_reason(error, named=True)}")


def _away(sentence: str) -> Problem:
    return Problem(UNAVAILABLE, UnavailableError.code, one_line(sentence))


def _bad_setting(fault: Any) -> Problem:
    name, *inside = map(str, fault["loc"])
    variable = f"CERNIQ_{name}".upper()
    where = f"{variable}, {'.'.join(inside)}" if inside else variable
    return _of_setting(variable, f"{where}: {fault['msg']}")


def _unread_setting(error: Exception) -> Problem:
    """A setting that is no JSON. The library names its field, and nothing of what stood there."""
    field = re.search(r'field "(\w+)"', str(error))
    if field is None:
        return Problem(INVALID, InvalidInputError.code, f"A setting is no JSON: {one_line(error)}")
    variable = f"CERNIQ_{field[1]}".upper()
    return _of_setting(variable, f"{variable}: it is no JSON")


def _of_setting(variable: str, sentence: str) -> Problem:
    such = f"; it is written as {_WRITTEN[variable]}" if variable in _WRITTEN else ""
    return Problem(INVALID, InvalidInputError.code, one_line(sentence + such), variable)


def _sqlstate(error: BaseException) -> str | None:
    """The server's code, also from below what SQLAlchemy makes of it during a migration."""
    below = getattr(error, "orig", error)
    state = getattr(below, "sqlstate", None)
    return state if isinstance(state, str) else None


def _reason(error: BaseException, *, named: bool = False) -> str:
    below = getattr(error, "orig", None) or error
    text = one_line(str(below).split("\n", 1)[0])
    if isinstance(below, TimeoutError) and not text:
        return "no answer in time"
    return f"{type(below).__name__}: {text}" if named or not text else text
