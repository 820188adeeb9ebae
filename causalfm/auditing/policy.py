"""The policy: margins and thresholds declared before a run, in one file that a hospital can replace."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from causalfm.auditing.policy_file import read_entries
from causalfm.auditing.policy_problems import keys, problems_of
from causalfm.errors import PolicyError

DEFAULT = Path(__file__).with_name("policy.yaml")
PURPOSE = ("intended_use", "declared_by", "declared_on")


@dataclass(frozen=True)
class Policy:
    """Margins and thresholds of an audit.

    Attributes
    ----------
    name, sha256
        Name of the policy and hash of its file.
    effect_ratio
        Largest acceptable distance between levels, in units of the distance between classes.
    neighbourhood_minimum
        Least acceptable robustness index, 2 x 2 reference version.
    readout_excess, biology_excess
        Largest gain of a probe for the factor, least gain for the biology, as a share of what is possible.
    shortcut_premium
        Largest accuracy that a model may owe to a technical factor.
    score_gap
        Largest gap between levels in a model's scores, in points of probability.
    flip_rate
        Largest share of decisions that may change at another level.
    performance_drop
        Largest acceptable loss of accuracy at a deployment.
    support_share
        Largest share of a deployment's patients that may lie outside the reference.
    subgroups, subgroup_gap
        Columns whose levels are protected subgroups; the largest acceptable gap in accuracy between two of them.
    minimum_groups
        Fewest independent units per cell.
    permutations
        Permutations of the tests.
    corrections
        Whether correctors are tried where a technical factor fails: ``"none"``, ``"quick"`` or ``"full"``.
    alpha
        One minus the confidence of every interval, bound and test of the audit.
    factors
        Technical factors whose findings decide the verdict; empty for all.
    suppress_below
        Cells with fewer independent units are not printed; 0 prints all.
    intended_use, declared_by, declared_on
        What the embeddings are meant for, who declared the policy, and on which day (ISO); empty if nobody said.
    """

    name: str
    sha256: str
    effect_ratio: float
    neighbourhood_minimum: float
    readout_excess: float
    biology_excess: float
    shortcut_premium: float
    score_gap: float
    flip_rate: float
    performance_drop: float
    support_share: float
    subgroups: tuple[str, ...]
    subgroup_gap: float
    minimum_groups: int
    permutations: int
    corrections: str
    alpha: float = 0.05
    factors: tuple[str, ...] = ()
    suppress_below: int = 0
    intended_use: str = ""
    declared_by: str = ""
    declared_on: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as plain data."""
        return dataclasses.asdict(self)

    @property
    def purpose(self) -> dict[str, str]:
        """What was declared besides margins: ``intended_use``, ``declared_by``, ``declared_on``."""
        return {name: getattr(self, name) for name in PURPOSE}


def load_policy(path: str | Path | None = None, *, sha256: str | None = None) -> Policy:
    """Read and validate a policy; what it leaves out comes from the default.

    Parameters
    ----------
    path
        YAML file; None for the default.
    sha256
        Hash that the file must have, as it was told to somebody before the run; None takes any.

    Returns
    -------
    Policy
        The policy with the hash of its file.

    Raises
    ------
    PolicyError
        A file that is missing or no YAML, unknown keys, keys given twice, values of the wrong kind or out of range, or
        another hash. Every problem of the file is listed, with its line, the key, and a line that would be right.
    """
    source = DEFAULT if path is None else Path(path)
    entries, problems, content = read_entries(source)
    defaults = {} if path is None else default_values()
    problems += problems_of(entries, defaults)
    if problems:
        raise PolicyError(_listed(source.name, problems))
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None:
        _check_hash(source.name, found, sha256)
    written = {key: entry.value for key, entry in entries.items()}
    values = {**defaults, **written, "sha256": found}
    values.pop("version")
    for key, rule in keys().items():
        if rule.get("type") == "number":
            values[key] = float(values[key])
        elif rule.get("type") == "array":
            values[key] = tuple(values[key])
    return Policy(**values)


@cache
def _default() -> tuple[tuple[str, Any], ...]:
    return tuple((key, entry.value) for key, entry in read_entries(DEFAULT)[0].items())


def default_values() -> dict[str, Any]:
    """Return every key of the default policy with its value, as the file has them."""
    return {key: list(value) if isinstance(value, list) else value for key, value in _default()}


def _listed(name: str, problems: list[str]) -> str:
    if len(problems) == 1:
        return f"{name}, {problems[0]}"
    return "\n- ".join([f"{name} has {len(problems)} problems:", *problems])


def _check_hash(name: str, found: str, wanted: str) -> None:
    """Refuse another policy than the one that was announced."""
    plain = wanted.strip().lower().removeprefix("sha256:")
    if len(plain) != 64 or set(plain) - set("0123456789abcdef"):
        raise PolicyError(
            f"the SHA-256 asked for has {len(plain)} characters, or other ones than 0-9 and a-f: give the 64 that "
            "'causalfm policy check FILE' prints."
        )
    if plain != found:
        raise PolicyError(
            f"{name} is not the policy asked for: its SHA-256 is {found}, and {plain} was given. Run with the file as "
            "it was declared; another comment, or other line ends, are another file."
        )
