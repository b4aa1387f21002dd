"""What the tests of the writer share: commands that wait, and what became of them."""

import asyncio
from typing import Any
from uuid import UUID

from cerniq_stock.store.writer import Writer


async def asked(writer: Writer, count: int) -> None:
    """Wait until so many commands are waiting."""
    while writer.waiting < count:  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)


def ask(writer: Writer, tenant: UUID, *commands: Any) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(writer.submit(tenant, command)) for command in commands]


async def outcome(task: "asyncio.Task[Any]") -> Any:
    """The answer, or the error instead of raising it."""
    return (await asyncio.gather(task, return_exceptions=True))[0]
