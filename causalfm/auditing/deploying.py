"""Run an audit of a deployment: what changed, what it costs, for whom, why, what to do."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
