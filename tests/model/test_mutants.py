"""Does the machinery notice? Each mutant of the engine must turn something red."""

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.domain import test_hold, test_orders, test_properties, test_reserve, test_shelf
from tests.domain.script import Pure
from tests.domain.script import check as check_table
from tests.model import mutants
from tests.model.machine import Bench, Machine
from tests.model.scenes import OF_DOMAIN, OF_STORE

QUICK = settings(
    max_examples=150,
    stateful_step_count=30,
    phases=[Phase.generate],
    database=None,
    derandomize=True,  # a mutant is noticed in every run or in none
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)

NOTICE = (AssertionError, asyncpg.IntegrityConstraintViolationError)
"""A difference, or a constraint that stopped it; a mutant that just cannot run proves nothing."""

NOT_IN_THE_TABLES = {"priority_ignored"}
"""Their latest reservations have the lowest priority, too."""

NOT_ON_A_REAL_CLOCK = {"expired_still_holds"}
"""Nothing ever happens in the very microsecond of an expiry, where no test sets the clock."""

IN_THE_PROPERTIES = {
    "blocked_ignored": test_properties.test_the_books_balance,
    "replay_ignored": test_properties.test_refusals_and_repeats_change_nothing,
    "hard_gives_way": test_properties.test_a_reservation_ends_once_and_its_lines_add_up,
    "line_order_lost": test_properties.test_a_batch_is_its_commands_one_by_one,
    "cancelled_again": test_properties.test_orders_add_up,
    "delivers_what_is_not_there": test_properties.test_orders_add_up,
    "delivers_from_the_shelf": test_properties.test_orders_add_up,
    "comes_back_twice": test_properties.test_orders_add_up,
}


def _tables() -> None:
    """Run the decision tables on the pure core, with as much as possible in one batch."""

    async def run() -> None:
        for module in (test_reserve, test_hold, test_shelf, test_orders):
            for name, test in vars(module).items():
                takes = inspect.signature(test).parameters if name.startswith("test_") else None
                if takes is not None and set(takes) <= {"check"}:
                    await test(**{of: partial(check_table, Pure(batched=True)) for of in takes})

    asyncio.run(run())


def _expect_notice(check: Callable[[], Any]) -> None:
    with pytest.raises(NOTICE):
        check()


def _steps_at_random() -> None:
    run_state_machine_as_test(Machine, settings=QUICK)


def test_the_unbroken_domain_passes_the_tables() -> None:
    _tables()


def test_every_mutant_has_a_scene() -> None:
    assert set(OF_DOMAIN) == set(mutants.DOMAIN) - NOT_ON_A_REAL_CLOCK
    assert set(OF_STORE) == set(mutants.STORE)


@pytest.mark.parametrize("name", sorted(set(mutants.DOMAIN) - NOT_IN_THE_TABLES))
def test_the_tables_notice(name: str) -> None:
    with mutants.DOMAIN[name]():
        _expect_notice(_tables)


@pytest.mark.parametrize("name", IN_THE_PROPERTIES)
def test_the_properties_notice(name: str) -> None:
    test = IN_THE_PROPERTIES[name].hypothesis.inner_test
    with mutants.DOMAIN[name]():
        _expect_notice(QUICK(test_properties.random_shop(test)))


@pytest.mark.parametrize("name", OF_DOMAIN)
def test_the_machine_notices_mutants_of_the_domain(name: str, bench: Bench) -> None:
    bench.mutant = mutants.DOMAIN[name]
    _expect_notice(lambda: Machine().play(OF_DOMAIN[name]))
    _expect_notice(_steps_at_random)


@pytest.mark.parametrize("name", OF_STORE)
def test_the_machine_notices_mutants_of_the_store(name: str, bench: Bench) -> None:
    with mutants.sql_mutant(name):
        _expect_notice(lambda: Machine().play(OF_STORE[name]))
        _expect_notice(_steps_at_random)
