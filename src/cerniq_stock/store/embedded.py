"""A PostgreSQL server of our own, started on demand and left running.

`start` may be called by any number of processes: one of them starts the server, all get the same
address. The server belongs to none of them; it outlives its starter and ends with `stop`.

One file decides who may start: the lock of the data folder. The starter holds it, the server
inherits it, and so do all processes of the server. The kernel frees it when the last of them is
gone, however that happened. Process numbers prove less: after a crash they may name a zombie or a
stranger, and in another container they mean nothing.

All functions block; from an event loop call them with `asyncio.to_thread`.
"""

import fcntl
import os
import re
import shutil
import socket
import stat
import struct
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from cerniq_stock.store.binaries import (
    Account,
    EmbeddedServerError,
    account_for,
    binary,
    end_without_programs,
    find_binaries,
    hand_over,
    is_postmaster,
    is_same_folder,
    major,
    make_data_dir,
    memory_bytes,
    reachable_binaries,
    run_tool,
    short_hash,
    socket_folder,
    sync_folder,
    system_folder,
)

__all__ = [
    "EmbeddedServerError",
    "ServerStatus",
    "binary",
    "default_data_dir",
    "find_binaries",
    "start",
    "status",
    "stop",
]

StopMode = Literal["smart", "fast", "immediate"]

PORT = 5432
READY_TIMEOUT_S = 120
LOCK_TIMEOUT_S = READY_TIMEOUT_S + 30
ORPHANS_TIMEOUT_S = 30
POLL_S = 0.05

# The one question that a server answers to strangers: do you speak TLS?
SSL_REQUEST = struct.pack("!ii", 8, 80877103)

LOCK_FILE = "cerniq.lock"
CONF_FILE = "cerniq.conf"
DRAFT_FOLDER = "cerniq.initdb"
FRESH_FOLDER = "cerniq.fresh"
OUR_NAMES = {LOCK_FILE, DRAFT_FOLDER, FRESH_FOLDER, "lost+found"}

LOG_FOLDER = "log"
LOG_MAX_BYTES = 16 * 1024 * 1024
LOG_MAX_AGE_S = 6 * 86400
LOG_TAIL_LINES = 25


@dataclass(frozen=True)
class ServerStatus:
    """What is known of the server of a data folder; all but the folder is None if none runs."""

    running: bool
    data_dir: Path
    pid: int | None = None
    port: int | None = None
    socket_dir: Path | None = None
    server_version: str | None = None
    dsn: str | None = None


@dataclass(frozen=True)
class _Cluster:
    data_dir: Path
    bin_dir: Path
    account: Account | None

    def error(self, message: str, output: str = "") -> EmbeddedServerError:
        lines = f"{output}\n{_log_tail(self.data_dir)}".strip().splitlines()
        return EmbeddedServerError(
            message, data_dir=self.data_dir, log_tail="\n".join(lines[-LOG_TAIL_LINES:])
        )


@dataclass(frozen=True)
class _Server:
    """What a server wrote about itself into `postmaster.pid`."""

    pid: int
    port: int
    socket_dir: Path
    ready: bool

    @property
    def dsn(self) -> str:
        host = quote(str(self.socket_dir))
        return f"postgresql://postgres@/postgres?host={host}&port={self.port}"

    def answers(self) -> bool:
        """Return whether it talks: a process that was just killed may still accept."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.socket_dir / f".s.PGSQL.{self.port}"))
                client.sendall(SSL_REQUEST)
                return client.recv(1) in {b"N", b"S"}
            except OSError:
                return False


def default_data_dir() -> Path:
    """Return the data folder of the current user. Nothing is created.

    For root it lies in a system folder, since no other account can enter root's home; there it
    has a name made from that home, so that each home keeps a server of its own.
    """
    configured = Path(os.environ.get("XDG_DATA_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".local" / "share"
    if os.geteuid() != 0:
        return base / "cerniq-stock" / "pg18"
    return system_folder() / short_hash(base) / "pg18"


def start(
    data_dir: Path,
    *,
    bin_dir: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> str:
    """Return the address of the running server of `data_dir`, started and created if need be.

    `settings` are PostgreSQL parameters that replace our defaults when this call starts the
    server; one that already runs keeps its own. The address suits libpq, asyncpg and, with the
    scheme `postgresql+asyncpg`, SQLAlchemy. The database and the role are both `postgres`.
    Raises EmbeddedServerError.
    """
    data_dir = data_dir.resolve()
    with _explained(data_dir):
        running = _answering(data_dir)
        if running and not end_without_programs(running.pid, data_dir):
            return running.dsn
        return _start_or_join(_cluster(data_dir, bin_dir), settings or {})


def stop(data_dir: Path, mode: StopMode = "fast", *, bin_dir: Path | None = None) -> bool:
    """Stop the server; return False if none was running.

    `smart` waits for the clients to leave, `fast` rolls their work back, `immediate` does not
    write a checkpoint, so that the next start recovers. Raises EmbeddedServerError.
    """
    data_dir = data_dir.resolve()
    with _explained(data_dir):
        server = _described(data_dir)
        if server is None:
            return False
        if is_postmaster(server.pid, data_dir):
            _run_pg_ctl_stop(data_dir, server, mode, bin_dir)
            return True
        if server.answers():
            message = f"the server of {data_dir} runs in another container: stop it there"
            raise EmbeddedServerError(message, data_dir=data_dir)
        return False


def status(data_dir: Path, *, bin_dir: Path | None = None) -> ServerStatus:
    """Return what runs in `data_dir`. Starts, creates and waits for nothing."""
    data_dir = data_dir.resolve()
    with _explained(data_dir):
        server = _answering(data_dir)
        if server is None:
            return ServerStatus(running=False, data_dir=data_dir)
        return ServerStatus(
            running=True,
            data_dir=data_dir,
            pid=server.pid,
            port=server.port,
            socket_dir=server.socket_dir,
            server_version=_server_version(data_dir, server, bin_dir),
            dsn=server.dsn,
        )


@contextmanager
def _explained(data_dir: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot use the data folder {data_dir}: {error}"
        tail = _log_tail(data_dir)
        raise EmbeddedServerError(message, data_dir=data_dir, log_tail=tail) from error


def _cluster(data_dir: Path, bin_dir: Path | None) -> _Cluster:
    account = account_for(data_dir)
    return _Cluster(data_dir, reachable_binaries(find_binaries(bin_dir), account), account)


# What runs


def _described(data_dir: Path) -> _Server | None:
    try:
        text = (data_dir / "postmaster.pid").read_text(errors="replace")
    except FileNotFoundError:
        return None
    lines = [*text.splitlines(), *[""] * 8]  # the server fills the file in line by line
    pid, described_dir, _, port, socket_dir, _, _, state = lines[:8]
    if not pid.isdigit() or not is_same_folder(described_dir, data_dir):
        return None  # a copied or moved folder brings the file of another server along
    return _Server(int(pid), int(port or 0), Path(socket_dir), state.strip() == "ready")


def _answering(data_dir: Path) -> _Server | None:
    server = _described(data_dir)
    return server if server is not None and server.ready and server.answers() else None


def _server_version(data_dir: Path, server: _Server, bin_dir: Path | None) -> str:
    query = ["-XAtqc", "show server_version", server.dsn]
    try:
        result = run_tool([binary("psql", bin_dir), *query], timeout_s=10)
        words = result.stdout.split() if result.returncode == 0 else []
    except EmbeddedServerError:  # not every PostgreSQL brings psql
        words = []
    return words[0] if words else (data_dir / "PG_VERSION").read_text().strip()


# Start and stop


def _start_or_join(cluster: _Cluster, settings: Mapping[str, str]) -> str:
    """Start the server, or wait for whoever else is about to."""
    _refuse_unquotable(cluster)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while time.monotonic() < deadline:
        make_data_dir(cluster.data_dir, cluster.account)
        lock_fd = _try_lock(cluster)
        if lock_fd is not None:
            try:
                _start_locked(cluster, lock_fd, settings)
            finally:
                os.close(lock_fd)
        running = _answering(cluster.data_dir)
        if running and not end_without_programs(running.pid, cluster.data_dir):
            return running.dsn
        time.sleep(POLL_S)
    raise cluster.error(
        f"processes of a server hold {cluster.data_dir}, but after {LOCK_TIMEOUT_S} s none of"
        " them answers; they may be ending, or run in another container"
    )


def _refuse_unquotable(cluster: _Cluster) -> None:
    # pg_ctl hands the path to a shell between double quotes and escapes nothing.
    if re.search(r'["$`\\\n\r]', str(cluster.data_dir)):
        message = 'the path of the data folder must not contain ", $, `, \\ or a line break'
        raise cluster.error(message)


def _try_lock(cluster: _Cluster) -> int | None:
    """Return the open lock file if nobody else holds it."""
    path = cluster.data_dir / LOCK_FILE
    # A folder that is replaced under us loses the file; the caller tries again.
    with suppress(BlockingIOError, FileNotFoundError), ExitStack() as undo:
        lock_fd = _open_lock(path, cluster.account)
        undo.callback(os.close, lock_fd)
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock_fd), path.stat()):
            undo.pop_all()
            return lock_fd
    return None


def _open_lock(path: Path, account: Account | None) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lock_fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    hand_over(lock_fd, account)
    return lock_fd


def _start_locked(cluster: _Cluster, lock_fd: int, settings: Mapping[str, str]) -> None:
    server = _described(cluster.data_dir)
    if server is not None and is_postmaster(server.pid, cluster.data_dir):
        return  # started by hand, without our lock: wait for it like for any other
    _remove_stale_files(cluster)
    if not (cluster.data_dir / "PG_VERSION").exists():
        _create_cluster(cluster, lock_fd)
    _check_version(cluster)
    _write_configuration(cluster, settings)
    _prepare_logs(cluster)
    _launch(cluster, lock_fd)


def _remove_stale_files(cluster: _Cluster) -> None:
    """Remove files that name a zombie or a stranger.

    PostgreSQL does so only if the named process is gone. We hold the lock and know more.
    """
    socket_dir = socket_folder(cluster.data_dir, cluster.account, PORT)
    for path in (cluster.data_dir / "postmaster.pid", socket_dir / f".s.PGSQL.{PORT}.lock"):
        pid = path.read_text(errors="replace").split("\n")[0] if path.exists() else ""
        if not pid.isdigit() or not is_postmaster(int(pid), cluster.data_dir):
            path.unlink(missing_ok=True)


def _create_cluster(cluster: _Cluster, lock_fd: int) -> None:
    """Create the database files; a kill at any point leaves what the next start completes.

    They are made in a folder inside the data folder, since the data folder itself may be a mount
    point or lie where we must not create anything. PG_VERSION comes last and means complete.
    """
    data_dir = cluster.data_dir
    fresh = data_dir / FRESH_FOLDER
    if not fresh.exists():
        _run_initdb(cluster, lock_fd).rename(fresh)
    for entry in sorted(fresh.iterdir(), key=lambda path: path.name == "PG_VERSION"):
        entry.rename(data_dir / entry.name)
    fresh.rmdir()
    sync_folder(data_dir)


def _run_initdb(cluster: _Cluster, lock_fd: int) -> Path:
    strangers = {path.name for path in cluster.data_dir.iterdir()} - OUR_NAMES
    if strangers:
        raise cluster.error(f"{cluster.data_dir} holds other files than a PostgreSQL database")
    if stat.S_IMODE(cluster.data_dir.stat().st_mode) & 0o077:
        cluster.data_dir.chmod(0o700)  # as initdb does with the empty folder it is given
    draft = cluster.data_dir / DRAFT_FOLDER
    shutil.rmtree(draft, ignore_errors=True)
    # The builtin provider sorts the same everywhere and asks nothing of the host's locales.
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    argv: list[str | Path] = [
        *(cluster.bin_dir / "initdb", "-D", draft, "-U", "postgres"),
        *("--encoding=UTF8", "--locale=C", "--data-checksums"),
        *("--auth-local=trust", "--auth-host=reject"),
        *(builtin if major(cluster.bin_dir) >= 17 else []),  # it came with 17
    ]
    result = run_tool(argv, cluster.account, keep_fd=lock_fd)
    if result.returncode != 0:
        raise cluster.error(f"cannot create a database in {cluster.data_dir}", result.stdout)
    return draft


def _check_version(cluster: _Cluster) -> None:
    found = (cluster.data_dir / "PG_VERSION").read_text().strip()
    expected = str(major(cluster.bin_dir))
    if found != expected:
        raise cluster.error(
            f"{cluster.data_dir} was written by PostgreSQL {found}, the programs are"
            f" PostgreSQL {expected}: dump and restore it, run pg_upgrade, or use another folder"
        )


def _launch(cluster: _Cluster, lock_fd: int) -> None:
    start_log = cluster.data_dir / LOG_FOLDER / "start.log"
    argv: list[str | Path] = [
        *(cluster.bin_dir / "pg_ctl", "start", "-D", cluster.data_dir, "-l", start_log),
        *("-w", "-t", str(READY_TIMEOUT_S)),
    ]
    deadline = time.monotonic() + ORPHANS_TIMEOUT_S
    while True:
        start_log.unlink(missing_ok=True)
        result = run_tool(argv, cluster.account, keep_fd=lock_fd)
        if result.returncode == 0:
            return
        error = cluster.error(f"the server of {cluster.data_dir} does not start", result.stdout)
        # Orphans of a server started by hand do not hold our lock; they end by themselves.
        if "shared memory block" not in error.log_tail or time.monotonic() > deadline:
            raise error
        time.sleep(POLL_S)


def _run_pg_ctl_stop(data_dir: Path, server: _Server, mode: StopMode, bin_dir: Path | None) -> None:
    # As the server's own account: root would signal whatever process the file names.
    cluster = _cluster(data_dir, bin_dir)
    argv: list[str | Path] = [
        *(cluster.bin_dir / "pg_ctl", "stop", "-D", data_dir, "-m", mode),
        *("-w", "-t", str(READY_TIMEOUT_S)),
    ]
    result = run_tool(argv, cluster.account)
    if result.returncode != 0 and is_postmaster(server.pid, data_dir):
        raise cluster.error(f"the server of {data_dir} does not stop", result.stdout)


# Settings and files of the server


def _write_configuration(cluster: _Cluster, settings: Mapping[str, str]) -> None:
    values = {**_default_settings(cluster), **settings}
    lines = [f"{name} = {_quoted(name, value)}" for name, value in values.items()]
    note = "# Written anew before each start. To change a value for good use ALTER SYSTEM."
    _write_file(cluster, CONF_FILE, "\n".join([note, *lines, ""]))
    main = cluster.data_dir / "postgresql.conf"
    include = f"include_if_exists '{CONF_FILE}'"
    text = main.read_text(encoding="utf-8", errors="surrogateescape")
    if include not in text.splitlines():
        _write_file(cluster, main.name, f"{text}\n{include}\n")


def _default_settings(cluster: _Cluster) -> dict[str, str]:
    shared_buffers_mb = max(16, min(1024, memory_bytes() // 8 // 1024**2))
    return {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(socket_folder(cluster.data_dir, cluster.account, PORT)),
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "shared_buffers": f"{shared_buffers_mb}MB",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "wal_level": "replica",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "autovacuum": "on",
        "jit": "off",
        "random_page_cost": "1.1",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # One file per weekday, emptied when its day comes again.
        "logging_collector": "on",
        "log_directory": LOG_FOLDER,
        "log_filename": "server-%a.log",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
    }


def _quoted(name: str, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name) or re.search(r"[\n\r\0]", value):
        raise EmbeddedServerError(f"not a PostgreSQL setting: {name} = {value!r}")
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _write_file(cluster: _Cluster, name: str, text: str) -> None:
    draft = cluster.data_dir / f"{name}.new"
    draft.unlink(missing_ok=True)
    # Created exclusively: root writes into a folder where another account can plant links.
    with draft.open("x", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), 0o600)
        hand_over(file.fileno(), cluster.account)
        file.write(text)
    draft.replace(cluster.data_dir / name)


def _prepare_logs(cluster: _Cluster) -> None:
    """Remove old and large logs: a server that never sees midnight only appends to them."""
    folder = cluster.data_dir / LOG_FOLDER
    if not folder.exists():
        folder.mkdir(mode=0o700)
        hand_over(folder, cluster.account)
    for path in folder.glob("*.log"):
        state = path.lstat()
        if state.st_size > LOG_MAX_BYTES or time.time() - state.st_mtime > LOG_MAX_AGE_S:
            path.unlink()


def _log_tail(data_dir: Path) -> str:
    """Return the end of the newest logs, oldest line first; empty if they cannot be read."""
    try:
        logs = sorted((data_dir / LOG_FOLDER).glob("*.log"), key=lambda path: path.lstat().st_mtime)
        return "\n".join(line for path in logs[-2:] for line in _last_lines(path))
    except OSError:
        return ""


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        return file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
