"""Whether a mixture of the reference's classes gives the deployment: without it, case mix cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.confidence import CHECK_ALPHA
from causalfm.results import Result, Verdict
from causalfm.shift.changes.case_mix_features import Featured, by_code
from causalfm.shift.changes.drift_distances import MIN_SITES, one_more_square

MIN_PATIENTS = 5  # of a site, to be set against the others
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class MixtureFit(Result):
    """The fit of the label-shift mixture.

    Attributes
    ----------
    distance
        Squared distance of the deployment's mean features from the nearest mixture of the classes', in units of what
        patients give by chance: about 1 where classes look as in the reference.
    p_value
        Cluster bootstrap: classes look exactly as in the reference.
    among
        ``(S,)`` the distance of each reference hospital from the mixture of the others.
    limit, p_new_site
        95 % prediction limit of the distance for one more hospital like them, and the probability of one as large;
        ``nan`` under five.
    verdict
        ``"fail"``: no mixture gives the deployment: beyond chance, or beyond one more hospital.
    sentence
        The result in words.
    """

    distance: float
    p_value: float
    among: tuple[float, ...]
    limit: float
    p_new_site: float
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this test."""
        names = ("distance", "p_value", "limit", "p_new_site", "verdict", "sentence")
        return [{name: getattr(self, name) for name in names}]


def mixture_fit(reference: Featured, new: np.ndarray, n_classes: int, n_boot: int, random_state: int) -> MixtureFit:
    """Test the fit of the mixture.

    Parameters
    ----------
    reference
        Patients with labels.
    new
        ``(M, R)`` mean features of the deployment's patients.
    n_classes
        Number of classes.
    n_boot
        Bootstrap replicates of the patients.
    random_state
        Seed.

    Returns
    -------
    MixtureFit
        Distance, its null, and its place among the reference's hospitals.

    Notes
    -----
    The distance is that from the plane through the classes' mean features: mixtures lie in it. In the bootstrap
    patients are drawn within cohort (and class), the means' deviations take the place of the means, and are projected
    off the same plane. Of hospitals of the reference each is set against the classes of the others. That alone will
    not do: of a scanner that moves one class towards another the mixture takes the larger part as case mix, and what is
    left can be as small as between hospitals (of 40 such cohorts 38 % were beyond their limit, 93 % beyond chance).

    References
    ----------
    Lipton, Wang and Smola, ICML 2018 (on detecting that labels shift).
    """
    told = [c for c in range(n_classes) if len(np.unique(reference.units[reference.labels == c])) >= 2]
    if len(new) < MIN_PATIENTS or not told:
        return MixtureFit(NAN, NAN, (), NAN, NAN, "cannot tell", "Too few patients for a test of the mixture.")
    found = _misfit(reference, np.ones(len(reference.labels), dtype=bool), new, told)
    p_value = _bootstrap(reference, new, told, found, n_boot, random_state)
    squares, among = [], []
    for site in np.unique(reference.sites):
        here = reference.sites == site
        rest = [c for c in told if (~here & (reference.labels == c)).sum() >= 2]
        units, at = np.unique(reference.units[here], return_inverse=True)
        if not np.isfinite(reference.means_out[here]).all():
            continue  # a class lives at this site alone
        if len(units) < MIN_PATIENTS or len(rest) < len(np.unique(reference.labels[here])):
            continue
        patients = by_code(reference.means_out[here], at.reshape(-1), len(units))
        one = _misfit(reference, ~here, patients, rest)
        squares.append(one[:3])
        among.append(one[0] / one[1])
    limit, p_new = NAN, NAN
    if len(squares) >= MIN_SITES:
        limit, p_new = one_more_square(*np.array([*squares, found[:3]]).T)
        limit = (limit + found[1]) / found[1]
    distance = found[0] / found[1]
    failed = p_value <= CHECK_ALPHA or p_new <= CHECK_ALPHA
    judged: Verdict = "fail" if failed else "pass"
    sentence = _words(failed, distance, p_value, limit, len(squares))
    return MixtureFit(distance, p_value, tuple(among), limit, p_new, judged, sentence, {"share": found[3].tolist()})


def _words(failed: bool, distance: float, p_value: float, limit: float, sites: int) -> str:
    how = "No mixture" if failed else "A mixture"
    words = (
        f"{how} of the reference's classes gives the deployment (distance {distance:.2f} where chance gives 1, "
        f"p = {p_value:.3g}"
    )
    if sites < MIN_SITES:
        return f"{words}; {sites} sites of the reference can be compared, too few to set it against theirs)."
    return f"{words}; one more site like the {sites} of the reference would be within {limit:.2f})."


def _misfit(
    reference: Featured, use: np.ndarray, new: np.ndarray, told: list[int]
) -> tuple[float, float, float, np.ndarray, np.ndarray]:
    """Return squared distance, its noise, hospitals' share, mixture, and the basis ``(R, K - 1)`` of the plane."""
    members = [use & (reference.labels == c) for c in told]
    centres = np.array([reference.means[m].mean(axis=0) for m in members])
    plane = np.linalg.qr((centres[1:] - centres[0]).T)[0] if len(told) > 1 else np.zeros((new.shape[1], 0))
    gap = new.mean(axis=0) - centres[0]
    off = gap - plane @ (plane.T @ gap)
    others = np.linalg.lstsq((centres[1:] - centres[0]).T, gap, rcond=None)[0] if len(told) > 1 else np.zeros(0)
    share = np.maximum(np.append(1.0 - others.sum(), others), 0.0)
    share = share / share.sum()
    noise = _noise(new, plane)
    hospitals = np.zeros(int(reference.sites.max()) + 1)
    for m, w in zip(members, share, strict=True):
        noise += w**2 * _noise(reference.means[m], plane)
        hospitals += w * np.bincount(reference.sites[m], minlength=len(hospitals)) / m.sum()
    return float(off @ off), noise, 1.0 + float((hospitals**2).sum()), share, plane


def _noise(means: np.ndarray, plane: np.ndarray) -> float:
    """Variance (a trace, off the plane) of the mean of some patients."""
    n = len(means)
    off = means - means.mean(axis=0)
    total = float((off**2).sum() - ((off @ plane) ** 2).sum())
    return total / (max(n - 1, 1) * n)


def _bootstrap(
    reference: Featured, new: np.ndarray, told: list[int], found: tuple[Any, ...], n_boot: int, random_state: int
) -> float:
    rng = np.random.default_rng(random_state)
    plane, total = found[4], _deviations(new, n_boot, rng)
    for c, w in zip(told, found[3], strict=True):
        if w > 0.0:
            total = total - w * _deviations(reference.means[reference.labels == c], n_boot, rng)
    null = (total**2).sum(axis=1) - ((total @ plane) ** 2).sum(axis=1)
    return float((1 + (null >= found[0]).sum()) / (1 + n_boot))


def _deviations(means: np.ndarray, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """Deviations ``(B, R)`` of bootstrapped means, with the variance of the mean."""
    n = len(means)
    drawn = rng.multinomial(n, np.full(n, 1.0 / n), size=n_boot) / n
    return np.asarray((drawn - 1.0 / n) @ means * np.sqrt(n / max(n - 1.0, 1.0)))
