"""The ridge in kernel form equals the normal equations of its features, written out."""

import numpy as np
import pytest

from causalfm.scm import pair_ridge
from causalfm.scm.pair_ridge import FORMS, SLOPE_GRID, Task, learn

OPTIONS = [(0.0, 0.0), *((a / p, b / p) for a, b in FORMS.values() for p in SLOPE_GRID)]


def pairs(seed, n_patients=9, d=7, k=4):
    """Two factors with three levels each; a patient's pairs change one of them or both. Not one of them is alike."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), rng.integers(2, 6, n_patients))
    n = len(patient)
    change = np.full((n, 4), -1)
    for f in (0, 1):
        changed = rng.random(n) < 0.7 if f == 0 else (change[:, 0] < 0) | (rng.random(n) < 0.4)
        source = rng.integers(0, 3, n)
        change[changed, f], change[changed, 2 + f] = source[changed], (source + rng.integers(1, 3, n))[changed] % 3
    weight = 1.0 / np.bincount(patient)[patient]
    basis = np.linalg.qr(rng.standard_normal((d, k)))[0]
    start = rng.standard_normal((n, d)) * np.linspace(2.0, 0.3, d)
    missed = 0.4 * start @ rng.standard_normal((d, d)) + 0.5 + 0.2 * rng.standard_normal((n, d))
    return Task(missed, start, basis, change, rng.integers(0, 2, n), patient, weight)


def one_hot(change, known):
    """Indicators of what each factor does, and of both together."""
    T, out = change.shape[1] // 2, []
    for row in known:
        both = [(change[:, [f, T + f]] == row[[f, T + f]]).all(axis=1) & (row[f] >= 0) for f in range(T)]
        out.append(both)
    single = [np.stack([b[f] for b in out], axis=1) for f in range(T)]
    firsts = [np.unique(known[:, [f, T + f]], axis=0, return_index=True)[1] for f in range(T)]
    whole = np.stack([(change == row).all(axis=1) & ((row[:T] >= 0).sum() > 1) for row in known], axis=1)
    return np.concatenate([*(s[:, i] for s, i in zip(single, firsts, strict=True)), whole], axis=1).astype(float)


def features(task, known, change, classes, start, form, option):
    """Regressors whose prior variances are 1: shifts, shifts by class, slopes of all changes, slopes of each."""
    (patients, by_class), (a, b) = form, option
    hot = one_hot(change, known)
    classed = by_class * (hot[:, :, None] * np.eye(2)[classes][:, None]).reshape(len(hot), -1)
    own = (hot[:, :, None] * start[:, None]).reshape(len(hot), -1)
    size = np.sqrt(task.size)
    return np.hstack([hot / patients**0.5, classed / patients**0.5, a**0.5 * start / size, b**0.5 * own / size])


@pytest.mark.parametrize("option", [1, 4, 11, 18, 22])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_kernel_is_the_dense_ridge(option, seed, monkeypatch):
    """Shift, slopes and errors without a patient, along the directions."""
    task, chosen = pairs(seed), []

    def take(cells, errors):
        which = min(option, len(errors) - 1)
        chosen.append(errors[which])
        return np.full(len(np.unique(cells.key if hasattr(cells, "key") else cells.ends[0])), which), errors[which]

    monkeypatch.setattr(pair_ridge, "choose", take)
    found = learn(task, 2)
    cells = pair_ridge.Cells(
        np.unique(task.change, axis=0, return_inverse=True)[1].reshape(-1), task.patient, task.weight
    )
    form = pair_ridge._shift_form(task, cells, pair_ridge.shared(task.change, task.change))
    design = features(task, found.change, task.change, task.classes, task.inside, form, OPTIONS[option - 1])

    def solve(rows):
        f, w = design[rows], task.weight[rows][:, None]
        return np.linalg.solve(f.T @ (w * f) + np.eye(f.shape[1]), f.T @ (w * (task.missed @ task.basis)[rows]))

    dense, Q, k = solve(np.arange(len(design))), len(found.change), task.basis.shape[1]
    for c in (0, 1):
        at = features(task, found.change, found.change, np.full(Q, c), np.zeros((Q, k)), form, OPTIONS[option - 1])
        np.testing.assert_allclose(found.shift[:, c] @ task.basis, at @ dense, rtol=0, atol=1e-8)
        for j in range(k):
            start = np.tile(np.eye(k)[j], (Q, 1))
            moved = features(task, found.change, found.change, np.full(Q, c), start, form, OPTIONS[option - 1])
            np.testing.assert_allclose(found.slope[:, :, j], (moved - at) @ dense, rtol=0, atol=1e-8)
    for g in range(3):
        mine = task.patient == g
        left = (task.missed @ task.basis)[mine] - design[mine] @ solve(np.flatnonzero(~mine))
        np.testing.assert_allclose(chosen[1][mine], left, rtol=0, atol=1e-8)


def test_outside_of_the_directions_a_shift_and_one_slope(monkeypatch):
    """The slope is least squares of what the shift leaves when patients are left out; the shift is ridge again."""
    task = pairs(3)
    monkeypatch.setattr(
        pair_ridge, "choose", lambda cells, errors: (np.full(len(np.unique(cells.ends[0])), 2), errors[2])
    )
    found = learn(task, 2)
    cells = pair_ridge.Cells(
        np.unique(task.change, axis=0, return_inverse=True)[1].reshape(-1), task.patient, task.weight
    )
    form = pair_ridge._shift_form(task, cells, pair_ridge.shared(task.change, task.change))
    nothing = np.zeros((len(task.missed), 1))
    design = features(task, found.change, task.change, task.classes, nothing, form, (0.0, 0.0))
    missed, start = task.outside(task.missed), task.outside(task.start)

    def solve(rows, values):
        f, w = design[rows], task.weight[rows][:, None]
        return np.linalg.solve(f.T @ (w * f) + np.eye(f.shape[1]), f.T @ (w * values[rows]))

    left, at = np.empty_like(missed), np.empty_like(start)
    for g in np.unique(task.patient):
        mine, rest = task.patient == g, np.flatnonzero(task.patient != g)
        left[mine] = missed[mine] - design[mine] @ solve(rest, missed)
        at[mine] = start[mine] - design[mine] @ solve(rest, start)
    w = task.weight[:, None]
    slope = (w * left * at).sum() / (w * at * at).sum()
    np.testing.assert_allclose(found.outside, slope, rtol=0, atol=1e-8)
    everything, Q = np.arange(len(design)), len(found.change)
    dense = solve(everything, missed - slope * start)
    for c in (0, 1):
        new = features(task, found.change, found.change, np.full(Q, c), np.zeros((Q, 1)), form, (0.0, 0.0))
        np.testing.assert_allclose(task.outside(found.shift[:, c]), new @ dense, rtol=0, atol=1e-8)
