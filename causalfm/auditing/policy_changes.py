"""What two policies say otherwise, and which of the two is looser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = ("name", "sha256")  # of the file: no margin
# 1: a larger value lets more pass; -1: a smaller one does. Keys that are not here are neither looser nor stricter.
LOOSER: Mapping[str, int] = {
    "effect_ratio": 1,
    "readout_excess": 1,
    "shortcut_premium": 1,
    "score_gap": 1,
    "flip_rate": 1,
    "performance_drop": 1,
    "support_share": 1,
    "subgroup_gap": 1,
    "neighbourhood_minimum": -1,
    "biology_excess": -1,
}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the keys that both policies have, with different values: an older causalfm had fewer keys.

    Parameters
    ----------
    before, after
        Policies as :meth:`causalfm.auditing.Policy.to_dict` gives them.

    Returns
    -------
    list of dict
        ``key``, ``before``, ``after``, and ``direction``: ``"looser"``, ``"stricter"`` or ``"other"``. The file's name
        and hash are left out: a comment changes them and no margin.
    """
    keys = [key for key in before if key in after and key not in NAMES and before[key] != after[key]]
    return [
        {"key": key, "before": before[key], "after": after[key], "direction": direction(key, before[key], after[key])}
        for key in keys
    ]


def direction(key: str, before: Any, after: Any) -> str:
    """Say whether a key became looser or stricter."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (before, after))
    if key not in LOOSER or not numbers:
        return "other"
    return "looser" if (after - before) * LOOSER[key] > 0 else "stricter"
