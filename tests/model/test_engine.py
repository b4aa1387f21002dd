"""PostgreSQL against the pure core: the same answers and the same rows, after every step."""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Bench, Machine

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


@pytest.mark.slow
def test_the_engine_agrees_with_the_model(bench: Bench) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=2_000 if LONG else 50,
            stateful_step_count=50 if LONG else 30,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{bench.steps} comparisons")
