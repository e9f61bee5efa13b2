"""A provider is asked as fast as it allows, and no faster."""

from __future__ import annotations

import asyncio

import pytest

from safetyqc.errors import FatalModelError, Interrupted, ModelError
from safetyqc.llm.client import Allowance
from safetyqc.llm.limits import Limits


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.t = 1000.0

    def now(self) -> float:
        return self.t

    async def sleep(self, seconds: float) -> None:
        self.t += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits_of(clock: Clock, rpm: float | None = None, tpm: float | None = None, down_s: float = 120.0) -> Limits:
    return Limits("provider", rpm, tpm, down_s=down_s, now=clock.now, sleep=clock.sleep)


def overload(wait_s: float | None = None) -> ModelError:
    return ModelError("provider_error", "429", retryable=True, retry_after_s=wait_s, overload=True)


BROKEN = ModelError("provider_error", "500", retryable=True)


async def test_without_limits_nothing_waits(clock: Clock) -> None:
    limits = limits_of(clock)
    for _ in range(500):
        await limits.enter(0)
    assert (clock.t, limits.in_flight) == (1000.0, 500)


@pytest.mark.parametrize(("rpm", "tpm", "tokens"), [(600, None, 0), (None, 60_000, 100), (600, 60_000, 100)])
async def test_no_minute_holds_more_than_the_rate(
    clock: Clock, rpm: float | None, tpm: float | None, tokens: int
) -> None:
    limits = limits_of(clock, rpm, tpm)
    starts = []
    for _ in range(1500):
        starts.append((await limits.enter(tokens)).at)
        limits.leave()
    busiest = max(sum(start <= t < start + 60 for t in starts) for start in starts[::50])
    assert busiest <= 600
    assert 1500 / (starts[-1] - starts[0]) * 60 > 500


async def test_tokens_that_were_not_used_are_given_back(clock: Clock) -> None:
    limits = limits_of(clock, tpm=60_000)
    for _ in range(100):
        taken = await limits.enter(3000)
        limits.answered(taken, 300, None)
        limits.leave()
    assert clock.t - 1000 < 40


async def test_too_many_halves_what_is_in_flight_once_per_round(clock: Clock) -> None:
    limits = limits_of(clock)
    taken = [await limits.enter(0) for _ in range(64)]
    clock.t += 0.1
    for one in taken:
        limits.failed(one, overload())
    assert limits.most_in_flight == 32
    clock.t += 1
    limits.in_flight = 31
    late = await limits.enter(0)
    limits.failed(late, overload())
    assert limits.most_in_flight == 16


async def test_answers_raise_the_limit_by_one_a_round(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.most_in_flight = 10
    for _ in range(10):
        limits.answered(await limits.enter(0), None, None)
        limits.leave()
    assert limits.most_in_flight == 11


async def test_those_over_the_limit_wait_for_a_place_in_order(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.most_in_flight = 1
    await limits.enter(0)
    order: list[int] = []

    async def enter(name: int) -> None:
        await limits.enter(0)
        order.append(name)
        limits.leave()

    tasks = [asyncio.create_task(enter(i)) for i in range(3)]
    await asyncio.sleep(0)
    assert order == []
    limits.leave()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]


async def test_a_cancelled_waiter_passes_its_place_on(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.most_in_flight = 1
    await limits.enter(0)
    first, second = (asyncio.create_task(limits.enter(0)) for _ in range(2))
    await asyncio.sleep(0)
    limits.leave()
    first.cancel()
    await second
    assert limits.in_flight == 1


async def test_retry_after_pauses_everybody(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.failed(await limits.enter(0), overload(30))
    limits.leave()
    assert limits.paused_s == pytest.approx(30)
    await limits.enter(0)
    assert clock.t >= 1030


async def test_a_broken_circuit_lets_one_through_and_closes_on_an_answer(clock: Clock) -> None:
    limits = limits_of(clock)
    for taken in [await limits.enter(0) for _ in range(20)]:
        limits.failed(taken, BROKEN)
        limits.leave()
    assert limits.is_open
    probe = await limits.enter(0)
    waiting = asyncio.create_task(limits.enter(0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    limits.answered(probe, None, None)
    limits.leave()
    await waiting
    assert not limits.is_open


async def test_a_provider_that_stays_down_ends_the_run_with_a_clear_message(clock: Clock) -> None:
    limits = limits_of(clock, down_s=60)

    async def fail_for_ever() -> None:
        while True:
            limits.failed(await limits.enter(0), BROKEN)
            limits.leave()

    with pytest.raises(FatalModelError, match="has not answered for") as caught:
        await fail_for_ever()
    assert 60 <= clock.t - 1000 < 200
    assert "goes on where" in (caught.value.fix or "")


@pytest.mark.parametrize("in_flight", [1, 16])
async def test_a_server_that_was_never_there_is_given_up_soon_and_told_of_at_once(clock: Clock, in_flight: int) -> None:
    limits = limits_of(clock)
    nobody = ModelError("provider_error", "m at provider: nobody listens", retryable=True, unreachable=True)
    assert limits.trouble == ""

    async def fail_for_ever() -> None:
        while True:
            for taken in [await limits.enter(0) for _ in range(1 if limits.is_open else in_flight)]:
                limits.failed(taken, nobody)
                limits.leave()
            assert "provider does not answer, given up in" in limits.trouble
            assert "(nobody listens)" in limits.trouble
            clock.t += 0.5

    with pytest.raises(FatalModelError, match="has not answered for"):
        await fail_for_ever()
    assert 20 <= clock.t - 1000 < 30


async def test_a_server_that_answered_once_is_waited_for_longer(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.answered(await limits.enter(0), None, None)
    limits.leave()
    nobody = ModelError("provider_error", "nobody listens", retryable=True, unreachable=True)

    async def fail_for_ever() -> None:
        while True:
            limits.failed(await limits.enter(0), nobody)
            limits.leave()

    with pytest.raises(FatalModelError):
        await fail_for_ever()
    assert clock.t - 1000 >= 120


async def test_a_pause_that_was_asked_for_is_told(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.answered(await limits.enter(0), None, None)
    limits.pause(30)
    assert limits.trouble == "provider asked to wait 30 s"


async def test_a_fatal_error_wakes_and_stops_all_who_wait(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.most_in_flight = 1
    taken = await limits.enter(0)
    waiting = asyncio.create_task(limits.enter(0))
    await asyncio.sleep(0)
    limits.failed(taken, FatalModelError("wrong key"))
    with pytest.raises(FatalModelError, match="wrong key"):
        await waiting


async def test_a_server_that_refuses_every_request_ends_the_run(clock: Clock) -> None:
    limits = limits_of(clock)
    for _ in range(5):
        limits.failed(await limits.enter(0), ModelError("provider_error", "400 messages: invalid"))
    with pytest.raises(FatalModelError, match="400"):
        await limits.enter(0)


async def test_refused_requests_among_answered_ones_do_not(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.answered(await limits.enter(0), None, None)
    for _ in range(20):
        limits.failed(await limits.enter(0), ModelError("provider_error", "400"))
    await limits.enter(0)


@pytest.mark.parametrize(
    ("said", "rpm"),
    [
        (Allowance(limit_requests=500, remaining_requests=499, reset_requests_s=0.12), 500),
        (Allowance(limit_requests=500, remaining_requests=400, reset_requests_s=12.0), 500),
        # a limit per day, as Groq counts requests: no rate, only its end is obeyed
        (Allowance(limit_requests=14_400, remaining_requests=14_399, reset_requests_s=6.0), None),
        # a fixed window that ends in 59 s
        (Allowance(limit_requests=500, remaining_requests=499, reset_requests_s=59.0), None),
        (Allowance(limit_requests=500), None),
    ],
)
async def test_a_rate_per_minute_is_learnt_from_headers(clock: Clock, said: Allowance, rpm: float | None) -> None:
    limits = limits_of(clock)
    limits.answered(await limits.enter(0), None, said)
    assert limits.rates == (rpm, None)


async def test_a_given_rate_is_not_overruled(clock: Clock) -> None:
    limits = limits_of(clock, rpm=60)
    said = Allowance(limit_requests=500, remaining_requests=499, reset_requests_s=0.12)
    limits.answered(await limits.enter(0), None, said)
    assert limits.rates[0] == 60


async def test_an_exhausted_allowance_pauses_until_it_is_whole(clock: Clock) -> None:
    limits = limits_of(clock)
    limits.answered(await limits.enter(0), None, Allowance(remaining_requests=0, reset_requests_s=17.0))
    assert limits.paused_s == pytest.approx(17)


async def test_a_stop_wakes_everybody_who_waits_and_lets_nobody_in(clock: Clock) -> None:
    limits = limits_of(clock)
    taken = await limits.enter(0)
    limits.failed(taken, overload())  # one at a time from now on
    waiting = [asyncio.create_task(limits.enter(0)) for _ in range(5)]
    await asyncio.sleep(0)
    limits.stop()
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert {type(error) for error in ended} == {Interrupted}
    with pytest.raises(Interrupted):
        await limits.enter(0)


async def test_a_turn_that_is_not_used_is_the_next_ones(clock: Clock) -> None:
    limits = limits_of(clock)
    taken = await limits.enter(0)
    limits.failed(taken, overload())
    first, second = (asyncio.create_task(limits.enter(0)) for _ in range(2))
    await asyncio.sleep(0)

    async def gives_up(_: float) -> None:
        limits.sleep = clock.sleep
        raise Interrupted("the sleeper had enough")

    limits.pause(5)
    limits.sleep = gives_up
    limits.leave()
    with pytest.raises(Interrupted):
        await first
    await asyncio.wait_for(second, 5)
