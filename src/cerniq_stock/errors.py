"""Trouble: what keeps the engine from answering. Refusals are values, see `domain.outcomes`."""

from typing import ClassVar


class CerniqError(Exception):
    """Base of all trouble. `code` is stable; `retryable` tells whether to try the same again."""

    code: ClassVar[str] = "ERROR"
    retryable: ClassVar[bool] = False


class InvalidInputError(CerniqError):
    """The input cannot mean anything; nothing was changed. `field` names the culprit."""

    code = "INVALID_INPUT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class OutdatedError(InvalidInputError):
    """What was looked at has changed since, or is over; nothing was changed. Look again."""

    code = "OUTDATED"


class NotFoundError(CerniqError):
    """What was named does not exist (for this tenant)."""

    code = "NOT_FOUND"


class OverloadedError(CerniqError):
    """Too many commands wait already; this one was not taken. Try again after `retry_after_s`."""

    code = "OVERLOADED"
    retryable = True

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(f"{waiting} commands are waiting; try again in {retry_after_s:g} s")
        self.waiting = waiting
        self.retry_after_s = retry_after_s


class UnavailableError(CerniqError):
    """The database did not answer in time.

    The command may have taken effect all the same: repeat it with the same key.
    """

    code = "UNAVAILABLE"
    retryable = True


class CommandFailedError(CerniqError):
    """One command broke the engine or the database; it had no effect. A bug, please report."""

    code = "COMMAND_FAILED"
