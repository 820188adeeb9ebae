"""Two mean displacements of embeddings compared without the bias of noise: cosine, lengths, gap closed, intervals.

``python -m experiments.displacements`` prints how often the intervals hold the truth, beside the percentile bootstrap.

Noise lengthens estimated vectors and so shrinks plug-in cosines, in every bootstrap replicate once more. Squared norms
and inner products are therefore cross-validated (a patient is never multiplied with itself), and the interval is a
delete-one-patient jackknife of the Fisher-transformed cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Group:
    """Patients of one scanner.

    Attributes
    ----------
    means
        ``(n, labels, d)``: mean embedding of each patient and label; NaN where there is none.
    shifts
        ``(n, d)``: mean displacement of the patient's swapped tiles; NaN for patients without; None for the target.
    """

    means: np.ndarray
    shifts: np.ndarray | None = None

    def without(self, i: int) -> Group:
        """Leave one patient out."""
        keep = np.arange(len(self.means)) != i
        return Group(self.means[keep], None if self.shifts is None else self.shifts[keep])


def products(source: Group, target: Group) -> tuple[float, float, float]:
    """Return unbiased ``|image|^2, |embedding|^2`` and inner product of the two mean displacements.

    The embedding displacement is the mean over labels of the difference of patients' means, target less source.
    """
    gap, spread = np.zeros(source.means.shape[2]), 0.0
    errors = []
    for sign, group in ((-1.0, source), (1.0, target)):
        there = ~np.isnan(group.means[:, :, 0])
        counts = there.sum(axis=0)
        centre = np.nanmean(group.means, axis=0)  # (labels, d)
        gap += sign * centre.mean(axis=0)
        parts = np.where(there[:, :, None], group.means - centre, 0.0) / counts[:, None] / len(counts)
        own = sign * parts.sum(axis=1)  # a patient's share of the error
        n = len(own)
        spread += float((own**2).sum()) * n / (n - 1)
        errors.append(own)
    assert source.shifts is not None
    seen = ~np.isnan(source.shifts[:, 0])
    shifts = source.shifts[seen]
    n, mean = len(shifts), shifts.mean(axis=0)
    image = float((mean @ mean) - ((shifts - mean) ** 2).sum() / n / (n - 1))
    shared = float(((shifts - mean) * errors[0][seen]).sum()) / (n - 1)
    return image, float(gap @ gap) - spread, float(mean @ gap) - shared


def summary(source: Group, target: Group) -> np.ndarray:
    """Return atanh of the cosine, ratio of lengths and gap closed; NaN where a squared length is not positive."""
    image, embedding, inner = products(source, target)
    if min(image, embedding) <= 0:
        return np.full(3, np.nan)
    cosine = np.clip(inner / np.sqrt(image * embedding), -0.999, 0.999)
    left = max(image + embedding - 2 * inner, 0.0)
    return np.array([np.arctanh(cosine), np.sqrt(image / embedding), 1 - np.sqrt(left / embedding)])


def agreement(source: Group, target: Group, level: float = 0.95) -> dict[str, tuple[float, float, float]]:
    """Return value, low and high of ``cosine``, ``length`` (image / embedding) and ``closed`` (share of the gap)."""
    value = summary(source, target)
    variance = np.zeros(3)
    for group, at in ((source, 0), (target, 1)):
        n = len(group.means)
        pair = [source, target]
        left = []
        for i in range(n):
            pair[at] = group.without(i)
            left.append(summary(*pair))
        variance += (n - 1) / n * ((np.array(left) - np.mean(left, axis=0)) ** 2).sum(axis=0)
    half = student.ppf((1 + level) / 2, min(len(source.means), len(target.means)) - 1) * np.sqrt(variance)
    ends = np.stack([value, value - half, value + half])
    ends[:, 0] = np.tanh(ends[:, 0])
    names = ("cosine", "length", "closed")
    return {name: tuple(float(x) for x in ends[:, i]) for i, name in enumerate(names)}  # type: ignore[misc]


def plug_in(source: Group, target: Group) -> float:
    """Return the cosine of the two means as they are."""
    assert source.shifts is not None
    gap = (np.nanmean(target.means, axis=0) - np.nanmean(source.means, axis=0)).mean(axis=0)
    mean = np.nanmean(source.shifts, axis=0)
    return float(gap @ mean / np.linalg.norm(gap) / np.linalg.norm(mean))


def simulated(rng: np.random.Generator, truth: float, n: int = 45, d: int = 200) -> tuple[Group, Group]:
    """Draw patients with a spectrum of 1 / rank and displacements of a given cosine; noise is shared with the image."""
    scale = 1 / np.sqrt(np.arange(1, d + 1))
    gap = np.zeros(d)
    gap[2], image = 1.2, np.zeros(d)
    image[2], image[5] = truth, np.sqrt(1 - truth**2)
    groups = []
    for shift in (0.0 * gap, gap):
        patient = rng.standard_normal((n, 1, d)) * scale
        means = shift + patient + 0.5 * rng.standard_normal((n, 2, d)) * scale
        means[rng.random((n, 2)) < 0.3] = np.nan
        means[:2] = shift + patient[:2]  # no label is empty
        groups.append((means, patient[:, 0]))
    shifts = image - 0.2 * groups[0][1] + 0.2 * rng.standard_normal((n, d)) * scale
    return Group(groups[0][0], shifts), Group(groups[1][0])


def coverage(truth: float, n_draws: int = 100, bootstraps: int = 50) -> tuple[float, float, float, float]:
    """Return mean of the debiased and of the plug-in cosine, and the coverage of jackknife and percentile bootstrap."""
    rng = np.random.default_rng(0)
    values, plain, held, held_plain = [], [], 0, 0
    for _ in range(n_draws):
        source, target = simulated(rng, truth)
        value, low, high = agreement(source, target)["cosine"]
        values.append(value)
        plain.append(plug_in(source, target))
        held += low <= truth <= high
        draws = []
        for _ in range(bootstraps):
            a, b = (rng.integers(0, len(g.means), len(g.means)) for g in (source, target))
            assert source.shifts is not None
            draws.append(plug_in(Group(source.means[a], source.shifts[a]), Group(target.means[b])))
        ends = np.percentile(draws, [2.5, 97.5])
        held_plain += bool(ends[0] <= truth <= ends[1])
    return float(np.mean(values)), float(np.mean(plain)), held / n_draws, held_plain / n_draws


def main() -> None:
    """Print truth, mean debiased cosine, mean plug-in cosine, coverage, coverage of the percentile bootstrap."""
    for truth in (0.0, 0.3, 0.8):
        print(truth, *(f"{value:.3f}" for value in coverage(truth)))


if __name__ == "__main__":
    main()
