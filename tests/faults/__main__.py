"""`python -m tests.faults`: the long version. Exit code 1 when anything is lost or doubled."""

import argparse
import asyncio
import json
import random
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.faults.driver import Outcome, kill_clients, kill_servers
from tests.faults.report import NOT_TESTED, as_data, as_text
from tests.faults.scene import make_scene, server_folder
from tests.faults.workers import WorkersKilled, kill_workers


def main() -> int:
    args = _arguments()
    outcomes: list[Outcome] = []
    with server_folder(keep=args.keep) as folder:
        if args.keep:
            _say(f"everything is kept in {folder}")
        for kill, kills in ((kill_clients, args.client_kills), (kill_servers, args.server_kills)):
            if kills:
                outcomes.append(kill(folder, kills, args.seed, _say))
                if not args.json:
                    print(as_text(outcomes[-1]), flush=True)
        if args.worker_kills:
            killed = _kill_workers(folder, args.worker_kills, args.seed)
            print(killed, file=sys.stderr if args.json else sys.stdout, flush=True)
            if not killed.ok:
                return 1
    if args.json:
        print(json.dumps([as_data(outcome) for outcome in outcomes], indent=2))
    else:
        print(NOT_TESTED)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def _kill_workers(folder: Path, kills: int, seed: int) -> WorkersKilled:
    """On the durable server of the other tests, in a database of its own."""
    scene = make_scene(folder, "workers")
    return asyncio.run(kill_workers(scene.dsn, kills, seed, _say))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Kill clients and servers under load; nothing may be lost or doubled.",
    )
    parser.add_argument("--client-kills", type=int, default=200, metavar="N")
    parser.add_argument("--server-kills", type=int, default=20, metavar="N")
    parser.add_argument("--worker-kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=None, help="of the commands and pauses")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the database and the logs")
    args = parser.parse_args()
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(10**6)
    return args


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
