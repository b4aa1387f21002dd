"""True processes: pipes, signals, servers that are away, and the embedded server's life."""

import asyncio
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cerniq_stock.store.database import create_database, drop_database
from tests.entrances.conftest import command_line

PROGRAM = str(Path(sys.executable).parent / "cerniq-stock")


@pytest.fixture
def environment(bare_dsn):
    return {**os.environ, "CERNIQ_DATABASE_URL": bare_dsn, "TZ": "Europe/Bucharest"}


def run(*args, env, **more):
    done = subprocess.run(
        [PROGRAM, *args], env=env, capture_output=True, timeout=120, check=False, **more
    )
    assert b"Traceback" not in done.stderr
    return done


def _shop(environment):
    dsn = environment["CERNIQ_DATABASE_URL"]
    assert command_line(dsn, "tenant", "create", "Papetărie").exit_code == 0
    rows = "".join(f"SKU-{number:04},Creion nr. {number}\n" for number in range(1000))
    result = command_line(dsn, "product", "import", "-", stdin=f"sku,name\n{rows}")
    assert result.stdout == "1000 created, 0 updated\n"


def test_a_pipe_into_a_pipe(environment):
    assert run("tenant", "create", "Papetărie", env=environment).returncode == 0
    rows = "sku,name\nA,Ață\n".encode()
    done = run("product", "import", "-", env=environment, input=rows)
    assert done.stdout == b"1 created, 0 updated\n"
    assert done.stderr == b"1 products read\nwriting products\n"


def test_a_reader_that_has_seen_enough(environment):
    _shop(environment)
    for more in ("", "--json"):
        done = subprocess.run(
            ["bash", "-c", f"{PROGRAM} product list --limit 1000 {more} | head -c 1"],
            env=environment,
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk(environment, more):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "database", "status", *more],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("Error: The output cannot be written: ")
    assert len(done.stderr.splitlines()) == 1


def test_letters_that_the_locale_lacks(environment):
    _shop(environment)
    poor = {**environment, "PYTHONIOENCODING": "ascii"}
    assert "Papet\\u0103rie" in run("tenant", "list", env=poor).stdout.decode("ascii")
    document = json.loads(run("tenant", "list", "--json", env=poor).stdout.decode())
    assert document[0]["name"] == "Papetărie"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://127.0.0.1:1/nowhere",
        "postgresql:///nowhere?host=/nonexistent",
        "postgresql://user:secret@no-such-host.invalid/x",
        "postgresql://127.0.0.1:notaport/x",
        "mysql://127.0.0.1/x",
        "nonsense",
    ],
)
def test_no_database_there(environment, url):
    for args in (["stock", "show"], ["database", "migrate"], ["database", "status"], ["verify"]):
        result = command_line(
            environment["CERNIQ_DATABASE_URL"], *args, "--database", url, "--json"
        )
        assert result.exit_code == 7, result
        (sentence,) = result.stderr.splitlines()
        assert "secret" not in sentence
        assert result.document["error"]["code"] == "UNAVAILABLE"


def test_migrate_another_server_from_nothing(server):
    name = f"cli_migrated_{os.getpid()}"
    dsn = asyncio.run(create_database(server, name))
    try:
        first = command_line(dsn, "database", "migrate", "--json").document
        assert first["before"] is None
        again = command_line(dsn, "database", "migrate", "--json").document
        assert again == {"before": first["after"], "after": first["after"]}
        status = command_line(dsn, "database", "status", "--json").document
        assert (status["embedded"], status["upToDate"]) == (False, True)
        assert command_line(dsn, "doctor").exit_code == 0
        for verb in ("start", "stop"):
            assert command_line(dsn, "database", verb).exit_code == 2
    finally:
        asyncio.run(drop_database(server, name))


def test_a_doctor_without_a_patient(bare_dsn):
    gone = "postgresql://user:secret@127.0.0.1:1/nowhere"
    result = command_line(bare_dsn, "doctor", "--database", gone, "--json")
    assert result.exit_code == 1
    assert result.document["ok"] is False
    assert result.document["checks"][-1]["name"] == "database"
    assert "secret" not in result.stdout + result.stderr


def test_a_wrong_database_name_or_role(environment, bare_dsn):
    path, _, query = bare_dsn.partition("?")
    for url in (
        f"{path}_missing?{query}",
        bare_dsn.replace("postgres@", "nobody_we_know@"),
    ):
        done = run("stock", "show", "--database", url, env=environment)
        assert done.returncode == 7, done
        assert len(done.stderr.splitlines()) == 1


def test_a_bad_setting(environment):
    done = run("stock", "show", env={**environment, "CERNIQ_WRITER_CONNECTIONS": "many"})
    assert done.returncode == 5
    assert done.stderr.startswith(b"Error: CERNIQ_WRITER_CONNECTIONS: ")


def test_interrupted_while_it_waits_for_a_silent_server(environment):
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment["CERNIQ_DATABASE_URL"] = f"postgresql://127.0.0.1:{server.getsockname()[1]}/x"
        program = [PROGRAM, "stock", "show", "--json"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(program, env=environment, **pipes)
        with process, server.accept()[0]:
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr == b"Error: Interrupted\n"
    assert json.loads(stdout)["error"]["code"] == "INTERRUPTED"


def _on_a_terminal(args, environment):
    """Run on a pseudo terminal and return what it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([PROGRAM, *args], env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return shown


def test_colours_on_a_terminal_only_and_only_where_wanted(environment):
    _shop(environment)
    environment |= {"TERM": "xterm-256color", "FORCE_COLOR": "1"}
    environment.pop("NO_COLOR", None)
    assert b"\x1b" not in run("product", "list", env=environment).stdout
    assert b"\x1b" not in run("--help", env=environment).stdout
    assert b"\x1b[" in _on_a_terminal(["product", "list"], environment)
    environment["NO_COLOR"] = "1"
    assert b"\x1b" not in _on_a_terminal(["product", "list"], environment)
    assert b"\x1b" not in _on_a_terminal(["product", "list", "--json"], environment)


@pytest.fixture
def folder():
    """A data folder for an embedded server that the account which runs it can reach."""
    path = Path(tempfile.mkdtemp(prefix="cerniq-test-")).resolve()
    path.chmod(0o755)
    yield path / "pg"
    shutil.rmtree(path)


def test_the_embedded_server_from_start_to_stop(folder):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CERNIQ_")}
    environment["CERNIQ_DATA_DIR"] = str(folder)

    def document(*args):
        done = run(*args, "--json", env=environment)
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    assert document("database", "status")["running"] is False
    assert run("doctor", env=environment).returncode == 0
    assert not (folder / "PG_VERSION").exists()
    assert document("database", "stop") == {"stopped": False}
    try:
        started = document("database", "start")
        assert started["running"] is True
        assert started["dataDir"] == str(folder)
        assert started["upToDate"] is True
        assert started["pid"] == document("database", "start")["pid"]
        migrated = document("database", "migrate")
        assert migrated["before"] == migrated["after"] == started["revision"]
        found = document("doctor")
        assert {each["status"] for each in found["checks"]} <= {"ok", "warn"}
        assert next(c for c in found["checks"] if c["name"] == "durability")["status"] == "ok"
        document("tenant", "create", "One")
        refused = run("database", "stop", "--database", "postgresql:///x", env=environment)
        assert refused.returncode == 2
    finally:
        assert document("database", "stop", "--mode", "immediate") == {"stopped": True}
    assert document("database", "status")["pid"] is None
    assert len(document("tenant", "list")) == 1  # started by itself
    assert document("database", "stop") == {"stopped": True}


def test_a_data_folder_that_cannot_be_used(tmp_path):
    path = tmp_path / "file"
    path.write_text("not a folder")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CERNIQ_")}
    environment["CERNIQ_DATA_DIR"] = str(path)
    done = run("stock", "show", env=environment)
    assert done.returncode == 7, done
    assert len(done.stderr.splitlines()) == 1


def test_watched_until_somebody_has_seen_enough(environment):
    """What is drawn meanwhile goes to the terminal; the last figures are the answer."""
    _shop(environment)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "job", "watch", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    assert os.read(ours, 65536)  # it draws
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=30)
    os.close(ours)
    assert (process.returncode, json.loads(stdout)) == (0, [])
