"""Two policies side by side: which keys differ, and whether a pass became easier or harder to get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from causalfm.auditing.policy import PURPOSE, default_values
from causalfm.auditing.policy_problems import keys

Direction = Literal["looser", "stricter", "other"]
UNCOMPARED = ("version", "sha256")
# words about the policy; every other key changes what a report says
WORDS = ("name", *PURPOSE)


def direction(key: str, before: Any, after: Any) -> Direction:
    """Say whether a change of a key makes a pass easier (looser) or harder (stricter) to get.

    Parameters
    ----------
    key
        Key of the policy.
    before, after
        Its values.

    Returns
    -------
    str
        ``"other"`` where the key has no such direction, or a list neither grew nor shrank.
    """
    rule = keys().get(key, {}).get("stricter")
    if rule in ("lower", "higher") and isinstance(before, (int, float)) and isinstance(after, (int, float)):
        return "stricter" if (after < before) == (rule == "lower") else "looser"
    if rule == "more" and isinstance(before, list) and isinstance(after, list):
        old, new = set(map(str, before)), set(map(str, after))
        if key == "factors" and not (old and new):  # no factor named: all technical ones are
            return "looser" if new else "stricter"
        return "stricter" if new > old else "looser" if new < old else "other"
    return "other"


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the keys that two policies give different values.

    Parameters
    ----------
    before, after
        Policies as plain data. Keys that only one of them has are left out: another version wrote it.

    Returns
    -------
    list of dict
        ``key``, ``before``, ``after``, ``direction``; in the order of the default policy.
    """
    out = []
    for key in keys():
        if key in UNCOMPARED or key not in before or key not in after:
            continue
        old, new = (list(value) if isinstance(value, tuple) else value for value in (before[key], after[key]))
        if old != new:
            out.append({"key": key, "before": old, "after": new, "direction": direction(key, old, new)})
    return out


def policy_rows(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lay out a policy beside the default.

    Parameters
    ----------
    policy
        As plain data, for instance ``audit.policy``.

    Returns
    -------
    list of dict
        For every key: ``key``, ``value``, ``default``, ``compared`` (``"as default"``, ``"looser"``, ``"stricter"`` or
        ``"other"``), ``stricter`` (which way is: ``"lower"``, ``"higher"``, ``"more"`` or nothing) and ``means``.
    """
    default = default_values()
    differing = {change["key"]: change["direction"] for change in changes(default, policy)}
    rows = []
    for key, rule in keys().items():
        if key not in UNCOMPARED and key in policy:
            row = {"key": key, "value": policy[key], "default": default[key]}
            row |= {"compared": differing.get(key, "as default"), "stricter": rule.get("stricter", "")}
            rows.append({**row, "means": rule["description"]})
    return rows


def shown(value: Any) -> str:
    """Write a value as the policy file would: lists in brackets, nothing for an empty text."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(str, value))}]"
    return repr(value) if isinstance(value, str) and value != value.strip() else f"{value}" or '""'


def change_words(change: Mapping[str, Any]) -> str:
    """Say one change: ``effect_ratio was 0.5 and is 0.8 (looser)``."""
    way = f" ({change['direction']})" if change["direction"] != "other" else ""
    return f"{change['key']} was {shown(change['before'])} and is {shown(change['after'])}{way}"
