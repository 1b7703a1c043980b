"""The pace of a training, by a clock that the test turns."""

import math

import pytest

from tascnet.training.throughput import RECENT_STEPS, Pace, describe


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(pace: Pace, clock: Clock, steps: int, wait: float, work: float, batches_a_step: int = 1) -> None:
    """Take steps of so many seconds."""

    def slow_batches():
        for _ in range(steps * batches_a_step):
            clock.now += wait
            yield "batch"

    for number, batch in enumerate(pace.timed(slow_batches()), start=1):
        assert batch == "batch"
        clock.now += work
        if number % batches_a_step == 0:
            pace.step_done()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_before_the_first_step_nothing_is_known(clock: Clock):
    figures = Pace(4, clock).figures(steps_left=10)
    assert list(figures) == ["images_per_second", "data_wait", "seconds_left"]
    assert all(math.isnan(value) for value in figures.values())
    assert describe(figures) == ""


def test_steps_of_equal_length(clock: Clock):
    pace = Pace(images_per_step=8, clock=clock)
    run(pace, clock, steps=5, wait=0.5, work=1.5)
    assert pace.figures(steps_left=10) == pytest.approx(
        {"images_per_second": 4.0, "data_wait": 0.25, "seconds_left": 20.0}
    )


def test_a_step_of_several_batches_waits_for_all_of_them(clock: Clock):
    pace = Pace(images_per_step=8, clock=clock)
    run(pace, clock, steps=3, wait=0.5, work=1.5, batches_a_step=4)
    assert pace.images_per_second() == pytest.approx(1.0)
    assert pace.data_wait() == pytest.approx(0.25)


def test_only_recent_steps_count(clock: Clock):
    pace = Pace(images_per_step=1, clock=clock)
    run(pace, clock, steps=500, wait=9.0, work=1.0)
    assert pace.images_per_second() == pytest.approx(0.1)
    run(pace, clock, steps=RECENT_STEPS, wait=0.0, work=0.5)
    assert pace.images_per_second() == pytest.approx(2.0)
    assert pace.data_wait() == 0


def test_validations_slow_no_step_down_but_put_off_the_end(clock: Clock):
    pace = Pace(images_per_step=1, clock=clock)
    run(pace, clock, steps=10, wait=0.0, work=1.0)
    clock.now += 5  # a validation, half as long as the steps so far
    run(pace, clock, steps=10, wait=0.0, work=1.0)
    clock.now += 5
    assert pace.images_per_second() == pytest.approx(1.0)
    assert pace.data_wait() == 0
    assert pace.seconds_left(40) == pytest.approx(60.0)


def test_a_bound_on_the_time_ends_it_sooner(clock: Clock):
    pace = Pace(images_per_step=1, clock=clock)
    run(pace, clock, steps=10, wait=0.0, work=1.0)
    assert pace.seconds_left(40, most=12.0) == pytest.approx(12.0)
    assert pace.seconds_left(5, most=12.0) == pytest.approx(5.0)
    assert pace.seconds_left(5, most=-0.1) == 0


def test_a_step_that_took_no_batch_is_a_mistake(clock: Clock):
    with pytest.raises(AssertionError, match="took no batch"):
        Pace(1, clock).step_done()


def test_only_what_is_known_is_shown():
    figures = {"images_per_second": 12.34, "data_wait": 0.256, "seconds_left": 7.0, "memory_gib": 3.21}
    assert describe(figures) == "12.3 images/s  waiting for data 26 %  memory 3.2 GiB"
    assert describe(figures | {"memory_gib": math.nan}) == "12.3 images/s  waiting for data 26 %"
