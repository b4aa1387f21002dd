"""Where clients come from: a process that has everything imported and forks one in an instant.

A client that has to import the engine first lives through seconds of imports and moments of load;
forked, it asks its first question a quarter of a second after its predecessor was killed.

The nursery is the parent of its clients: only it kills and buries them, so a process number can
never name a stranger. When the one who started it ends, however that happens, it ends them too.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.client import Orders, run

ROOT = Path(__file__).parents[2]
OUTPUT = "clients.log"
STOP_TIMEOUT_S = 60
STUCK = 999


class ClientDiedError(Exception):
    """A client ended although nobody had killed it."""


class Nursery:
    """The driver's side. Enter it to start the process."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / OUTPUT

    def __enter__(self) -> Self:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.nursery"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(self._tail())
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=STOP_TIMEOUT_S)

    def start(self, orders: Orders) -> int:
        """Start a client; returns its process number."""
        return self._ask("start", orders.to_json())

    def kill(self, pid: int, with_: signal.Signals = signal.SIGKILL) -> None:
        """SIGKILL a client, or let it do so itself at the moment that the signal names.

        Raises ClientDiedError if it was dead already.
        """
        self._expect(pid, self._ask("end", [pid, with_]), -signal.SIGKILL)

    def stop(self, pid: int) -> None:
        """SIGTERM a client and wait for its end."""
        self._expect(pid, self._ask("end", [pid, signal.SIGTERM]), 0)

    def _expect(self, pid: int, found: int, expected: int) -> None:
        if found != expected:
            raise ClientDiedError(f"client {pid} ended with {found}, not {expected}")

    def _tail(self) -> str:
        lines = self._output.read_text(errors="replace").splitlines()[-40:]
        return "\n".join(["The clients' last words:", *lines]) if lines else ""

    def _ask(self, order: str, argument: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([order, argument]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise ClientDiedError("the nursery ended")
        return int(answer)


def _serve() -> None:
    children: set[int] = set()
    for line in sys.stdin:
        order, argument = json.loads(line)
        if order == "start":
            answer = _fork(Orders.from_json(argument))
            children.add(answer)
        else:
            pid, signal_ = argument
            os.kill(pid, signal_)
            answer = _bury(pid)
            children.discard(pid)
        print(answer, flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _bury(pid: int) -> int:
    """Wait for a client's end and return its status; STUCK is one that does not come to it."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return STUCK
        time.sleep(0.002)


def _fork(orders: Orders) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # The pipes belong to the nursery; what a client has to say goes where its errors go.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        run(orders)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


if __name__ == "__main__":
    _serve()
