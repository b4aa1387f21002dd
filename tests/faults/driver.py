"""Kills clients, and servers, while they work."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from cerniq_stock.store import embedded
from tests.faults.client import DIE_AT_ANSWER, DIE_AT_COMMIT, Orders
from tests.faults.intents import Story
from tests.faults.nursery import Nursery
from tests.faults.scene import Scene, make_scene, require_durable
from tests.faults.settle import Verdict, fetch, settle

CLIENTS = 4
CALLERS = 24
UNDER_WAY = 8 * CALLERS
MANNERS = (signal.SIGKILL, signal.SIGKILL, DIE_AT_COMMIT, DIE_AT_ANSWER)
"""Half of the kills come at any moment, a quarter each at the two that matter most."""

PAUSE_S = (0.05, 0.3)
"""Between two kills of clients."""

LOAD_S = (1.0, 3.0)
"""Between the recovery of the server and its next kill."""

PATIENCE_S = 60.0
POLL_S = 0.02

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """A series of kills and what came of it. Times are in seconds."""

    name: str
    kills: int
    seed: int
    verdict: Verdict
    duration_s: float
    troubles: Counter[str]
    recovery_s: list[float] = field(default_factory=list)
    silence_s: list[float] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.verdict.findings


class StuckError(Exception):
    """Nothing was answered for too long."""


class Crew:
    """The clients that are alive, by process number."""

    def __init__(self, scene: Scene, nursery: Nursery, seed: int) -> None:
        self.logs: list[Path] = []
        self._scene = scene
        self._nursery = nursery
        self._seed = seed
        self._alive: dict[int, Orders] = {}

    def start(
        self,
        *,
        follows: Orders | None = None,
        repeats: bool = False,
        reconnect_s: float = 15.0,
    ) -> None:
        scene = self._scene
        orders = Orders(
            number=len(self.logs) + 1,
            dsn=scene.dsn,
            folder=str(scene.folder),
            seed=self._seed,
            callers=CALLERS,
            world=scene.world,
            inherits=str(follows.log) if follows is not None else None,
            repeats=repeats,
            reconnect_s=reconnect_s,
        )
        self.logs.append(orders.log)
        self._alive[self._nursery.start(orders)] = orders

    def working(self) -> list[int]:
        """Clients that are under way: each caller was answered a few times."""
        return [pid for pid, orders in self._alive.items() if _answers(orders.log) >= UNDER_WAY]

    def kill(self, pid: int, with_: signal.Signals) -> Orders:
        """SIGKILL one; returns what it was started with."""
        self._nursery.kill(pid, with_)
        return self._alive.pop(pid)

    def stop(self) -> None:
        for pid in list(self._alive):
            self._nursery.stop(pid)
            del self._alive[pid]

    def story(self) -> Story:
        """All that was written down by the living and the dead."""
        story = Story()
        for intent in self._scene.opening.intents.values():
            story.intend(intent, 0.0)
            story.hear(intent.key, self._scene.opening.answers[intent.key])
        for log in self.logs:
            story.read(log)
        return story


def _answers(log: Path, read_from: int = 0) -> int:
    """Count the answers in a log, or in the first megabyte of what is there to read."""
    if not log.exists():
        return 0
    with log.open("rb") as file:
        file.seek(read_from)
        return file.read(1 << 20).count(b'"told"')


def kill_clients(folder: Path, kills: int, seed: int, say: Say) -> Outcome:
    """SIGKILL a working client every 50 to 300 ms; another takes its place and its book.

    Half of the successors first ask again whatever their predecessor did not hear the answer of,
    while its last transaction may still be under way. The other half leave it to the end.
    """
    started = time.monotonic()
    scene = make_scene(folder, "clients")
    rng = random.Random(f"{seed}/clients")
    with Nursery(scene.folder) as nursery:
        crew = Crew(scene, nursery, seed)
        for _ in range(CLIENTS):
            crew.start()
        for number in range(1, kills + 1):
            time.sleep(rng.uniform(*PAUSE_S))
            working = _wait(crew.working, "no client gets an answer")
            victim = crew.kill(rng.choice(working), rng.choice(MANNERS))
            crew.start(follows=victim, repeats=rng.random() < 0.5)
            if number % 25 == 0:
                say(f"{number} clients killed")
        _wait(lambda: len(crew.working()) == CLIENTS, "the last clients get no answer")
        crew.stop()
    return _conclude("clients", scene, crew.story(), kills, seed, started, say)


def kill_servers(folder: Path, kills: int, seed: int, say: Say) -> Outcome:
    """SIGKILL the postmaster while clients work and live on; every other time all its children too.

    Left alone, the children of a dead postmaster finish the statement that they are at. Killed
    with it, as when a container is, they may have committed what they never reported.

    The engine of one client waits for the server to come back, so its callers notice nothing but
    the time; that of the other gives up at once, so its callers have to ask again.
    """
    started = time.monotonic()
    scene = make_scene(folder, "servers")
    rng = random.Random(f"{seed}/servers")
    killed_at: list[float] = []
    back_at: list[float] = []
    with Nursery(scene.folder) as nursery:
        crew = Crew(scene, nursery, seed)
        crew.start()
        crew.start(reconnect_s=0.0)
        for number in range(1, kills + 1):
            _wait(lambda: len(crew.working()) == 2, "a client gets no answer")
            _wait_for_answers(crew.logs)
            time.sleep(rng.uniform(*LOAD_S))
            victims = [_postmaster(scene), *(_children(scene) if number % 2 == 0 else [])]
            killed_at.append(time.time())
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            embedded.start(scene.data_dir)
            back_at.append(time.time())
            asyncio.run(require_durable(scene.dsn))
            say(f"{number} servers killed, back after {back_at[-1] - killed_at[-1]:.2f} s")
        _wait_for_answers(crew.logs)
        crew.stop()
    story = crew.story()
    recovery_s = [back - killed for back, killed in zip(back_at, killed_at, strict=True)]
    silence_s = [
        min((at for at in story.answered_at if at > back), default=back + PATIENCE_S) - killed
        for back, killed in zip(back_at, killed_at, strict=True)
    ]
    return _conclude("servers", scene, story, kills, seed, started, say, recovery_s, silence_s)


def _postmaster(scene: Scene) -> int:
    pid = embedded.status(scene.data_dir).pid
    assert pid is not None
    return pid


def _children(scene: Scene) -> list[int]:
    """The processes of our server, as it names them itself, but for the one that answers here."""
    rows = asyncio.run(
        fetch(scene.dsn, "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    )
    return [row["pid"] for row in rows]


def _conclude(
    name: str,
    scene: Scene,
    story: Story,
    kills: int,
    seed: int,
    started: float,
    say: Say,
    recovery_s: list[float] | None = None,
    silence_s: list[float] | None = None,
) -> Outcome:
    say(
        f"{len(story.intents):,} commands, {len(story.unknown):,} with an unknown outcome: settling"
    )
    verdict = asyncio.run(settle(scene.dsn, story))
    return Outcome(
        name,
        kills,
        seed,
        verdict,
        time.monotonic() - started,
        story.troubles,
        recovery_s or [],
        silence_s or [],
    )


def _wait_for_answers(logs: list[Path]) -> None:
    """Wait until every client that lives on is being answered again."""
    for log in logs:
        _wait(
            partial(_answered_again, log, log.stat().st_size), "a client is not answered any more"
        )


def _answered_again(log: Path, read_from: int) -> bool:
    return _answers(log, read_from) >= CALLERS


def _wait(condition: Callable[[], T], complaint: str) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise StuckError(f"{complaint} within {PATIENCE_S:g} s")
        time.sleep(POLL_S)
    return found
