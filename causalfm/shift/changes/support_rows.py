"""Support: the share of the deployment that the reference has nothing like, unseen levels and empty cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.arguments import check_positive
from causalfm.confidence import usual_alpha
from causalfm.errors import DataError
from causalfm.metrics.learners import grouped_folds
from causalfm.results import Estimate, Result, Verdict
from causalfm.shift.changes.support_cells import empty_cells, unseen_everywhere
from causalfm.shift.changes.support_density import (
    PATIENT_FOLDS,
    ReferenceRows,
    beyond,
    fit_densities,
    held_out,
    reference_rows,
    site_folds,
    thresholds,
)
from causalfm.shift.changes.support_shares import one_more_share, share_estimate
from causalfm.shift.domains import Domain, Domains

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Support(Result):
    """What of the deployment the reference has nothing like.

    Attributes
    ----------
    outside
        Share of the deployment's patients (mean over their rows) beyond every class; interval over patients.
    expected_sites, expected_patients
        The same share of the reference's own rows, judged without their hospital, and without their patient.
    among
        ``(S,)`` share at each hospital of the reference, judged without it.
    limit, p_new_site
        95 % prediction limit of the share of one more hospital like them, and the probability of one as large; ``nan``
        under five.
    unseen
        ``{column: {level: {"rows": ..., "patients": ...}}}`` of technical columns and categorical covariates but the
        site.
    empty_cells
        Combinations of biology with another column, and ranges of numbers, that the reference does not have.
    outside_rows
        ``(m,)`` rows of the deployment that are outside.
    verdict
        ``"fail"``: more than one more hospital would have; ``"pass"``: the upper end is below that or tolerated, and
        no level is unseen.
    sentence, details
        The result in words; settings.
    """

    outside: Estimate
    expected_sites: float
    expected_patients: float
    among: tuple[float, ...]
    limit: float
    p_new_site: float
    unseen: Mapping[str, Mapping[str, Mapping[str, int]]]
    empty_cells: tuple[Mapping[str, Any], ...]
    outside_rows: np.ndarray
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the share, then one row per unseen level and empty cell."""
        share = {"what": "outside", "share": self.outside.value, "low": self.outside.low, "high": self.outside.high}
        out: list[dict[str, Any]] = [share | {"limit": self.limit, "verdict": self.verdict, "sentence": self.sentence}]
        for column, levels in self.unseen.items():
            out += [{"what": f"unseen {column}={level}", **n} for level, n in levels.items()]
        return out + [{"what": f"empty {cell['cell']}", **cell} for cell in self.empty_cells]

    def to_dict(self) -> dict[str, Any]:
        """Return plain, JSON-ready data; the rows outside by their positions."""
        return super().to_dict() | {"outside_rows": np.flatnonzero(self.outside_rows).tolist()}


def support(domains: Domains, *, alpha: float = 0.05, tolerated: float = 0.1) -> Support:
    """Measure which rows of the deployment lie outside the reference.

    Parameters
    ----------
    domains
        Reference and deployment.
    alpha
        Share of the reference's own rows that counts as outside when their hospital is left out.
    tolerated
        Share outside that passes whatever the reference's hospitals show.

    Returns
    -------
    Support
        Share with interval and limit, levels and cells without reference.

    Raises
    ------
    DataError
        ``alpha`` or ``tolerated`` outside (0, 1).

    Notes
    -----
    A row is outside if it is further from *every* class than ``1 - alpha`` of the class's own rows, so that case mix
    alone moves nothing outside. The distance is minus the log density of the structural causal model with biology as
    the parent: Gaussian, one covariance, free along its 32 largest directions and round beyond. Densities are fitted to
    at most 6,000 reference rows of 1,500 patients, thresholds are those of rows of hospitals left out of the fit (a new
    hospital is always a bit off); every row of the deployment is judged.
    """
    for name, value in (("alpha", alpha), ("tolerated", tolerated)):
        check_positive(value, name, "a share of the rows")
        if value >= 1.0:
            raise DataError(f"{name}={value} is no share: choose a number between 0 and 1.")
    reference, new, seed = domains.reference, domains.deployment, domains.random_state
    rows = reference_rows(reference, len(domains.classes), seed)
    everyone = np.ones(len(rows.labels), dtype=bool)
    patients = held_out(rows, grouped_folds(rows.labels, rows.units, PATIENT_FOLDS, seed), seed)
    limits = [thresholds(patients, rows, alpha, everyone)]
    n_sites = len(np.unique(rows.sites))
    sites = held_out(rows, site_folds(rows.sites), seed) if n_sites > 1 else patients
    limits.append(thresholds(sites, rows, alpha, everyone))
    distances = fit_densities(rows, everyone, seed).distances(new.cohort.X)
    outside = beyond(distances, limits[1])
    shares = _patient_shares(outside, new)
    estimate = share_estimate(shares, "outside", domains.graph.group, len(new))
    among, variance, counts = _by_site(rows, sites, alpha)
    limit, p_value = one_more_share(among, variance, counts, estimate)
    unseen, empty = unseen_everywhere(domains), tuple(empty_cells(domains))
    verdict = _verdict(estimate, limit, p_value, tolerated, bool(unseen))
    judged = zip((sites, patients), limits[::-1], strict=True)
    by_site, by_patient = (float(np.average(_finite_beyond(d, q), weights=rows.weights)) for d, q in judged)
    details = {
        "alpha": alpha,
        "tolerated": tolerated,
        "share_beyond_patients": float(_patient_shares(beyond(distances, limits[0]), new).mean()),
        "reference_rows": len(rows.labels),
        "reference_patients_left_out": rows.patients_left_out,
        "reference_sites": n_sites,
    }
    sentence = _sentence((estimate, limit, p_value, verdict), alpha, domains, (unseen, empty))
    return Support(
        estimate,
        by_site,
        by_patient,
        tuple(among.tolist()),
        limit,
        p_value,
        unseen,
        empty,
        outside,
        verdict,
        sentence,
        details,
    )


def _patient_shares(mask: np.ndarray, side: Domain) -> np.ndarray:
    return np.asarray(np.bincount(side.units, mask) / np.bincount(side.units))


def _finite_beyond(distances: np.ndarray, limits: np.ndarray) -> np.ndarray:
    return beyond(np.where(np.isfinite(distances), distances, -np.inf), limits)


def _by_site(rows: ReferenceRows, distances: np.ndarray, alpha: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Share ``(S,)`` outside at each hospital beyond the thresholds of the others, variance and number of patients."""
    codes = np.unique(rows.sites)
    shares, counts, squares, spare = np.full(len(codes), NAN), np.ones(len(codes)), 0.0, 0
    for at, site in enumerate(codes):
        here = (rows.sites == site) & np.isfinite(distances[:, 0])
        if not here.any() or len(codes) == 1:
            continue
        out = beyond(distances[here], thresholds(distances, rows, alpha, rows.sites != site))
        units = np.unique(rows.units[here], return_inverse=True)[1].reshape(-1)
        patients = np.bincount(units, out) / np.bincount(units)
        shares[at], counts[at] = float(patients.mean()), len(patients)
        squares, spare = squares + float(((patients - patients.mean()) ** 2).sum()), spare + len(patients) - 1
    return shares, squares / max(spare, 1), counts


def _verdict(estimate: Estimate, limit: float, p_value: float, tolerated: float, unseen: bool) -> Verdict:
    if p_value <= usual_alpha() and estimate.high > tolerated:
        return "fail"
    within = estimate.high <= np.nanmax([tolerated, limit])
    return "pass" if within and not unseen else "cannot tell"


def _sentence(result: tuple[Estimate, float, float, Verdict], alpha: float, domains: Domains, lacks: Any) -> str:
    estimate, limit, p_value, verdict = result
    unit, site = domains.graph.group, domains.site
    words = (
        f"{estimate.value:.1%} of the deployment [{estimate.low:.1%}, {estimate.high:.1%}] (over {unit}s) lies "
        f"outside the reference, where {alpha:.0%} would if nothing changed"
    )
    if np.isnan(p_value):
        words += f"; the {site}s of the reference are too few to say what one more would have."
    else:
        more = "more than" if verdict == "fail" else "beside"
        words += f", {more} the {limit:.1%} that one more {site} like those of the reference could have."
    unseen, empty = lacks
    for column, levels in unseen.items():
        listed = "; ".join(f"{level} ({n['rows']} rows of {n['patients']} {unit}s)" for level, n in levels.items())
        words += f" {column} has levels that the reference does not: {listed}."
    if empty:
        words += f" {len(empty)} combinations have no reference, such as {empty[0]['cell']} ({empty[0]['rows']} rows)."
    return words
