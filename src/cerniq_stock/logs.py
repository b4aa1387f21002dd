"""Logs: one event a line, for people on a terminal, as JSON everywhere else."""

import logging
import sys
from contextvars import ContextVar
from typing import Any, Literal

import structlog

Format = Literal["text", "json"]

CONTEXT: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)
"""What every line of the current task carries; one variable, as structlog's own cost a tenth of a
small job."""


def _add_context(_: Any, __: str, event: Any) -> Any:
    return {**(CONTEXT.get() or {}), **event}


def configure(format_: Format | None = None, level: str = "INFO", *, lasting: bool = True) -> None:
    """Send structlog's events and those of the standard library to stderr, alike.

    Where that is `lasting`, loggers are made once and stay as they are then, which is quicker.
    """
    chosen = format_ or ("text" if sys.stderr.isatty() else "json")
    shared: list[Any] = [
        _add_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if chosen == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        # first of all: what nobody wants to hear is not worth a timestamp
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=lasting,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # it repeats in many lines what is said here in one
    logging.getLogger("pgqueuer").setLevel(logging.ERROR)
