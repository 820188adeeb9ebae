"""How fast an extraction goes and when it will be done."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]


class Pace:
    """Reports images done, with the rate of this run and the time left."""

    def __init__(self, progress: Progress | None, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._steps = steps
        self._clock = clock
        self._done = 0
        self._counted = 0
        self._since: float | None = None

    def start(self, done: int) -> None:
        """Begin, with what runs before have done."""
        self._done = done
        self._say("embedding")

    def step(self, images: int) -> None:
        """Count a batch; the first one, which warms everything up, sets the clock."""
        self._done += images
        if self._since is None:
            self._since = self._clock()
            self._say("embedding")
            return
        self._counted += images
        rate = self._counted / max(self._clock() - self._since, 1e-9)
        self._say(f"embedding {rate:,.{0 if rate >= 10 else 1}f}/s, {_words((self._steps - self._done) / rate)} left")

    def _say(self, what: str) -> None:
        if self._progress is not None:
            self._progress(what, self._done, self._steps)


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
