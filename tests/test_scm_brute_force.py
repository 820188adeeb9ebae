"""The causal model against a second implementation: plain loops over patients, statsmodels, augmented least squares."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import linalg

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM

DESIGNS = {
    "uneven rows": {},
    "classes within patients": {"within": ("tumour",)},
    "scanned twice": {"within": ("scanner",)},
    "classes and scanners within patients": {"within": ("tumour", "scanner"), "n_patients": 80},
    "one row each": {"rows": (1, 1), "n_patients": 80},
    "ordinal covariate": {"grade": True, "n_patients": 80},
}
TO = {"site": "S0", "scanner": "c0"}


def draw(within=(), rows=(1, 5), n_patients=60, grade=False, dtype=np.float64, seed=0, d=4):
    """Three sites, two scanners, two classes, age; noise that differs by site, patients in any order."""
    rng = np.random.default_rng(seed)
    effects = [rng.standard_normal((3, d)) for _ in range(4)]
    records, Z = [], []
    for g in range(n_patients):
        own = {"site": g % 3, "tumour": g // 3 % 2, "scanner": rng.integers(2), "grade": int(rng.integers(3))}
        age, patient = rng.normal(60.0, 10.0), (1.0 + 0.5 * own["site"]) * rng.standard_normal(d)
        for _ in range(rng.integers(rows[0], rows[1] + 1)):
            row = {**own, **{name: rng.integers(2) for name in within}}
            mean = sum(e[row[n]] for e, n in zip(effects, ("site", "tumour", "scanner", "grade"), strict=True))
            Z.append(mean + 0.02 * (age - 60.0) + patient + 0.7 * rng.standard_normal(d))
            names = {"site": f"S{row['site']}", "tumour": f"t{row['tumour']}", "scanner": f"c{row['scanner']}"}
            records.append({"patient": f"p{g}", **names, "age": age, "grade": row["grade"]})
    obs = pd.DataFrame(records)
    obs["grade"] = pd.Categorical(obs["grade"], categories=[0, 1, 2], ordered=True)
    order = rng.permutation(len(obs))
    cohort = Cohort(np.array(Z)[order].astype(dtype), obs.iloc[order].reset_index(drop=True))
    covariates = ["age", "grade"] if grade else ["age"]
    return cohort, CausalGraph.standard(
        biology="tumour", technical=["site", "scanner"], covariates=covariates, group="patient"
    )


class BruteForce:
    """Weighted least squares on dense regressors, and moments of residuals patient by patient."""

    def __init__(self, cohort, graph, crossed=False):
        self.cohort, self.crossed = cohort, crossed
        self.factors = ["tumour", *(c for c in graph.covariates if c == "grade"), "site", "scanner"]
        self.levels = {f: sorted(cohort.obs[f].astype(str).unique()) for f in self.factors}
        self.X = cohort.X.astype(np.float64)
        self.patient = cohort.obs["patient"].to_numpy()
        self.weight = 1.0 / cohort.obs.groupby("patient")["patient"].transform("size").to_numpy(float)
        self.F = self.design(cohort.obs)
        self.inverse = np.linalg.pinv(self.F.T @ (self.F * self.weight[:, None]), rcond=1e-12, hermitian=True)
        self.beta = self.inverse @ (self.F.T @ (self.X * self.weight[:, None]))
        self.residual = self.X - self.F @ self.beta

    def design(self, obs):
        age = self.cohort.obs["age"]
        low, middle, high = age.min(), age.median(), age.max()
        t = (obs["age"].to_numpy() - middle) / ((high - low) / 2.0)  # never beyond the range in these tests
        columns = [np.ones(len(obs)), t, t**2, np.where(t > 0, t, 0.0) ** 2]
        text = {f: obs[f].astype(str).to_numpy() for f in self.factors}
        columns += [text[f] == level for f in self.factors for level in self.levels[f]]
        self.n_main = len(columns)
        if self.crossed:
            columns += [
                (text["tumour"] == a) & (text[f] == b)
                for f in ("site", "scanner")
                for a in self.levels["tumour"]
                for b in self.levels[f]
            ]
        return np.column_stack(columns).astype(float)

    def moved(self):
        return self.design(self.cohort.obs.assign(**TO))

    def patients(self):
        """Rows and leverage of every patient."""
        for p in pd.unique(self.patient):
            rows = np.flatnonzero(self.patient == p)
            half = self.F[rows] * np.sqrt(self.weight[rows])[:, None]
            yield rows, np.linalg.eigvalsh(half @ self.inverse @ half.T)[-1]

    def covariances(self, change):
        """Sandwich variances ``(r, d)`` of ``change @ beta``."""
        middle = np.zeros((self.X.shape[1], self.F.shape[1], self.F.shape[1]))
        for rows, leverage in self.patients():
            scores = self.F[rows].T @ (self.residual[rows] * self.weight[rows, None])
            for j, score in enumerate(scores.T):
                middle[j] += np.outer(score, score) / (1.0 - leverage)
        a = change @ self.inverse
        return np.stack([np.einsum("rp,pq,rq->r", a, m, a) for m in middle], axis=1)

    def cells(self):
        """Patients, second moments and codes per cell; second moment, weight and cell of each patient's share."""
        keys = list(zip(*(self.cohort.obs[f].astype(str) for f in self.factors), strict=True))
        names = sorted(set(keys))
        second, weight, cell = [], [], []
        for rows, leverage in self.patients():
            for key in sorted({keys[i] for i in rows}):
                here = [i for i in rows if keys[i] == key]
                own = self.weight[here]
                mean = own @ self.residual[here] / own.sum()
                square = np.einsum("i,ij,ik->jk", own, self.residual[here], self.residual[here]) / own.sum()
                second.append(square + (1.0 / (1.0 - leverage) - 1.0) * np.outer(mean, mean))
                weight.append(own.sum())
                cell.append(names.index(key))
        second, weight, cell = np.array(second), np.array(weight), np.array(cell)
        codes = np.array([[self.levels[f].index(v) for f, v in zip(self.factors, n, strict=True)] for n in names])
        total = np.stack([(weight[cell == c, None, None] * second[cell == c]).sum(axis=0) for c in range(len(names))])
        return np.bincount(cell, weight), total, codes, (second, weight, cell)


def spread(values, weight, cell):
    """Squared coefficient of variation within cells, of shares ``(K, m)``."""
    count = np.bincount(cell, weight)
    sums = np.stack([(weight[cell == c, None] * values[cell == c]).sum(axis=0) for c in range(len(count))])
    between = (sums**2 / count[:, None]).sum(axis=0)
    variance = (weight @ values**2 - between) / (count.sum() - len(count))
    return variance / ((between - len(count) * variance) / count.sum())


def share_of_signal(square, noise, count):
    p = count / count.sum()
    signal = max(0.0, (square - noise).sum() / sum(1.0 - 2.0 * q + len(p) * q**2 for q in p))
    return signal / (signal + noise)


def level_noise(count, codes, factor):
    """Variance of each level's deviation from the mean over patients, from the covariance of least squares."""
    sizes = codes.max(axis=0) + 1
    design = np.concatenate([np.eye(s)[codes[:, f]] for f, s in enumerate(sizes)], axis=1)
    covariance = np.linalg.pinv(design.T @ np.diag(count) @ design)
    own = np.bincount(codes[:, factor], count)
    contrast = np.zeros((sizes[factor], design.shape[1]))
    start = sizes[:factor].sum()
    contrast[:, start : start + sizes[factor]] = np.eye(sizes[factor]) - own / own.sum()
    return np.diag(contrast @ covariance @ contrast.T)


def gamma_logs(mean_square, count, codes):
    """Gamma regression with logarithmic link by Fisher scoring, one dimension at a time."""
    sizes = codes.max(axis=0) + 1
    design = np.concatenate([np.eye(s)[codes[:, f]] for f, s in enumerate(sizes)], axis=1)
    step = np.linalg.pinv(design.T @ (design * count[:, None])) @ (design * count[:, None]).T
    out = [np.zeros((s, mean_square.shape[1])) for s in sizes]
    for j, y in enumerate(mean_square.T):
        beta = np.full(design.shape[1], np.log(y.mean()) / len(sizes))
        for _ in range(2000):
            mu = np.exp(design @ beta)
            beta = beta + np.clip(0.7 * step @ ((y - mu) / mu), -1.0, 1.0)
        for f, part in enumerate(np.split(beta, np.cumsum(sizes)[:-1])):
            own = np.bincount(codes[:, f], count)
            out[f][:, j] = part - own @ part / own.sum()
    return out


@pytest.mark.parametrize("design", DESIGNS)
def test_additive_rows_and_their_errors(design):
    cohort, graph = draw(**DESIGNS[design])
    brute = BruteForce(cohort, graph)
    change = brute.moved() - brute.F
    weighted = [sm.WLS(z, brute.F[:, :-1], weights=brute.weight) for z in brute.X.T]  # the last column is a sum
    oracle = np.column_stack([change[:, :-1] @ np.linalg.pinv(m.wexog) @ m.wendog for m in weighted])
    scm = EmbeddingSCM(graph, assume="additive").fit(cohort)
    moved, errors = scm.counterfactual(cohort, TO, return_uncertainty=True)
    np.testing.assert_allclose(moved.X, cohort.X + oracle, atol=1e-10)
    np.testing.assert_allclose(errors.standard_error() ** 2, brute.covariances(change), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_halves_and_singles_are_summed_in_float64(dtype):
    cohort, graph = draw(dtype=dtype)
    brute = BruteForce(cohort, graph)
    moved = EmbeddingSCM(graph, assume="additive").fit(cohort).counterfactual(cohort, TO).X
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, brute.X + (brute.moved() - brute.F) @ brute.beta, atol=2e-6)


@pytest.mark.parametrize("design", DESIGNS)
def test_scales_are_a_shrunken_gamma_regression(design):
    cohort, graph = draw(**DESIGNS[design])
    brute = BruteForce(cohort, graph)
    count, total, codes, (second, weight, cell) = brute.cells()
    squares = np.stack([np.diag(m) for m in total])
    each = np.stack([np.diag(m) for m in second])
    one = np.median(spread(each, weight, cell))
    variance = brute.weight @ brute.residual**2 / brute.weight.sum()
    whole = spread((each / variance).mean(axis=1)[:, None], weight, cell)[0]
    found = EmbeddingSCM(graph, "location-scale", assume="additive").fit(cohort).fitted.noise.logs
    for f, logs in enumerate(gamma_logs(squares / count[:, None], count, codes)):
        own, noise = np.bincount(codes[:, f], count), level_noise(count, codes, f)
        level = logs.mean(axis=1)
        rest = logs - level[:, None]
        wanted = (share_of_signal(level**2, whole * noise, own) * level)[:, None]
        wanted = wanted + share_of_signal((rest**2).mean(axis=1), one * noise, own)[:, None] * rest
        np.testing.assert_allclose(found[f], wanted, atol=1e-6)


@pytest.mark.parametrize("design", DESIGNS)
def test_transport_is_that_between_gaussians(design):
    cohort, graph = draw(**DESIGNS[design])
    brute = BruteForce(cohort, graph)
    count, total, codes, (second, weight, cell) = brute.cells()
    noise = EmbeddingSCM(graph, "optimal-transport", assume="additive").fit(cohort).fitted.noise
    basis, k = noise.basis, noise.basis.shape[1]
    assert k == brute.X.shape[1]
    covariance = brute.residual.T @ (brute.residual * brute.weight[:, None])
    axes = np.linalg.eigh(covariance)[1]
    one = np.median(spread(np.einsum("ai,nab,bi->ni", axes, second, axes), weight, cell))
    cells = np.einsum("ai,nab,bj->nij", basis, total, basis)
    pooled = cells.sum(axis=0) / count.sum()
    root = np.sqrt(np.diag(pooled))
    np.testing.assert_allclose(pooled, np.diag(root**2), atol=1e-10)
    for f, maps in enumerate(noise.maps):
        own = np.bincount(codes[:, f], count)
        apart = [cells[codes[:, f] == c].sum(axis=0) / n / np.outer(root, root) - np.eye(k) for c, n in enumerate(own)]
        expected = (k + k**2) / 2.0 * one * level_noise(count, codes, f)
        share = np.minimum(share_of_signal((np.array(apart) ** 2).sum(axis=(1, 2)), expected, own), 0.999)
        back = []
        for c, deviation in enumerate(apart):
            own_covariance = np.outer(root, root) * (np.eye(k) + share[c] * deviation)
            half = np.diag(root)
            wanted = linalg.inv(half) @ linalg.sqrtm(half @ own_covariance @ half).real @ linalg.inv(half)
            np.testing.assert_allclose(maps[c], wanted, atol=1e-8)
            back.append(linalg.inv(wanted))
        cells = np.stack([back[c] @ m @ back[c].T for c, m in zip(codes[:, f], cells, strict=True)])


@pytest.mark.parametrize("design", ["uneven rows", "classes within patients", "scanned twice"])
def test_interactions_are_a_ridge_whose_noise_is_the_sandwich(design):
    cohort, graph = draw(**DESIGNS[design])
    both = ((cohort.obs["tumour"] == "t1") & (cohort.obs["site"] == "S1")).to_numpy()
    cohort = cohort.replace(X=cohort.X + np.outer(both, [2.0, -2.0, 1.0, 0.0]))
    brute = BruteForce(cohort, graph, crossed=True)
    main, root = brute.F[:, : brute.n_main], np.sqrt(brute.weight)[:, None]
    crossed = brute.F[:, brute.n_main :]
    left = crossed - main @ np.linalg.lstsq(main * root, crossed * root, rcond=None)[0]
    values, vectors = np.linalg.eigh(left.T @ (left * brute.weight[:, None]))
    kept = values > 1e-6
    effects = np.zeros((int(kept.sum()), brute.F.shape[1]))
    effects[:, brute.n_main :] = vectors[:, kept].T
    without = main @ np.linalg.lstsq(main * root, brute.X * root, rcond=None)[0]
    explained = brute.weight @ ((brute.X - without) ** 2 - brute.residual**2).sum(axis=1)
    noise = (values[kept] @ brute.covariances(effects)).sum()
    ratio = (explained - noise) / values[kept].sum() / (noise / kept.sum())
    assert ratio > 0.01
    penalty = np.eye(brute.F.shape[1])[brute.n_main :] / np.sqrt(ratio)
    rows = np.vstack([brute.F * root, penalty])
    beta = np.linalg.lstsq(rows, np.vstack([brute.X * root, np.zeros((len(penalty), 4))]), rcond=None)[0]
    moved = EmbeddingSCM(graph, "interaction", assume="additive").fit(cohort).counterfactual(cohort, TO).X
    np.testing.assert_allclose(moved, cohort.X + (brute.moved() - brute.F) @ beta, atol=1e-9)
