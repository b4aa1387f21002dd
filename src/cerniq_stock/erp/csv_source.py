"""Files as a source: one file, a folder in which new ones appear, or bytes that are handed over.

A file is taken when it is complete, and its content counts once: the watermark is its hash, and
`changed` yields nothing at all for what was read before. Every file is the whole catalogue as it
was when it was written, so what was read long ago is no news because a clock struck.
"""

import asyncio
import tempfile
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, cast
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.csv_import import parse_file
from cerniq_stock.erp.files import MAX_BYTES, Stamp, Wanted, copy, look, newest
from cerniq_stock.erp.rows import Parsed
from cerniq_stock.erp.session import Settings, fault_of
from cerniq_stock.erp.source import Health, Sale, Watermark
from cerniq_stock.erp.trouble import RefusedError, TimedOutError, TooLargeError, UnreachableError
from cerniq_stock.errors import InvalidInputError

T = TypeVar("T")

PATIENCE = 60
"""Times that a file is looked at before it is given up that it ever gets complete."""


def _relative(path: str) -> str:
    """Accept a path whose every part is a plain name."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\\" in part or not part.isprintable() for part in parts):
        raise ValueError("it must be a path such as in/stock.csv, below the tenant's own folder")
    return path


def _name(name: str) -> str:
    if "/" in name or not name.isprintable():
        raise ValueError("it is part of a file's name, without folders")
    return name


RelativePath = Annotated[
    str, StringConstraints(min_length=1, max_length=500), AfterValidator(_relative)
]
PartOfName = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_name)]


class CsvSettings(Settings):
    """Where the files are: `file`, or a `folder` that is looked into; neither: only uploads.

    Paths are relative to the tenant's own folder, which is named by its id.
    """

    file: RelativePath | None = None
    folder: RelativePath | None = None
    pattern: PartOfName = "*"
    """Names that count in the folder, such as `stoc-*.csv`."""
    end_mark: PartOfName | None = None
    """A file counts when another one of its name and this, such as `.ok`, was put beside it."""
    settle_s: float = Field(default=5.0, ge=0, le=300)
    """Without an end mark: seconds in which neither size nor time may change."""

    @property
    def looks(self) -> bool:
        """Whether there is a place where files are looked for."""
        return self.file is not None or self.folder is not None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.file is not None and self.folder is not None:
            raise ValueError("there may be a file or a folder, not both")
        if self.folder is None and (self.end_mark is not None or self.pattern != "*"):
            raise ValueError("pattern and endMark are about a folder")
        return self


def read_csv_settings(given: Mapping[str, Any]) -> CsvSettings:
    """Read where the files are. Raises InvalidInputError naming the key."""
    try:
        return CsvSettings.model_validate(given)
    except ValidationError as error:
        key, reason = fault_of(error, CsvSettings)
    raise InvalidInputError(key, f"Connection of CSV_IMPORT: {reason}")


def naming(settings: CsvSettings, file: str) -> CsvSettings:
    """Return settings by which this one file is read. Raises InvalidInputError for its path."""
    try:
        return CsvSettings(file=file, settle_s=settings.settle_s)
    except ValidationError:
        what = "file must be a path such as in/stock.csv, below the tenant's own folder"
    raise InvalidInputError("file", what)


@dataclass(frozen=True, slots=True)
class Place:
    """Whose files are meant. `root` is None where the operator lets no files be read."""

    root: Path | None
    tenant_id: UUID


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file as it was read, on our own disk. `name` is None for an upload."""

    path: Path
    digest: str
    name: str | None


class CsvSource:
    """A session with files. `open_csv` makes one; it works in one thread of its own."""

    def __init__(
        self,
        settings: CsvSettings,
        config: ErpConfig,
        place: Place,
        upload: bytes | None,
        aside: bool,
        folder: Path,
        threads: ThreadPoolExecutor,
        sleep: Callable[[float], Awaitable[None]],
        most: int,
    ) -> None:
        self._settings = settings
        self._config = config
        self._place = place
        self._upload = upload
        self._aside = aside
        self._folder = folder
        self._threads = threads
        self._sleep = sleep
        self._most = most
        self._found: _Copy | None = None
        self._watermark: Watermark | None = None

    @property
    def watermark(self) -> Watermark | None:
        """Hash and name of the file that was read to its end.

        None where that was read beside those that are looked for: the newest of these is no news.
        """
        return self._watermark

    async def is_news(self, since: Watermark) -> bool:
        """Tell whether `changed` would bring anything; what was found is what is read next."""
        self._found = await self._take(settled=True)
        return self._found is not None and self._found.digest != since.get("sha256")

    async def everything(self) -> AsyncIterator[Parsed]:
        """Read the newest complete file, whether it was read before or not."""
        taken = await self._take(settled=True)
        if taken is None:
            raise RefusedError("There is no file: this integration takes uploads only")
        async with aclosing(self._pages(taken)) as pages:
            async for page in pages:
                yield page

    async def changed(self, since: Watermark) -> AsyncIterator[Parsed]:
        """Read the newest complete file; nothing, not even a page, if it was read before."""
        taken = await self._take(settled=True)
        if taken is None:
            return
        if taken.digest == since.get("sha256"):
            self._watermark = since
            return
        async with aclosing(self._pages(taken)) as pages:
            async for page in pages:
                yield page

    def of_skus(self, skus: Sequence[str]) -> AsyncIterator[Parsed]:
        """Refuse: a file is read as a whole."""
        del skus
        raise RefusedError("Files cannot be asked for single products")

    def announced(self, payload: Any) -> AsyncIterator[Parsed]:
        """Refuse: files announce nothing."""
        del payload
        raise RefusedError("Files have no webhooks")

    async def push(self, sales: Sequence[Sale]) -> str | None:
        """Refuse: nobody would read it."""
        del sales
        raise RefusedError("Files take no sales")

    async def check(self) -> Health:
        """Find the newest file and read its beginning; where there are only uploads, nothing."""
        began = time.monotonic()
        taken = await self._take(settled=False)
        if taken is None:
            return Health(0.0)
        async with aclosing(self._pages(taken)) as pages:
            await anext(pages, None)
        return Health(time.monotonic() - began)

    # -- how --------------------------------------------------------------------------------

    async def _pages(self, taken: _Copy) -> AsyncGenerator[Parsed, None]:
        """Parse in the thread, page by page; the loop goes on meanwhile."""
        pages = cast("Generator[Parsed]", parse_file(taken.path, self._config, taken.name))
        try:
            while (page := await self._in_thread(partial(next, pages, None))) is not None:
                yield page
        finally:
            # the thread does one thing after the other, so not while it still parses; where the
            # session was left before this iteration, it is over anyway
            with suppress(RuntimeError):
                self._threads.submit(pages.close)
        if not self._aside:
            name = {"name": taken.name} if taken.name else {}
            self._watermark = {"sha256": taken.digest} | name

    async def _take(self, *, settled: bool) -> _Copy | None:
        """Copy what is to be read; None where there are only uploads and this is none."""
        if self._found is not None:
            found, self._found = self._found, None
            return found
        if self._upload is not None:
            return await self._in_thread(self._keep_upload)
        folder, name = self._where()
        if folder is None:
            return None
        if self._place.root is None:
            raise RefusedError(
                "Files are not read here; the operator names their folder by CERNIQ_ERP_FILES_DIR"
            )
        return await self._take_from(self._place.root, folder, name, settled=settled)

    def _where(self) -> tuple[list[str] | None, str | None]:
        """The folder's parts below the root, and the name of the one file that counts."""
        own, file, folder = str(self._place.tenant_id), self._settings.file, self._settings.folder
        if file is not None:
            *above, name = file.split("/")
            return [own, *above], name
        return ([own, *folder.split("/")], None) if folder is not None else (None, None)

    async def _take_from(
        self, root: Path, folder: list[str], name: str | None, *, settled: bool
    ) -> _Copy:
        """Wait until a file is complete, and copy it."""
        wanted = Wanted(self._settings.pattern, self._settings.end_mark)
        waits = settled and not wanted.end_mark
        target = self._folder / "file"

        def find() -> Stamp | None:
            return newest(root, folder, wanted) if name is None else look(root, folder, name)

        before = None if waits else await self._in_thread(find)
        for _ in range(PATIENCE):
            if waits:
                before = before or await self._in_thread(find)
                await self._sleep(self._settings.settle_s)
            stamp = await self._in_thread(find)
            if stamp is None:
                raise UnreachableError(f"There is no file yet: {_sought(folder, name)}")
            if stamp == before:
                work = partial(copy, root, folder, stamp, target, self._most)
                digest = await self._in_thread(work)
                if digest is not None:
                    return _Copy(target, digest, stamp.name)
            before = stamp
        raise TimedOutError("The file is still being written")

    def _keep_upload(self) -> _Copy:
        assert self._upload is not None
        if len(self._upload) > self._most:
            raise TooLargeError(f"The file has more than {self._most >> 20} MiB")
        path = self._folder / "file"
        path.write_bytes(self._upload)
        return _Copy(path, sha256(self._upload).hexdigest(), None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise UnreachableError(f"The file cannot be read: {error.strerror}") from None


def _sought(folder: Sequence[str], name: str | None) -> str:
    """Name what was looked for as the settings do, within the tenant's own folder."""
    if name is not None:
        return f"no {'/'.join([*folder[1:], name])} in the tenant's folder"
    return f"none that counts in {'/'.join(folder[1:])}"


@asynccontextmanager
async def open_csv(
    settings: CsvSettings,
    config: ErpConfig,
    place: Place,
    *,
    upload: bytes | None = None,
    aside: bool = False,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    most: int = MAX_BYTES,
) -> AsyncIterator[CsvSource]:
    """Open a session with a tenant's files, or with the bytes that are handed over.

    What is read `aside` is no place to go on from. `sleep` waits for files to get complete; `most`
    is how many bytes one may have.
    """
    threads = ThreadPoolExecutor(1, "csv")
    folder = tempfile.TemporaryDirectory(prefix="cerniq-csv-", ignore_cleanup_errors=True)
    try:
        path = Path(folder.name)
        yield CsvSource(settings, config, place, upload, aside, path, threads, sleep, most)
    finally:
        # after whatever it is doing still, without keeping the loop
        threads.submit(folder.cleanup)
        threads.shutdown(wait=False)
