"""The pace of a training: images a second, share of time that it waits for data, seconds until its end."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

RECENT_STEPS = 50
"""So many steps the figures look back: they follow a change within minutes, and do not jump from step to step."""

Batch = TypeVar("Batch")


class Pace:
    """Is told when steps end, and hands over their batches; what happens between steps (validations) is not counted.

        for batch in pace.timed(loader):
            ...
            pace.step_done()

    A GPU works on while the next step is prepared, so a single step's time is that of the program, not of the GPU;
    over `RECENT_STEPS` steps the two are the same.
    """

    def __init__(self, images_per_step: int, clock: Callable[[], float] = time.perf_counter):
        """Start.

        Args:
            images_per_step: over all processes.
            clock: seconds from any origin.
        """
        self._images_per_step = images_per_step
        self._clock = clock
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT_STEPS)  # seconds of a step, and of its waiting
        self._started: float | None = None  # the first step
        self._step_started: float | None = None
        self._waited = 0.0  # seconds, in this step
        self._seconds_in_steps = 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Hand batches over as they come, and note how long each was waited for. A step may take several."""
        iterator = iter(batches)
        while True:
            asked = self._clock()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += self._clock() - asked
            self._started = asked if self._started is None else self._started
            self._step_started = asked if self._step_started is None else self._step_started
            yield batch

    def step_done(self) -> None:
        """A step of the optimiser has ended."""
        assert self._step_started is not None, "a step ends that took no batch from timed()"
        seconds = self._clock() - self._step_started
        self._recent.append((seconds, self._waited))
        self._seconds_in_steps += seconds
        self._step_started, self._waited = None, 0.0

    def images_per_second(self) -> float:
        """Over the recent steps; NaN before the first."""
        return self._images_per_step * _ratio(len(self._recent), self._recent_seconds())

    def data_wait(self) -> float:
        """Share of the recent steps' time, 0-1, in which the next batch was not there yet; NaN before the first."""
        return _ratio(sum(waited for _, waited in self._recent), self._recent_seconds())

    def seconds_left(self, steps: int, most: float = math.inf) -> float:
        """Seconds until the end of the training, without its last validation; NaN before the first step.

        Args:
            steps: still to be taken.
            most: seconds of training after which it ends in any case.
        """
        in_steps = max(0.0, min(steps * _ratio(self._recent_seconds(), len(self._recent)), most))
        so_far = math.nan if self._started is None else self._clock() - self._started
        return in_steps * _ratio(so_far, self._seconds_in_steps)  # validations and checkpoints take their share

    def figures(self, steps_left: int, most: float = math.inf) -> dict[str, float]:
        """All three, under the names they have in metrics.jsonl; arguments as for `seconds_left`."""
        return {
            "images_per_second": self.images_per_second(),
            "data_wait": self.data_wait(),
            "seconds_left": self.seconds_left(steps_left, most),
        }

    def _recent_seconds(self) -> float:
        return sum(seconds for seconds, _ in self._recent)


def describe(figures: Mapping[str, float]) -> str:
    """Those of the figures that are known, and the memory, for a line on the screen."""
    units: dict[str, tuple[str, float]] = {
        "images_per_second": ("{:.1f} images/s", 1),
        "data_wait": ("waiting for data {:.0f} %", 100),
        "memory_gib": ("memory {:.1f} GiB", 1),
    }
    known = {name: value for name, value in figures.items() if name in units and math.isfinite(value)}
    return "  ".join(units[name][0].format(units[name][1] * value) for name, value in known.items())


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
