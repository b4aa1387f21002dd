"""The short version of killing workers, and proof that its oracle can fail."""

from dataclasses import replace

import pytest

from tests.faults.workers import WorkersKilled, kill_workers


async def test_workers_are_killed_and_every_job_has_its_effect_once(database):
    found = await kill_workers(database, 6, 7, lambda _: None)
    assert found.ok, str(found)
    assert found.busy


SOUND = WorkersKilled(6, 5, 700, 0, 466, 466, 234, 234, 0)


@pytest.mark.parametrize(
    "broken",
    [
        {"failed": 1},
        {"reserved": 467},
        {"reserved": 465},
        {"delivered": 235},
        {"delivered": 233},
        {"differences": 1},
    ],
)
def test_what_is_lost_or_doubled_is_seen(broken):
    assert SOUND.ok
    assert not replace(SOUND, **broken).ok
