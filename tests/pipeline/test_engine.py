"""The engine bounds what is in flight, hands failures back, and stops in two steps."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest

from safetyqc.errors import BudgetReached, Deferred, FatalModelError, Interrupted, ModelError, RunError
from safetyqc.pipeline.engine import STOPPING, Stop, in_one_loop


@pytest.fixture(autouse=True)
def hearing() -> Iterator[None]:
    """Signals as a shell in the foreground leaves them: one that starts the tests otherwise may have some ignored."""
    before = {sign: signal.signal(sign, signal.default_int_handler) for sign in STOPPING}
    yield
    for sign, old in before.items():
        signal.signal(sign, old)


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def collect(
    items: Iterable[Any], work: Callable[[Any], Awaitable[Any]], concurrency: int = 16, stop: Stop | None = None
) -> list[tuple[Any, Any]]:
    return [pair async for pair in in_one_loop(items, work, concurrency=concurrency, stop=stop)]


@pytest.mark.parametrize("concurrency", [0, 1, 3, 500])
async def test_every_item_comes_back_once_with_its_result(concurrency: int) -> None:
    pairs = await collect(range(100), double, concurrency)
    assert sorted(pairs) == [(n, 2 * n) for n in range(100)]


async def test_nothing_to_do_is_fine_and_none_is_an_item() -> None:
    async def same(x: object) -> object:
        return x

    assert await collect([], same) == []
    assert await collect([None], same) == [(None, None)]


async def test_no_more_than_allowed_are_in_flight_and_all_of_that_is_used() -> None:
    now, most = 0, 0

    async def work(n: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    await collect(range(50), work, 7)
    assert most == 7


async def test_results_come_as_they_finish() -> None:
    gates = [asyncio.Event() for _ in range(3)]

    async def work(n: int) -> int:
        await gates[n].wait()
        return n

    seen = []
    gates[2].set()
    async for item, _ in in_one_loop(range(3), work, concurrency=3):
        seen.append(item)
        gates[{2: 0, 0: 1, 1: 1}[item]].set()
    assert seen == [2, 0, 1]


async def test_items_are_not_run_far_ahead_of_a_slow_reader() -> None:
    started = 0

    async def work(n: int) -> int:
        nonlocal started
        started += 1
        return n

    async for _ in in_one_loop(range(1000), work, concurrency=2):
        for _ in range(50):
            await asyncio.sleep(0)
        break
    assert started < 20


async def test_a_model_error_is_an_outcome() -> None:
    async def work(n: int) -> int:
        if n == 1:
            raise ModelError("bad_json", "no object")
        return n

    outcomes = dict(await collect(range(3), work))
    assert outcomes[0] == 0
    assert isinstance(outcomes[1], ModelError)
    assert outcomes[2] == 2


@pytest.mark.parametrize("error", [FatalModelError("wrong key"), BudgetReached("spent"), Interrupted("enough")])
async def test_a_stopping_error_lets_those_in_flight_finish_and_starts_nothing_new(error: Exception) -> None:
    started, gate = [], asyncio.Event()

    async def work(n: int) -> int:
        started.append(n)
        await asyncio.sleep(0)  # lets the others start
        if n == 0:
            asyncio.get_running_loop().call_soon(gate.set)
            raise error
        await gate.wait()
        return n

    finished = []

    async def read() -> None:
        async for pair in in_one_loop(range(100), work, concurrency=4):
            finished.append(pair)

    with pytest.raises(type(error)) as caught:
        await read()
    assert caught.value is error
    assert sorted(finished) == [(1, 1), (2, 2), (3, 3)]
    assert started == [0, 1, 2, 3]


@pytest.mark.parametrize("bug", [KeyError("half a pair \ud83d"), OSError(5, "gone"), RecursionError("too deep")])
async def test_an_exception_that_nobody_planned_is_the_outcome_of_its_item_and_told_with_its_place(
    bug: Exception,
) -> None:
    async def work(n: int) -> int:
        if n == 1:
            raise bug
        return n

    outcomes = dict(await collect(range(3), work))
    assert (outcomes[0], outcomes[2]) == (0, 2)
    assert outcomes[1].kind == "defect"
    assert outcomes[1].reason.startswith(type(bug).__name__)
    assert "test_engine.py:" in outcomes[1].reason
    outcomes[1].reason.encode()  # it can be written down


async def test_what_an_exception_says_is_shown_without_keys() -> None:
    async def work(_: int) -> None:
        raise ValueError("Incorrect API key provided: sk-abcdefghijklmnopqrstuvwx")

    ((_, outcome),) = await collect([1], work)
    assert "sk-abc" not in outcome.reason


async def test_what_waits_for_a_batch_is_an_outcome_and_a_full_disk_is_none() -> None:
    async def work(n: int) -> None:
        raise Deferred("later") if n == 0 else RunError("disk full")

    seen = []

    async def read() -> None:
        async for _, outcome in in_one_loop(range(2), work):
            seen.append(type(outcome))

    with pytest.raises(RunError):
        await read()
    assert seen == [Deferred]


async def test_the_first_press_finishes_what_is_in_flight() -> None:
    stop, gate = Stop(), asyncio.Event()

    async def work(n: int) -> int:
        await asyncio.sleep(0)
        if n == 0:
            stop.press()
            asyncio.get_running_loop().call_soon(gate.set)
        await gate.wait()
        return n

    finished = []

    async def read() -> None:
        async for item, _ in in_one_loop(range(100), work, concurrency=3, stop=stop):
            finished.append(item)

    with pytest.raises(Interrupted):
        await read()
    assert sorted(finished) == [0, 1, 2]


def test_whoever_wants_to_know_is_told_of_every_press() -> None:
    stop, told = Stop(), list[int]()
    stop.on_press(lambda: told.append(stop.presses))
    stop.press()
    stop.press()
    assert told == [1, 2]


async def test_the_second_press_cancels() -> None:
    stop = Stop()

    async def work(n: int) -> None:
        await asyncio.sleep(0)
        stop.press()
        await asyncio.Event().wait()

    with pytest.raises(Interrupted):
        await collect(range(10), work, 2, stop)
    assert stop.presses == 2


async def test_a_press_when_everything_was_started_is_no_interruption() -> None:
    stop = Stop()

    async def work(n: int) -> int:
        stop.press()
        return n

    assert len(await collect(range(1), work, 1, stop)) == 1


async def test_a_map_begun_after_two_presses_does_nothing() -> None:
    stop = Stop()
    stop.press()
    stop.press()
    with pytest.raises(Interrupted):
        await collect(range(3), double, 2, stop)


@pytest.mark.parametrize("sign", STOPPING)
async def test_signals_are_presses_and_wake_a_waiting_loop(sign: signal.Signals) -> None:
    stop, told = Stop(), []
    loop = asyncio.get_running_loop()

    async def work(n: int) -> None:
        await asyncio.sleep(0)
        loop.call_soon(os.kill, os.getpid(), sign)
        await asyncio.Event().wait()

    before = signal.getsignal(sign)
    with stop.on_ctrl_c(told.append), pytest.raises(Interrupted):
        await collect(range(5), work, 2, stop)
    assert told == [1, 2]
    assert signal.getsignal(sign) is before


@pytest.mark.parametrize("sign", STOPPING)
def test_what_may_end_anywhere_ends_at_the_first_press(sign: signal.Signals) -> None:
    stop, told, reached = Stop(), list[int](), list[str]()

    def work() -> None:
        with stop.at_once():
            reached.append("before")
            signal.raise_signal(sign)
            reached.append("after")

    with stop.on_ctrl_c(told.append):
        for _ in range(2):  # the second time it was pressed before
            with pytest.raises(Interrupted):
                work()
    assert (reached, told) == (["before"], [])


def test_a_command_that_is_to_outlive_its_terminal_does() -> None:
    stop, before = Stop(), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop.on_ctrl_c(lambda _: None):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not stop.requested


def test_a_terminal_that_went_away_is_no_reason_to_lose_anything() -> None:
    def tell(_: int) -> None:
        raise OSError(5, "Input/output error")

    stop = Stop()
    with stop.on_ctrl_c(tell):
        signal.raise_signal(signal.SIGHUP)
    assert stop.presses == 1


def test_after_what_may_end_anywhere_a_press_lets_things_finish_again() -> None:
    stop, told = Stop(), list[int]()
    with stop.on_ctrl_c(told.append):
        with stop.at_once():
            pass
        signal.raise_signal(signal.SIGINT)
    assert told == [1]


async def test_leaving_the_loop_early_cancels_what_is_in_flight() -> None:
    cancelled = asyncio.Event()

    async def work(n: int) -> int:
        if n == 0:
            return n
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return n

    results = in_one_loop(range(5), work, concurrency=2)
    async for _ in results:
        break
    await results.aclose()  # type: ignore[attr-defined]
    assert cancelled.is_set()


@pytest.fixture
def usual_threshold() -> Iterator[tuple[int, int, int]]:
    """Python's own, whatever other modules have set."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield (700, 10, 10)
    gc.set_threshold(*before)


async def test_how_often_garbage_is_looked_for_is_as_before_once_a_map_is_over(
    usual_threshold: tuple[int, int, int],
) -> None:
    async def threshold(_: object) -> tuple[int, int, int]:
        return gc.get_threshold()

    seen = await collect([1], threshold)
    assert seen[0][1][0] > 700
    assert gc.get_threshold() == usual_threshold
