"""The policy: margins and thresholds fixed before a run, in one file that a hospital can replace."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalfm.errors import PolicyError

DEFAULT = Path(__file__).with_name("policy.yaml")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "name"],
    "properties": {
        "version": {"const": 1},
        "name": {"type": "string", "minLength": 1},
        "effect_ratio": {"type": "number", "exclusiveMinimum": 0},
        "neighbourhood_minimum": {"type": "number", "minimum": 0, "maximum": 1},
        "readout_excess": {"type": "number", "minimum": 0, "maximum": 1},
        "biology_excess": {"type": "number", "minimum": 0, "maximum": 1},
        "shortcut_premium": {"type": "number", "minimum": 0, "maximum": 1},
        "score_gap": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "flip_rate": {"type": "number", "minimum": 0, "maximum": 1},
        "performance_drop": {"type": "number", "minimum": 0, "maximum": 1},
        "support_share": {"type": "number", "minimum": 0, "maximum": 1},
        "subgroups": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
        "subgroup_gap": {"type": "number", "minimum": 0, "maximum": 1},
        "minimum_groups": {"type": "integer", "minimum": 3},
        "permutations": {"type": "integer", "minimum": 99},
        "corrections": {"enum": ["none", "quick", "full"]},
    },
}


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
        Permutations of the invariance test.
    corrections
        Whether correctors are tried where a technical factor fails: ``"none"``, ``"quick"`` or ``"full"``.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as plain data."""
        return dataclasses.asdict(self)


def load_policy(path: str | Path | None = None) -> Policy:
    """Read and validate a policy; what it leaves out comes from the default.

    Parameters
    ----------
    path
        YAML file; None for the default.

    Returns
    -------
    Policy
        The policy with the hash of its file.

    Raises
    ------
    PolicyError
        A file that is missing or no YAML, an unknown entry, a value out of range; the message names the entry.
    """
    import yaml
    from jsonschema import Draft202012Validator

    source = DEFAULT if path is None else Path(path)
    if not source.is_file():
        raise PolicyError(f"there is no policy file {source.name!r}: check the path.")
    text = source.read_bytes()
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError):
        raise PolicyError(f"{source.name} is not valid YAML: compare it with the default policy.") from None
    problems = sorted(Draft202012Validator(SCHEMA).iter_errors(values), key=str)
    if problems:
        where = ".".join(map(str, problems[0].absolute_path)) or "the file"
        raise PolicyError(
            f"{source.name}, {where}: {problems[0].message}. Known entries: {', '.join(SCHEMA['properties'])}."
        )
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise PolicyError(f"{source.name}, {name}: {value} is not a margin: write a finite number.")
    merged = {**yaml.safe_load(DEFAULT.read_bytes()), **values}
    merged.pop("version")
    merged["subgroups"] = tuple(merged["subgroups"])
    return Policy(sha256=hashlib.sha256(text).hexdigest(), **merged)
