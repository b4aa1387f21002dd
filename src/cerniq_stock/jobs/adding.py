"""What can be a job, whatever carries it."""

import json
import re
from uuid import UUID

from cerniq_stock import validate
from cerniq_stock.errors import InvalidInputError
from cerniq_stock.jobs.catalogue import CATALOGUE
from cerniq_stock.jobs.port import MAX_JOB_ID, MAX_PRIORITY, PLATFORM, NewJob
from cerniq_stock.store.ids import new_id

MAX_DELAY_S = 366 * 24 * 3_600
MAX_PAYLOAD = 1_000_000
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""As `json.dumps` writes it, and not the six characters, whose backslash it doubles."""


def checked(tenant_id: UUID, job: NewJob) -> tuple[str, NewJob]:
    """Refuse what can be no job; whether its payload means anything, its handler says."""
    if job.name not in CATALOGUE:
        known = ", ".join(CATALOGUE)
        raise InvalidInputError("name", f"No kind of job {job.name!r}; there is {known}")
    if CATALOGUE[job.name].platform_only and tenant_id != PLATFORM:
        raise InvalidInputError("name", f"{job.name} is a job of the platform itself")
    if not isinstance(job.payload, dict):
        raise InvalidInputError("payload", "payload must be an object")
    _check_json(job.payload)
    if type(job.priority) is not int or not 0 <= job.priority <= MAX_PRIORITY:
        raise InvalidInputError("priority", f"priority must be 0 to {MAX_PRIORITY}")
    if not 0 <= job.delay_s <= MAX_DELAY_S:
        raise InvalidInputError("delay", f"delay must be 0 to {MAX_DELAY_S} seconds")
    id_ = new_id() if job.id is None else validate.text("jobId", job.id, most=MAX_JOB_ID)
    validate.optional_text("traceId", job.trace_id, most=100)
    return id_, job


def _check_json(payload: object) -> None:
    """Refuse what no JSON, or no database, can hold."""
    try:
        text = json.dumps(payload, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError("payload", f"The payload is no JSON: {error}") from None
    if _NUL.search(text):
        raise InvalidInputError("payload", "The payload contains a NUL character")
    if size > MAX_PAYLOAD:
        raise InvalidInputError("payload", f"payload is longer than {MAX_PAYLOAD:,} bytes")
