"""When a cron expression comes due, with the nights on which the clock changes.

Expressions are read in local time: what would fall into the hour that is skipped when the clock is
put forward runs right after it, and a fixed time within the hour that is repeated comes once; what
runs every so many minutes goes on through both.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from cerniq_stock import validate
from cerniq_stock.errors import InvalidInputError

LOCAL = "Europe/Bucharest"
MAX_EXPRESSION = 50
FIELDS = 5


def next_after(expression: str, timezone: str, moment: datetime) -> datetime:
    """When it comes due next after `moment`, in UTC. Raises CronSimError."""
    if len(expression.split()) != FIELDS:
        raise CronSimError(f"An expression has {FIELDS} fields: {expression!r}")
    local = moment.astimezone(ZoneInfo(timezone))
    following = next(CronSim(expression, local), None)
    if following is None:
        raise CronSimError(f"It never comes due: {expression!r}")
    return following.astimezone(UTC)


def expression(field: str, value: object) -> str:
    """Accept an expression of five fields that comes due some day."""
    text = " ".join(validate.text(field, value, most=MAX_EXPRESSION).split())
    try:
        next_after(text, LOCAL, datetime.now(UTC))
    except CronSimError as error:
        raise InvalidInputError(
            field, f"{field} is no cron expression such as '*/15 * * * *': {error}"
        ) from None
    return text
