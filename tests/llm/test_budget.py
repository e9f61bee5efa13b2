"""What is in flight counts against the budget."""

from __future__ import annotations

import asyncio

import pytest

from safetyqc.errors import BudgetReached
from safetyqc.llm.budget import Budget


async def test_without_a_limit_everything_may_be_spent() -> None:
    budget = Budget()
    await budget.reserve(1e9)


async def test_a_call_that_could_pass_the_limit_is_not_started() -> None:
    budget = Budget(1.0, spent_usd=0.95)
    with pytest.raises(BudgetReached, match=r"0\.9500 of \$1"):
        await budget.reserve(0.1)


async def test_a_call_waits_for_one_in_flight_that_may_leave_room() -> None:
    budget = Budget(1.0)
    first = await budget.reserve(0.8)
    waiting = asyncio.create_task(budget.reserve(0.5))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.settle(first, 0.1)
    assert await waiting == 0.5
    assert budget.spent_usd == pytest.approx(0.1)


async def test_a_call_stops_when_nothing_in_flight_is_left_that_could_make_room() -> None:
    budget = Budget(1.0)
    first = await budget.reserve(0.8)
    waiting = asyncio.create_task(budget.reserve(0.5))
    await asyncio.sleep(0)
    budget.settle(first, 0.7)
    with pytest.raises(BudgetReached):
        await waiting


async def test_an_uncounted_call_costs_what_was_reserved_for_it() -> None:
    budget = Budget(1.0)
    budget.settle(await budget.reserve(0.4), None)
    assert budget.spent_usd == pytest.approx(0.4)


async def test_the_limit_is_never_passed_however_many_ask() -> None:
    budget = Budget(1.0)
    done = 0

    async def call() -> None:
        nonlocal done
        reserved = await budget.reserve(0.1)
        await asyncio.sleep(0)
        budget.settle(reserved, 0.07)
        done += 1

    await asyncio.gather(*(call() for _ in range(100)), return_exceptions=True)
    assert budget.spent_usd <= 1.0
    assert done == 13
