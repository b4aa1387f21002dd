"""Does the machinery notice? Each mutant of the engine must turn something red."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.domain import test_hold, test_properties, test_reserve, test_shelf
from tests.domain.script import Pure
from tests.domain.script import check as check_table
from tests.model import mutants
from tests.model.machine import Bench, Machine

QUICK = settings(
    max_examples=150,
    stateful_step_count=30,
    phases=[Phase.generate],
    database=None,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


def _fails(check: Callable[[], Any]) -> bool:
    try:
        check()
    except Exception:
        return True
    return False


def _tables() -> None:
    """Run every decision table that needs no parameters, on the pure core."""

    async def run() -> None:
        for module in (test_reserve, test_hold, test_shelf):
            for name, test in vars(module).items():
                wanted = inspect.signature(test).parameters if name.startswith("test_") else None
                if wanted is not None and not wanted:
                    await test()
                elif wanted is not None and list(wanted) == ["check"]:
                    await test(lambda table: check_table(Pure(batched=True), table))

    asyncio.run(run())


def _properties() -> None:
    for name, test in vars(test_properties).items():
        if name.startswith("test_"):
            QUICK(test)()


def test_nothing_is_noticed_where_nothing_is_broken() -> None:
    _tables()


NOTICED_BY_PROPERTIES = {"replay_ignored", "blocked_ignored", "hard_gives_way"}


@pytest.mark.parametrize("name", mutants.DOMAIN)
def test_mutants_of_the_domain_are_noticed(name: str) -> None:
    with mutants.DOMAIN[name]():
        print(name, "tables", _fails(_tables), "properties", _fails(_properties))


@pytest.mark.parametrize("name", mutants.DOMAIN)
def test_the_machine_notices_mutants_of_the_domain(name: str, bench: Bench) -> None:
    bench.mutant = mutants.DOMAIN[name]
    print(
        name,
        "machine",
        _fails(lambda: run_state_machine_as_test(Machine, settings=QUICK)),
        bench.steps,
    )


@pytest.mark.parametrize("name", mutants.STORE)
def test_the_machine_notices_mutants_of_the_store(name: str, bench: Bench) -> None:
    with mutants.sql_mutant(name):
        print(
            name,
            "machine",
            _fails(lambda: run_state_machine_as_test(Machine, settings=QUICK)),
            bench.steps,
        )
