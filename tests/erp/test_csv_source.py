"""Files as a source: complete ones, each content once, from the tenant's own folder only."""

import asyncio
import os
import threading
from contextlib import asynccontextmanager
from hashlib import sha256
from uuid import uuid4

import pytest

from cerniq_stock.erp import csv_source, files
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.csv_source import PATIENCE, Place, open_csv, read_csv_settings
from cerniq_stock.erp.rows import PayloadError
from cerniq_stock.erp.trouble import (
    RefusedError,
    TimedOutError,
    TooLargeError,
    UnreachableError,
)
from cerniq_stock.errors import InvalidInputError

TENANT = uuid4()
ONE = b"Cod;Stoc\nA;1\nB;2\n"
TWO = b"Cod;Stoc\nA;5\n"
DAY_NS = 86_400 * 10**9


@pytest.fixture
def folder(tmp_path):
    """The tenant's own folder."""
    own = tmp_path / str(TENANT)
    own.mkdir()
    return own


@pytest.fixture
def opened(tmp_path, folder):
    """Open a session; `wait` is called instead of waiting."""

    @asynccontextmanager
    async def session(settings, *, wait=lambda: None, root=tmp_path, **more):
        async def sleep(_):
            wait()

        place = Place(root, TENANT)
        given = read_csv_settings(settings)
        async with open_csv(given, ErpConfig(), place, sleep=sleep, **more) as source:
            yield source

    return session


@pytest.fixture
def read(opened):
    """Read everything, or what changed, in a session of its own: SKUs and watermark."""

    async def run(settings, *, since=None, **more):
        async with opened(settings, **more) as source:
            pages = source.everything() if since is None else source.changed(since)
            skus = [row.sku async for page in pages for row in page.rows]
            return skus, source.watermark

    return run


def put(path, content, *, age_ns=0):
    """Write a file that is so old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    at = 1_700_000_000 * 10**9 - age_ns
    os.utime(path, ns=(at, at))
    return path


# -- which file -----------------------------------------------------------------------------


async def test_one_file(read, folder):
    put(folder / "in" / "stock.csv", ONE)
    skus, mark = await read({"file": "in/stock.csv"})
    assert skus == ["A", "B"]
    assert mark["name"] == "stock.csv"
    assert len(mark["sha256"]) == 64


async def test_the_newest_of_a_folder(read, folder):
    put(folder / "in" / "zz.csv", ONE, age_ns=DAY_NS)
    put(folder / "in" / "aa.csv", TWO)
    skus, mark = await read({"folder": "in"})
    assert (skus, mark["name"]) == (["A"], "aa.csv")


@pytest.mark.parametrize(
    "name", ["x.csv.tmp", "x.csv.PART", "~$x.xlsx", ".x.csv", "x.csv~", "x.crdownload", "x.txt"]
)
async def test_what_is_no_finished_file_is_not_looked_at(read, folder, name):
    put(folder / "in" / "good.csv", ONE, age_ns=DAY_NS)
    put(folder / "in" / name, b"half of it")
    _, mark = await read({"folder": "in", "pattern": "*.csv*"})
    assert mark["name"] == "good.csv"


async def test_a_file_without_its_mark_is_not_complete(read, folder):
    settings = {"folder": "in", "endMark": ".ok"}
    put(folder / "in" / "old.csv", ONE, age_ns=DAY_NS)
    put(folder / "in" / "old.csv.ok", b"", age_ns=DAY_NS)
    put(folder / "in" / "new.csv", TWO)
    assert (await read(settings))[1]["name"] == "old.csv"
    # the mark of yesterday's file of the same name says nothing of today's
    put(folder / "in" / "new.csv.ok", b"", age_ns=1)
    assert (await read(settings))[1]["name"] == "old.csv"
    put(folder / "in" / "new.csv.ok", b"")
    assert (await read(settings))[1]["name"] == "new.csv"


async def test_an_upload(read):
    skus, mark = await read({}, upload=ONE)
    assert skus == ["A", "B"]
    assert mark == {"sha256": mark["sha256"]}
    assert await read({}, upload=ONE, since=mark) == ([], mark)


async def test_what_is_read_aside_is_no_place_to_go_on_from(read, folder):
    put(folder / "stock.csv", TWO)
    assert await read({"file": "stock.csv"}, upload=ONE, aside=True) == (["A", "B"], None)


async def test_what_is_news_is_what_is_read_then(opened, folder):
    put(folder / "stock.csv", ONE)
    async with opened({"file": "stock.csv"}) as source:
        assert await source.is_news({"sha256": "0"})
        put(folder / "stock.csv", TWO)
        skus = [row.sku async for page in source.everything() for row in page.rows]
        assert (skus, source.watermark["sha256"]) == (["A", "B"], sha256(ONE).hexdigest())
        assert not await source.is_news({"sha256": sha256(TWO).hexdigest()})
    async with opened({}) as source:
        assert not await source.is_news({"sha256": "0"})


async def test_uploads_only_means_nothing_new_and_no_catalogue(opened, read):
    assert await read({}, since={"sha256": "0"}) == ([], None)
    with pytest.raises(RefusedError, match="uploads only"):
        await read({})
    async with opened({}) as source:
        assert (await source.check()).latency_s == 0


async def test_nothing_there_is_no_empty_answer(read, folder):
    for settings, reason in (
        ({"folder": "in/new"}, "^There is no folder in in the tenant's own$"),
        ({"file": "stock.csv"}, "^There is no file yet: no stock.csv in the tenant's folder$"),
        ({"file": "in/stock.csv"}, "^There is no folder in in the tenant's own$"),
    ):
        with pytest.raises(UnreachableError, match=reason):
            await read(settings)
    (folder / "in").mkdir()
    with pytest.raises(UnreachableError, match=r"no in/stock\.csv in the tenant's folder"):
        await read({"file": "in/stock.csv"})
    with pytest.raises(UnreachableError, match=r"^There is no folder in/new in the tenant's own$"):
        await read({"folder": "in/new"})
    with pytest.raises(UnreachableError, match="no file yet"):
        await read({"folder": "in"})


async def test_the_operators_folders_are_named_by_their_setting(read, folder, tmp_path):
    folder.rename(folder.with_name("another"))
    with pytest.raises(UnreachableError, match=f"none named {folder.name} in CERNIQ_ERP_FILES_DIR"):
        await read({"folder": "in"})
    with pytest.raises(UnreachableError, match="CERNIQ_ERP_FILES_DIR names is not there") as told:
        await read({"folder": "in"}, root=tmp_path / "none")
    assert str(tmp_path) not in str(told.value)


async def test_the_name_of_a_copied_file_still_counts(read, folder):
    put(folder / "in" / "stoc.xlsx", bytes(range(1, 256)))
    with pytest.raises(PayloadError, match="named like a workbook, but this is no workbook"):
        await read({"folder": "in"})


# -- each content once ------------------------------------------------------------------------


async def test_the_same_content_gives_no_rows_again(read, folder):
    path = put(folder / "stock.csv", ONE)
    settings = {"file": "stock.csv"}
    _, first = await read(settings)
    put(path, ONE, age_ns=-DAY_NS)
    assert await read(settings, since=first) == ([], first)
    put(path, TWO)
    skus, second = await read(settings, since=first)
    assert skus == ["A"]
    assert second["sha256"] != first["sha256"]
    # asked for everything, it gives everything
    assert await read(settings) == (["A"], second)


# -- half-written ones ------------------------------------------------------------------------


async def test_a_file_that_grows_is_waited_for(read, folder):
    path = put(folder / "in" / "stock.csv", b"Cod;Stoc\n")
    lines = [b"A;1\n", b"B;2\n", b"C;3\n"]

    def write_on():
        if lines:
            put(path, path.read_bytes() + lines.pop(0), age_ns=-len(lines))

    skus, _ = await read({"folder": "in"}, wait=write_on)
    assert skus == ["A", "B", "C"]


async def test_a_file_of_the_same_size_whose_time_changes_is_waited_for(read, folder):
    path = put(folder / "stock.csv", b"Cod;Stoc\nA;1\nX;2\n")
    times = iter([(ONE, -1)])

    def rewrite():
        for content, age in times:
            put(path, content, age_ns=age)
            return

    skus, _ = await read({"file": "stock.csv"}, wait=rewrite)
    assert skus == ["A", "B"]


async def test_a_newer_file_that_comes_meanwhile_is_the_one(read, folder):
    put(folder / "in" / "a.csv", ONE)
    skus, mark = await read(
        {"folder": "in"}, wait=lambda: put(folder / "in" / "b.csv", TWO, age_ns=-1)
    )
    assert (skus, mark["name"]) == (["A"], "b.csv")


async def test_a_file_that_never_ends_is_given_up(read, folder):
    path = put(folder / "stock.csv", ONE)
    waits = []

    def grow():
        waits.append(1)
        put(path, path.read_bytes() + b"C;1\n")

    with pytest.raises(TimedOutError):
        await read({"file": "stock.csv"}, wait=grow)
    assert len(waits) == PATIENCE


async def test_a_file_that_is_changed_while_it_is_copied_is_copied_again(read, folder, monkeypatch):
    path = put(folder / "stock.csv", ONE)
    copied = []

    def copy(root, parts, stamp, target, most):
        if not copied:
            put(path, TWO, age_ns=-1)
        copied.append(stamp)
        return files.copy(root, parts, stamp, target, most)

    monkeypatch.setattr(csv_source, "copy", copy)
    assert (await read({"file": "stock.csv"}))[0] == ["A"]
    assert len(copied) == 2


async def test_a_file_that_is_written_over_while_it_is_read_is_read_again(
    read, folder, monkeypatch
):
    path, begun = put(folder / "stock.csv", ONE), []

    class Digest:
        def __init__(self):
            self._real = sha256()
            self.hexdigest = self._real.hexdigest

        def update(self, block):
            if not begun:
                put(path, ONE.replace(b"B", b"C"), age_ns=-1)
            begun.append(block)
            self._real.update(block)

    monkeypatch.setattr(files, "sha256", Digest)
    assert (await read({"file": "stock.csv"}))[0] == ["A", "C"]
    assert len(begun) == 2


async def test_a_file_broken_in_its_middle_raises_and_leaves_no_watermark(opened, folder):
    rows = b"".join(b"A%d;1\n" % n for n in range(3_000))
    put(folder / "stock.csv", b"Cod;Stoc\n" + rows + b'"never closed;1\n')
    async with opened({"file": "stock.csv"}) as source:
        pages = source.everything()
        assert len((await anext(pages)).rows) == 1_000
        with pytest.raises(PayloadError, match="never closed"):
            async for _ in pages:
                pass
        assert source.watermark is None


# -- whose files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x.csv", "in/../../x.csv", "in//x.csv", ".", "in\\x.csv", "a\0b"]
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_paths_that_lead_elsewhere_are_no_settings(kind, path):
    with pytest.raises(InvalidInputError, match=rf"CSV_IMPORT: {kind}: "):
        read_csv_settings({kind: path})


@pytest.mark.parametrize(
    "given",
    [
        {"file": "a", "folder": "b"},
        {"colour": 1},
        {"endMark": ".ok"},
        {"folder": "a", "pattern": "b/*"},
        {"settleS": -1},
    ],
)
def test_settings_that_mean_nothing(given):
    with pytest.raises(InvalidInputError, match="Connection of CSV_IMPORT: "):
        read_csv_settings(given)


async def test_links_are_not_followed(read, folder, tmp_path):
    secret = put(tmp_path / "other" / "stock.csv", ONE)
    (folder / "link.csv").symlink_to(secret)
    (folder / "away").symlink_to(secret.parent)
    with pytest.raises(UnreachableError):
        await read({"file": "link.csv"})
    for settings in ({"file": "away/stock.csv"}, {"folder": "away"}):
        with pytest.raises(RefusedError):
            await read(settings)
    (folder / "in").mkdir()
    (folder / "in" / "link.csv").symlink_to(secret)
    with pytest.raises(UnreachableError, match="no file yet"):
        await read({"folder": "in"})


async def test_a_file_that_becomes_a_link_is_not_followed(read, folder, tmp_path, monkeypatch):
    secret = put(tmp_path / "other.csv", TWO)
    path = put(folder / "stock.csv", ONE)

    def copy(*args):
        path.unlink()
        path.symlink_to(secret)
        return files.copy(*args)

    monkeypatch.setattr(csv_source, "copy", copy)
    with pytest.raises(RefusedError):
        await read({"file": "stock.csv"})


async def test_another_tenants_folder_that_is_a_link(read, folder, tmp_path):
    put(tmp_path / "other" / "stock.csv", ONE)
    folder.rmdir()
    folder.symlink_to(tmp_path / "other")
    with pytest.raises(RefusedError):
        await read({"file": "stock.csv"})


async def test_a_pipe_keeps_nobody_waiting(read, folder):
    os.mkfifo(folder / "stock.csv")
    with pytest.raises(UnreachableError):
        await read({"file": "stock.csv"})


async def test_without_a_root_no_files_are_read(read, folder):
    put(folder / "stock.csv", ONE)
    with pytest.raises(RefusedError, match="CERNIQ_ERP_FILES_DIR"):
        await read({"file": "stock.csv"}, root=None)


async def test_files_have_a_limit(read, folder):
    put(folder / "stock.csv", ONE)
    assert (await read({"file": "stock.csv"}, most=len(ONE)))[0] == ["A", "B"]
    with pytest.raises(TooLargeError):
        await read({"file": "stock.csv"}, most=len(ONE) - 1)
    with pytest.raises(TooLargeError):
        await read({}, upload=ONE, most=len(ONE) - 1)


# -- sessions -----------------------------------------------------------------------------------


async def test_check_reads_the_beginning(opened, folder):
    put(folder / "stock.csv", ONE)
    async with opened({"file": "stock.csv"}) as source:
        assert (await source.check()).latency_s > 0
    put(folder / "stock.csv", b"a;b\n1;2\n")
    async with opened({"file": "stock.csv"}) as source:
        with pytest.raises(PayloadError, match="no header"):
            await source.check()


async def test_what_files_cannot_do_is_refused(opened):
    async with opened({}) as source:
        with pytest.raises(RefusedError):
            source.of_skus(["A"])
        with pytest.raises(RefusedError):
            source.announced({})
        with pytest.raises(RefusedError):
            await source.push([])


async def test_the_loop_goes_on_while_a_file_is_parsed(opened, monkeypatch):
    """Parsing waits for something that only the loop does: on the loop it would wait for ever."""
    answered = threading.Event()

    def slow(path, config, name):
        assert answered.wait(20)
        yield from csv_parse(path, config)

    csv_parse = csv_source.parse_file
    monkeypatch.setattr(csv_source, "parse_file", slow)

    async with opened({}, upload=ONE) as source:
        asyncio.get_running_loop().call_later(0.05, answered.set)
        async for page in source.everything():
            assert len(page.rows) == 2


async def test_a_session_that_is_left_early_leaves_nothing_behind(opened, folder, tmp_path):
    rows = b"".join(b"A%d;1\n" % n for n in range(5_000))
    put(folder / "stock.csv", b"Cod;Stoc\n" + rows)
    async with opened({"file": "stock.csv"}) as source:
        copies = source._folder
        async for _ in source.everything():
            break
        assert copies.exists()
    for _ in range(200):
        if not copies.exists():
            break
        await asyncio.sleep(0.01)
    assert not copies.exists()
