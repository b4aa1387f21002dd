"""Command lines in a process of their own, one after the other. What they do to logs stays.

A line of JSON in, `[arguments, stdin]`; a line of JSON out, `[exit code, stdout, stderr]`.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple

from tests.entrances.conftest import Result, command_line


class Commands:
    """The side that asks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, *args: str, stdin: str | None = None) -> Result:
        """Run one command line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([args, stdin]).encode() + b"\n")
        return Result(*json.loads(await self._process.stdout.readline()))


@asynccontextmanager
async def commands(dsn: str) -> AsyncIterator[Commands]:
    """Start the process, which ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, dsn),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
        env=dict(os.environ),
    )
    try:
        yield Commands(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _serve(dsn: str) -> None:
    for line in sys.stdin:
        args, stdin = json.loads(line)
        print(json.dumps(astuple(command_line(dsn, *args, stdin=stdin))), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
