"""The head that is judged where the user brings no model: a discriminant that left out the rows it scores."""

import numpy as np
from shift_samples import domains_of

from causalfm.metrics.learners import cross_fitted, grouped_folds
from causalfm.shift.heads import held_out_scores


def drawn(n_patients=60, rows=4, d=12, sites=3, seed=0):
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(n_patients), rows)
    y = (units % 2).astype(np.int64)
    X = rng.standard_normal((len(units), d)) + rng.standard_normal((n_patients, d))[units]
    X[:, 0] += 2.5 * y
    return X, y, units, (units // 2) % sites, rng.standard_normal((7, d))


def test_a_head_is_the_discriminant_of_the_rows_that_it_was_fitted_to():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    X, y, units, sites, new = drawn()
    out = held_out_scores(X, y, units, sites, new)[1]
    train = sites != 0
    peer = LinearDiscriminantAnalysis(solver="lsqr").fit(X[train], y[train]).decision_function(X[~train])
    ours = np.log(out[~train, 1] / out[~train, 0])
    assert np.corrcoef(peer, ours)[0, 1] > 0.99  # but for a shrinkage of a thousandth or a hundredth


def test_moments_by_difference_give_what_a_fit_without_the_rows_gives():
    X, y, units, sites, new = drawn()
    out = held_out_scores(X, y, units, sites, new)[1]
    changed = X.copy()
    changed[sites == 0] = 3.0 * changed[sites == 0][::-1]  # rows of the site left out must not enter its head
    mean, spread = X.mean(axis=0), X.std(axis=0)
    again = held_out_scores(changed, y, units, sites, new)[1]
    heads = []
    for data, scores in ((X, out), (changed, again)):  # the head as a linear map: fitted to the scores it gave
        rows = sites == 0
        design = np.hstack([np.ones((rows.sum(), 1)), (data[rows] - mean) / spread])
        logits = np.log(scores[rows, 1] / scores[rows, 0])
        heads.append(np.linalg.lstsq(design, logits, rcond=None)[0])
    cosine = heads[0] @ heads[1] / np.linalg.norm(heads[0]) / np.linalg.norm(heads[1])
    assert cosine > 0.999  # the scale of columns is that of the whole reference, which the shrinkage feels


def test_patients_of_several_sites_are_left_out_of_the_head_of_their_sites():
    X, y, units, sites, new = drawn(d=200, n_patients=30, rows=6)
    X[:, 0] -= 2.5 * y  # no class signal: only a patient's own rows can tell its class
    twice = sites.copy()
    twice[::6] = (twice[::6] + 1) % 3  # one row of every patient was scanned at the next site
    out = held_out_scores(X, y, units, twice, new)[1]
    told = ~np.isnan(out[:, 0])
    assert told.all()
    assert abs((out.argmax(axis=1) == y).mean() - 0.5) < 0.15
    # the control: a head that left out rows only would read patients from their other rows
    leaky, _ = cross_fitted(X, y, units, 0 * y, [(twice != s, twice == s) for s in range(3)], "logistic", 0)
    assert (leaky.argmax(axis=1) == y)[::6].mean() > 0.9


def test_a_head_reads_as_much_as_logistic_regression_and_is_calibrated():
    domains = domains_of("nothing", seed=3)
    reference = domains.reference
    folds = grouped_folds(reference.labels, reference.units, 5, 0)
    holds = [(folds != k, folds == k) for k in range(5)]
    peer, _ = cross_fitted(reference.cohort.X, reference.labels, reference.units, 0 * folds, holds, "logistic", 0)
    right = [(p.argmax(axis=1) == reference.labels).mean() for p in (reference.scores, peer)]
    assert right[0] > right[1] - 0.02
    confidence = reference.scores.max(axis=1)
    assert abs(confidence.mean() - right[0]) < 0.03


def test_heads_of_wide_float16_and_far_from_zero():
    X, y, units, sites, new = drawn(d=300, n_patients=20)
    plain = held_out_scores(X, y, units, sites, new)
    for factor, offset in ((1e200, 0.0), (1e-200, 0.0), (1.0, 1e6)):
        found = held_out_scores(factor * X + offset, y, units, sites, factor * new + offset)
        for a, b in zip(plain, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    half = held_out_scores(X.astype(np.float16), y, units, sites, new.astype(np.float16))
    assert np.abs(half[0] - plain[0]).max() < 0.05


def test_a_class_that_lives_at_one_site_leaves_it_without_a_back_test():
    X, y, units, sites, new = drawn()
    y = np.where(sites == 0, 2, y)
    out = held_out_scores(X, y, units, sites, new)[1]
    assert np.isnan(out[sites == 0]).all()
    assert np.isfinite(out[sites != 0]).all()
