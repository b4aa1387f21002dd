"""What can go wrong between an ERP and us. Sentences say nothing of what the ERP answered."""

from typing import Any, ClassVar

from cerniq_stock.errors import CerniqError


class ErpError(CerniqError):
    """An ERP did not do what was asked.

    `problem` is the answer's body as JSON, if it was a small one: for adapters to look at, never
    to show or log.
    """

    code: ClassVar[str] = "ERP"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        problem: Any = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.problem = problem


class UnreachableError(ErpError):
    """No connection, a broken one, or a server in trouble (5xx)."""

    code = "UNREACHABLE"
    retryable = True


class TimedOutError(ErpError):
    """No answer, or not all of it, in time."""

    code = "TIMEOUT"
    retryable = True


class RateLimitedError(ErpError):
    """Too many requests; `retry_after_s` is the ERP's wish, if it uttered one."""

    code = "RATE_LIMITED"
    retryable = True


class BadAnswerError(ErpError):
    """An answer that cannot be read. Transient: never an empty list."""

    code = "BAD_ANSWER"
    retryable = True


class UnauthorizedError(ErpError):
    """The credentials are wrong, or no longer right."""

    code = "UNAUTHORIZED"


class ForbiddenAddressError(ErpError):
    """An address that this installation does not connect to."""

    code = "FORBIDDEN_ADDRESS"


class CertificateError(ErpError):
    """The server's certificate is not by an authority that is known here, or not its own."""

    code = "CERTIFICATE"


class TooLargeError(ErpError):
    """More bytes, rows or pages than a limit allows."""

    code = "TOO_LARGE"


class RefusedError(ErpError):
    """The ERP will not do this, and would not if asked again."""

    code = "REFUSED"


class OffOriginError(ErpError):
    """A link leads away from the configured server."""

    code = "OFF_ORIGIN"


class LoopError(ErpError):
    """Pages lead in a circle."""

    code = "LOOP"
