"""Sends what many jobs ask of Redis at one time as one pipeline.

BullMQ's Python port asks one thing after the other on one connection: for a thousand jobs a second
two thousand writes and waits, and jobs that trickle in one by one. Half a hundred jobs that ended
together, and the next that are wanted, are two pipelines instead.
"""

import asyncio
from typing import Any

Asked = tuple[tuple[Any, ...], "asyncio.Future[Any]"]


class Together:
    """Takes over a client's `execute_command`; what passes options goes the old way."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._alone = client.execute_command
        self._asked: list[Asked] = []
        self._sending: set[asyncio.Task[None]] = set()
        client.execute_command = self.execute_command

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Answer like the client itself, with its errors."""
        if options:
            return await self._alone(*args, **options)
        answer = asyncio.get_running_loop().create_future()
        self._asked.append((args, answer))
        if len(self._asked) == 1:
            # it begins when all who are awake at this moment have asked
            task = asyncio.create_task(self._send())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return await answer

    async def _send(self) -> None:
        asked, self._asked = self._asked, []
        pipeline = self._client.pipeline(transaction=False)
        for args, _ in asked:
            pipeline.execute_command(*args)
        try:
            found = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - each who asked gets it
            found = [error] * len(asked)
        for (_, answer), result in zip(asked, found, strict=True):
            if answer.done():
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)
