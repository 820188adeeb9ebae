"""What is simulated: the null designs, with nothing between sites but what the name says, and the same with effects.

The seeds of a cell are ``FIRST_SEED, FIRST_SEED + 1, ...``: fixed before the first run, never changed to pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.calibration.attributions import SHIFTS
from experiments.calibration.rescans import PAIRED
from experiments.calibration.scoreboards import BASE as BOARD
from experiments.calibration.scoreboards import DESIGNS as BOARDS
from experiments.calibration.shift_costs import COSTS

FIRST_SEED = 1_000_000
SIZE_COHORTS = 2000
COVERAGE_COHORTS = 1000
POWER_COHORTS = 500
PEER_COHORTS = 40  # some peers take seconds each
ECONML_COHORTS = 200
COST_COHORTS = 150  # a reference of twelve hospitals each, every one held out in turn
SHIFT_COHORTS = 120  # each fits everything eleven times

NULLS: dict[str, dict[str, Any]] = {
    "balanced": {},
    "site depends on biology": {"confounding": 0.6},
    "few patients per site": {"n_groups": 24, "n_sites": 3, "confounding": 0.3},
    "unequal tiles": {"rows_per_group": (1, 20)},
    "size by site": {"rows_per_group": (1, 4), "size_by_site": 9.0, "noise": 3.0},
    "variance by site": {"variance_by_site": 3.0, "confounding": 0.5},
    "variance by site, high dimension": {"variance_by_site": 3.0, "confounding": 0.5, "d": 256, "decay": 0.5},
    "biology within patient": {
        "biology_within_group": True,
        "confounding": 0.6,
        "rows_per_group": (4, 12),
        "biology_effect": 3.0,
    },
    "continuous covariate": {"age_effect": 1.5, "age_by_site": 2.0, "confounding": 0.4},
}
# The same where site sizes differ too: here permutation without studentisation goes wrong, one way or the other.
UNEVEN: dict[str, dict[str, Any]] = {
    "small sites vary more": {"groups_by_site": 4.0, "variance_by_site": 3.0},
    "small sites vary less": {"groups_by_site": -0.8, "variance_by_site": 3.0},
    "small sites bring more tiles": {"groups_by_site": 4.0, **NULLS["size by site"]},
}
# Power is looked at where there are effects; what else is true of a design stays.
EFFECT = {"site_effect": 0.25}
POWER = {
    "balanced": NULLS["balanced"],
    "site depends on biology": NULLS["site depends on biology"],
    "small sites bring more tiles": UNEVEN["small sites bring more tiles"],
}
# Farthest levels exactly the margin apart.
EQUIVALENCE: dict[str, dict[str, Any]] = {
    "two sites": {"n_groups": 60, "n_sites": 2, "d": 4, "site_effect": 0.6, "rows_per_group": 2},
    "three sites, site depends on biology": {
        "n_groups": 72,
        "n_sites": 3,
        "d": 16,
        "site_effect": 0.8,
        "biology_effect": 1.2,
        "confounding": 0.4,
        "rows_per_group": (1, 4),
    },
    "variance by site": {
        "n_groups": 80,
        "n_sites": 2,
        "d": 8,
        "site_effect": 0.6,
        "biology_effect": 1.5,
        "variance_by_site": 2.0,
        "confounding": 0.3,
    },
    "two scanners within patients": {
        "n_groups": 30,
        "n_sites": 2,
        "d": 8,
        "n_scanners": 2,
        "scanner_effect": 0.4,
        "biology_effect": 2.0,
    },
}
DOSES: dict[str, dict[str, Any]] = {  # of the age
    "balanced": {},
    "site depends on biology, age on site": {"confounding": 0.5, "age_by_site": 1.0, "site_effect": 0.8},
    "unequal tiles": {"rows_per_group": (1, 20)},
    "24 patients": {"n_groups": 24, "n_sites": 2},
    "variance by site, age on site": {"variance_by_site": 3.0, "age_by_site": 1.0},
    "high dimension": {"d": 256, "decay": 0.5},
}
# The estimators of effects, with a continuous column where there are patients enough.
TILES: dict[str, Any] = {"rows_per_group": (1, 6), "d": 16}
AGEING: dict[str, Any] = {**TILES, "age_effect": 1.0, "age_by_site": 0.5}
# The metric families, and contrasts of two encoders, at these numbers of patients.
GROUPS = (15, 40, 150)
SMALL: dict[str, Any] = {
    "n_sites": 2,
    "rows_per_group": 4,
    "d": 8,
    "biology_effect": 0.8,
    "site_effect": 0.8,
    "confounding": 0.2,
}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "20 patients": {"n_groups": 20, "n_sites": 2, "confounding": 0.2, **TILES},
    "60 patients": {"n_groups": 60, "n_sites": 3, "confounding": 0.4, **AGEING},
    "60 patients, variance by site": {
        "n_groups": 60,
        "n_sites": 3,
        "confounding": 0.4,
        "variance_by_site": 2.0,
        **TILES,
    },
    "300 patients": {"n_groups": 300, "n_sites": 8, "confounding": 0.4, **AGEING},
}
FEW = {"n_groups": 20, "n_sites": 2, "confounding": 0.2}


@dataclass(frozen=True)
class Cell:
    """One simulated design with one family of measures.

    Attributes
    ----------
    measure
        Name of a function in ``measures``.
    name
        The design in words.
    design
        Arguments of ``linear_scm``, but for the seed.
    cohorts
        Number of independent cohorts.
    options
        Arguments of the measure.
    """

    measure: str
    name: str
    design: Mapping[str, Any]
    cohorts: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """File name of the cell."""
        return f"{self.measure}-{self.name}".replace(",", "").replace(" ", "-")


def cells() -> list[Cell]:
    """Return the whole study."""
    return [
        *_effects_and_indices(),
        *_estimators(),
        *_families(),
        *_methods(),
        *_within_patients(),
        *_boards(),
        *_costs(),
        *_attributions(),
        *peers(),
    ]


def _effects_and_indices() -> list[Cell]:
    """Return the cells of the mean test, the effect, the robustness index and the read-outs."""
    nulls = {**NULLS, **UNEVEN}
    out = [Cell("mean_test", name, {"n_groups": 64, **design}, SIZE_COHORTS) for name, design in nulls.items()]
    for name, design in nulls.items():
        for effect, words in ((0.0, "no effect"), (0.6, "effect")):
            full = {"n_groups": 64, "site_effect": effect, **design}
            out.append(Cell("effect", f"{name}, {words}", full, COVERAGE_COHORTS))
    for effect in (0.0, 0.6):
        name = f"20 patients at two sites, {'effect' if effect else 'no effect'}"
        out.append(Cell("effect", name, {"site_effect": effect, **FEW}, COVERAGE_COHORTS))
    low = {name: design for name, design in NULLS.items() if "d" not in design}
    low["one tile per patient"] = {"n_groups": 150, "rows_per_group": 1}
    small = {"n_groups": 48, "n_sites": 2, "rows_per_group": 4, "biology_effect": 0.8}
    for name, design in low.items():
        out.append(Cell("index", f"{name}, no effect", {**small, **design}, COVERAGE_COHORTS))
    for name in ("balanced", "site depends on biology"):
        out.append(Cell("index", f"{name}, effect", {**small, "site_effect": 0.8, **low[name]}, COVERAGE_COHORTS))
    base = {"n_groups": 48, "n_sites": 3, "rows_per_group": 4, "d": 8}
    for name, design in low.items():
        out.append(Cell("readout", f"site, {name}, no effect", {**base, **design}, COVERAGE_COHORTS, {"of": "site"}))
    for name in ("site depends on biology", "one tile per patient"):
        full = {**base, "site_effect": 1.0, **low[name]}
        out.append(Cell("readout", f"site, {name}, effect", full, COVERAGE_COHORTS, {"of": "site"}))
    full = {**base, **low["site depends on biology"]}
    out.append(Cell("readout", "biology, site depends on biology", full, COVERAGE_COHORTS, {"of": "tumour"}))
    return out


def _estimators() -> list[Cell]:
    """Return the cells of the estimators of effects, and of EconML's LinearDML on some of the same cohorts."""
    out = []
    for name, design in ESTIMATORS.items():
        for effect, words in ((0.0, "no effect"), (0.6, "effect")):
            out.append(Cell("effects", f"{name}, {words}", {**design, "site_effect": effect}, COVERAGE_COHORTS))
        if "variance_by_site" not in design:
            out.append(Cell("econml", f"{name}, effect", {**design, "site_effect": 0.6}, ECONML_COHORTS))
    return out


def _families() -> list[Cell]:
    """Return the cells of the metric families and of contrasts between encoders."""
    families = ("neighbourhood", "mixing", "contrast")
    return [
        Cell(family, f"{n} patients", {**SMALL, "n_groups": n}, COVERAGE_COHORTS) for family in families for n in GROUPS
    ]


def _methods() -> list[Cell]:
    """Return the cells of all methods of the invariance test."""
    nulls = {**NULLS, **UNEVEN}
    size = [Cell("methods", f"{n}, no effect", {"n_groups": 64, **d}, SIZE_COHORTS) for n, d in nulls.items()]
    power = [Cell("methods", f"{n}, effect", {"n_groups": 64, **d, **EFFECT}, POWER_COHORTS) for n, d in POWER.items()]
    return size + power


def _within_patients() -> list[Cell]:
    """Return the cells of paired designs, equivalence and continuous factors."""
    out = []
    for name, design in PAIRED.items():
        full = {"n_groups": 40, "n_scanners": 2, "d": 16, "biology_effect": 2.0, **design}
        out.append(Cell("paired", f"{name}, no effect", full, SIZE_COHORTS))
        out.append(Cell("paired", f"{name}, effect", {**full, "scanner_effect": 0.5}, COVERAGE_COHORTS))
    out += [Cell("equivalence", name, design, SIZE_COHORTS) for name, design in EQUIVALENCE.items()]
    out += [Cell("dose", name, {"n_groups": 64, **design}, SIZE_COHORTS) for name, design in DOSES.items()]
    return out


def _boards() -> list[Cell]:
    """Return the cells of scoreboards of correctors."""
    return [Cell("scoreboard", n, {**BOARD, **d}, cohorts, o) for n, (d, o, cohorts) in BOARDS.items()]


def _costs() -> list[Cell]:
    """Return the cells of what a new hospital costs."""
    return [Cell("shift_cost", name, design, COST_COHORTS) for name, design in COSTS.items()]


def _attributions() -> list[Cell]:
    """Return the cells of the attribution of a drop to mechanisms."""
    return [Cell("attribution", name, design, SHIFT_COHORTS) for name, design in SHIFTS.items()]


def peers() -> list[Cell]:
    """Return the cells of other software: few cohorts, run only where it is installed."""
    out = []
    for name, design in POWER.items():
        for words, effect in (("no effect", {}), ("effect", EFFECT)):
            out.append(Cell("peers", f"{name}, {words}", {"n_groups": 64, **design, **effect}, PEER_COHORTS))
    return out
