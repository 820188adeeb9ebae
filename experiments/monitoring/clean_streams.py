"""Streams in which nothing changed that counts: how often an alarm is raised, by the monitor and by other rules.

Patients bring rows of their own; a stream is drawn, never a p-value. The rules share what they look at, the bets and
the threshold, and differ in how p-values are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.shift.watching.conformal_ranks import uniforms
from causalfm.shift.watching.martingales import bet, new_wealth
from causalfm.shift.watching.monitor_cells import Cells, band_edges
from causalfm.shift.watching.monitor_memory import Memory
from causalfm.shift.watching.monitor_panels import Panel, fit_panel
from causalfm.shift.watching.monitor_views import fit_embedding_view, least_share, patient_means

FIRST_SEED = 11_000_000  # fixed before the first run; 100,000 to a design
D, REFERENCE, STREAM, BATCH = 16, 200, 500, 50  # dimensions; patients


@dataclass(frozen=True)
class Design:
    """A clean stream.

    Attributes
    ----------
    rows
        Least and most rows of a patient.
    older, scanners
        From the middle of the stream on, patients are so many standard deviations older, and this share of them comes
        from the second scanner instead of half.
    days
        Standard deviation of what is common to the ten patients of a day, in those of a patient.
    given
        ``"age"``, ``"scanner"`` or nothing: whose change the monitor is told to be benign.
    unit
        ``"patient"`` or ``"day"``.
    promised
        Whether the assumption of the guarantee holds.
    """

    rows: tuple[int, int] = (4, 4)
    older: float = 0.0
    scanners: float = 0.5
    days: float = 0.0
    given: str = ""
    unit: str = "patient"
    promised: bool = True


DESIGNS = {
    "nothing changes, 4 rows each": Design(),
    "nothing changes, 1 to 12 rows each": Design((1, 12)),
    "patients 1 sd older, age given": Design(older=1.0, given="age"),
    "patients 1 sd older, age not given": Design(older=1.0, promised=False),
    "other mix of scanners, scanner given": Design(scanners=0.9, given="scanner"),
    "other mix of scanners, not given": Design(scanners=0.9, promised=False),
    "days differ, the patient as unit": Design(days=0.5, promised=False),
    "days differ, the day as unit": Design(days=0.5, unit="day"),
}


@dataclass(frozen=True, eq=False)
class Patients:
    """Rows ``X (n, D)``, the unit of each ``(n,)``, and age and scanner of each unit."""

    X: np.ndarray
    units: np.ndarray
    age: np.ndarray
    scanner: np.ndarray


def draw(design: Design, rng: np.random.Generator, n: int, *, stream: bool) -> Patients:
    """Draw patients in their order; the effects are the same in every draw."""
    fixed, scale = np.random.default_rng(5), (np.arange(D) + 1.0) ** -0.5
    biology, ageing, scanners = (scale * fixed.standard_normal(D) for _ in range(3))
    late = stream & (np.arange(n) >= n // 2)
    age = rng.standard_normal(n) + design.older * late
    scanner = (rng.random(n) < np.where(late, design.scanners, 0.5)).astype(np.int64)
    means = rng.integers(0, 2, n)[:, None] * biology + 0.5 * age[:, None] * ageing + scanner[:, None] * scanners
    day = np.arange(n) // 10
    means += scale * (rng.standard_normal((n, D)) + design.days * rng.standard_normal((day[-1] + 1, D))[day])
    rows = np.repeat(np.arange(n), rng.integers(design.rows[0], design.rows[1], n, endpoint=True))
    X = means[rows] + scale * rng.standard_normal((len(rows), D))
    return Patients(X, day[rows] if design.unit == "day" else rows, age, scanner)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Numbers per unit of reference and stream, and what the shape units fixed."""

    panel: Panel
    cells: Cells
    shape: np.ndarray
    values: tuple[np.ndarray, np.ndarray]
    where: tuple[np.ndarray, np.ndarray]
    numbers: tuple[np.ndarray, np.ndarray]


def fitted(design: Design, parts: tuple[Patients, Patients], rng: np.random.Generator) -> Fitted:
    """Fix on half of the reference what is looked at, as the monitor's ``fitted_plan`` does."""
    sizes = [int(part.units.max()) + 1 for part in parts]
    Z = [patient_means(part.X, part.units, size) for part, size in zip(parts, sizes, strict=True)]
    shape = rng.permutation(sizes[0]) < sizes[0] // 2
    zeros = np.zeros(int(shape.sum()), dtype=np.int64)
    view = fit_embedding_view(Z[0][shape], zeros, zeros)
    cells = Cells((), (), (), ())
    codes, numbers = [[], []], [np.zeros((size, 0)) for size in sizes]
    if design.given == "age":
        cells = Cells((), (), ("age",), (band_edges(parts[0].age[shape], 5),))
        numbers = [part.age[:, None] for part in parts]
    elif design.given == "scanner":
        cells = Cells(("scanner",), (("0", "1"),), (), ())
        codes = [[part.scanner] for part in parts]
    where = [cells.place(code, number) for code, number in zip(codes, numbers, strict=True)]
    values = [view.values(z) for z in Z]
    T = values[0].shape[1]
    threshold = np.full(T, least_share(1.0, 1, T))
    streams = ("embedding",) * T
    panel = fit_panel(
        streams, view.names, threshold, values[0], cells.basis(numbers[0]), where[0], cells.n_cells, shape
    )
    return Fitted(panel, cells, shape, tuple(values), tuple(where), tuple(numbers))


def attained(peak: np.ndarray, threshold: np.ndarray) -> float:
    """Return the smallest alpha at which the alarm would have been raised (1 or more: at none)."""
    return float(np.exp((threshold - peak).min()))


def monitor(fit: Fitted, batch: int, rng: np.random.Generator) -> float:
    """Run the monitor's own ranks and bets over the stream."""
    watch = fit.panel.start(Memory(np.empty(0, dtype=np.uint64), 1))
    levels = fit.panel.levels(fit.values[1], fit.cells.basis(fit.numbers[1]))
    for number, first in enumerate(range(0, len(levels), batch), 1):
        rows = first + np.flatnonzero(fit.where[1][first : first + batch] >= 0)
        watch = watch.rank(fit.where[1][rows], levels[rows], rng, number)
    return attained(watch.wealth.peak, fit.panel.threshold)


def against_fixed(fit: Fitted, batch: int, rng: np.random.Generator, ages: np.ndarray | None) -> float:
    """Rank every unit against the calibration units alone, weighted by an estimated density ratio of age if given."""
    calibration, stream = fit.values[0][~fit.shape], fit.values[1]
    wealth = new_wealth(np.zeros(stream.shape[1], dtype=bool))
    for number, first in enumerate(range(0, len(stream), batch), 1):
        new = stream[first : first + batch]
        weights, own = np.ones(len(calibration)), np.ones(len(new))
        if ages is not None:
            weights, own = density_ratio(fit.numbers[0][~fit.shape, 0], ages[: first + batch], len(new))
        above = np.einsum("n,mnt->mt", weights, calibration[None] > new[:, None])
        u = uniforms(rng, new.shape)
        p = (above + u * own[:, None]) / (weights.sum() + own)[:, None]
        wealth = bet(wealth, np.clip(p, 1e-12, 1 - 1e-12), number)
    return attained(wealth.peak, fit.panel.threshold)


def density_ratio(reference: np.ndarray, so_far: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the calibration units and of the last ``m``: odds of a logistic regression of the cohort on age."""
    from sklearn.linear_model import LogisticRegression

    recent = so_far[-2 * m :]
    ages = np.concatenate([reference, recent])[:, None]
    cohort = np.repeat([0, 1], [len(reference), len(recent)])
    odds = np.exp(
        LogisticRegression(C=1e6).fit(np.hstack([ages, ages**2]), cohort).decision_function(np.hstack([ages, ages**2]))
    )
    return odds[: len(reference)], odds[-m:]


def study(design: Design, seed: int, *, others: bool) -> dict[str, float]:
    """Return the alpha at which the monitor, and other rules, would have raised an alarm in one stream."""
    rng = np.random.default_rng(seed)
    n = (REFERENCE, STREAM) if design.unit == "patient" else (10 * REFERENCE, 10 * STREAM)
    parts = tuple(draw(design, rng, size, stream=bool(k)) for k, size in enumerate(n))
    fit = fitted(design, parts, rng)
    out = {"monitor": monitor(fit, BATCH, rng)}
    if others and design == Design():
        out["fixed calibration sample"] = against_fixed(fit, BATCH, rng, None)
        rows = [Patients(part.X, np.arange(len(part.X)), part.age, part.scanner) for part in parts]
        out["every row a unit"] = monitor(fitted(design, (rows[0], rows[1]), rng), 4 * BATCH, rng)
    if others and design.given == "age":
        out["estimated weights"] = against_fixed(fit, BATCH, rng, parts[1].age)
    return out
