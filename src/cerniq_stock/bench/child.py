"""Work in a process of its own, as a worker does it, so that its memory and time are its own."""

import ast
import asyncio
import sys
from typing import Any


async def measured(module: str, *arguments: str) -> Any:
    """Run a module's `child()` there; returns what it printed, a Python literal."""
    code = f"from {module} import child; child()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *arguments), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, process.returncode
    return ast.literal_eval(out.decode())
