"""PostgreSQL against the pure core: the same answers and the same rows, after every step."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Bench, Machine
from tests.model.scenes import ALONG_THE_WAY, OF_DOMAIN, OF_STORE, Scene

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
"""Shrinking goes through PostgreSQL thousands of times and takes minutes. It is left to the long
profile; the failing example is stored, so that profile starts from it: HYPOTHESIS_PROFILE=long."""


@pytest.mark.slow
def test_the_engine_agrees_with_the_model(bench: Bench) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=2_000 if LONG else 50,
            stateful_step_count=50 if LONG else 30,
            phases=[*PHASES, Phase.shrink] if LONG else PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{bench.steps} comparisons")


@pytest.mark.parametrize("scene", ALONG_THE_WAY.values(), ids=ALONG_THE_WAY)
def test_what_happens_along_the_way(scene: Scene, bench: Bench) -> None:
    Machine().play(scene)


def test_the_unbroken_engine_plays_every_scene(bench: Bench) -> None:
    """What a mutant fails at is the mutant's fault."""
    for scene in (*OF_DOMAIN.values(), *OF_STORE.values()):
        Machine().play(scene)
