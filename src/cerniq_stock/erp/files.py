"""Files that merchants put down for us: found below one folder, and copied whole.

Each tenant's files lie in a folder named by its id, below the root that the operator sets. The way
there is walked by descriptors and follows no symbolic link, so nothing that changes meanwhile leads
out of it. A file is read once, into a copy of ours: what is parsed is what was hashed.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from cerniq_stock.erp.trouble import ErpError, RefusedError, TooLargeError, UnreachableError

MAX_BYTES = 256 << 20
"""Of one file."""
MAX_ENTRIES = 10_000
"""Of one folder; old files are for whoever puts them there to take away."""

_UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")
_BLOCK = 1 << 20
FILES_DIR = "CERNIQ_ERP_FILES_DIR"
"""What names the root."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# a pipe that somebody puts there must not keep us waiting for its writer
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file as it was at one moment; whoever writes to it changes this."""

    name: str
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files of a folder count. With `end_mark`, those beside which their mark was put."""

    pattern: str = "*"
    end_mark: str | None = None


def newest(root: Path, folder: Sequence[str], wanted: Wanted) -> Stamp | None:
    """Find the newest file of a folder below `root` that counts. Raises ErpError."""
    with _opened(root, folder) as descriptor:
        found = list(_candidates(descriptor, wanted))
    return max(found, key=lambda stamp: (stamp.mtime_ns, stamp.name), default=None)


def look(root: Path, folder: Sequence[str], name: str) -> Stamp | None:
    """Look at one file of a folder below `root`; None where it is not there. Raises ErpError."""
    with _opened(root, folder) as descriptor:
        return _stamp(descriptor, name)


def copy(root: Path, folder: Sequence[str], stamp: Stamp, target: Path, most: int) -> str | None:
    """Copy a file, if it still is what it was; returns its SHA-256. Raises ErpError.

    None: it was changed meanwhile, and what was copied is worth nothing.
    """
    digest, size = sha256(), 0
    with _opened(root, folder) as descriptor, _told("The file is gone"):
        source = os.open(stamp.name, _FILE, dir_fd=descriptor)
        with os.fdopen(source, "rb", buffering=0) as file, target.open("wb") as into:
            if _of(stamp.name, os.fstat(source)) != stamp:
                return None
            while block := file.read(_BLOCK):
                size += len(block)
                if size > most:
                    raise TooLargeError(f"The file has more than {most >> 20} MiB")
                digest.update(block)
                into.write(block)
            if _of(stamp.name, os.fstat(source)) != stamp or size != stamp.size:
                return None
    return digest.hexdigest()


def _candidates(folder: int, wanted: Wanted) -> Iterator[Stamp]:
    with _told("The folder is gone"):
        names = os.listdir(folder)
    if len(names) > MAX_ENTRIES:
        raise TooLargeError(f"The folder has more than {MAX_ENTRIES:,} entries")
    for name in names:
        if _counts(name, wanted) and (stamp := _stamp(folder, name)) is not None:
            mark = _stamp(folder, name + wanted.end_mark) if wanted.end_mark else stamp
            # the mark of what stood there before says nothing of what is being written over it
            if mark is not None and mark.mtime_ns >= stamp.mtime_ns:
                yield stamp


def _counts(name: str, wanted: Wanted) -> bool:
    if name.startswith((".", "~$")) or name.lower().endswith(_UNFINISHED):
        return False
    if wanted.end_mark and name.endswith(wanted.end_mark):
        return False
    return fnmatchcase(name, wanted.pattern)


def _stamp(folder: int, name: str) -> Stamp | None:
    """Look at a plain file; what is none, or is gone, does not count."""
    try:
        return _of(name, os.stat(name, dir_fd=folder, follow_symlinks=False))
    except (OSError, ValueError):
        return None


def _of(name: str, status: os.stat_result) -> Stamp | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    return Stamp(name, status.st_ino, status.st_size, status.st_mtime_ns)


@contextmanager
def _opened(root: Path, folder: Sequence[str]) -> Iterator[int]:
    """Open a folder below `root` (which may be a link: it is the operator's), part by part."""
    with _told(f"The folder that {FILES_DIR} names is not there"):
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, part in enumerate(folder):
            with _told(_missing(folder, depth)):
                below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _missing(folder: Sequence[str], depth: int) -> str:
    """Say which folder is not there, by no path outside of the tenant's own."""
    if depth == 0:
        return f"The tenant has no folder: there is none named {folder[0]} in {FILES_DIR}"
    return f"There is no folder {'/'.join(folder[1 : depth + 1])} in the tenant's own"


@contextmanager
def _told(missing: str) -> Iterator[None]:
    """Say in our words what the system says of files; its own name paths."""
    try:
        yield
    except OSError as error:
        raise _trouble(error, missing) from None


def _trouble(error: OSError, missing: str) -> ErpError:
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return RefusedError("The way to the file has something in it that is no folder")
    if error.errno == errno.ENOENT:
        return UnreachableError(missing)
    return UnreachableError(f"The file or its folder cannot be read: {error.strerror}")
