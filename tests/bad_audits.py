"""Calls of the audits by the causal model that must raise, and what their messages must hold."""

import numpy as np
from bad_data import SENTINEL, cohort, graph, table

import causalfm as cfm
from causalfm.scm import EmbeddingSCM, flips, gap_paths

LEVELS = ("A", "B")


def fitted(data=None, **options):
    return EmbeddingSCM(graph(), **options).fit(cohort() if data is None else data)


def gap(levels=LEVELS, data=None, **options):
    return lambda t: gap_paths(fitted(), cohort() if data is None else data(), levels, **options)


def judged(model, data=None, **options):
    return lambda t: flips(fitted(), cohort() if data is None else data(), model, **options)


def two(X):
    p = 1.0 / (1.0 + np.exp(-X[:, 0]))
    return np.stack([1.0 - p, p], axis=1)


def batch_scaled(X):
    return two((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-6))


def failing(X):
    raise RuntimeError(SENTINEL)


def unseen(policy, sites=("A", "B"), drop=(), new="C", **options):
    def call(t):
        obs = table().assign(site=np.array(list(sites))[np.repeat(np.arange(24), 3) % len(sites)])
        data = cohort().replace(obs=obs)
        scm = EmbeddingSCM(graph(), unseen=policy, **options).fit(data)
        fresh = data.replace(obs=obs.assign(site=new).drop(columns=list(drop)))
        return scm.counterfactual(fresh, {"site": sites[0]})

    return call


CASES = {
    # --- the parts of a gap
    "gap before a fit": (lambda t: gap_paths(EmbeddingSCM(graph()), cohort(), LEVELS), "not fitted", "call fit"),
    "gap of a graph": (lambda t: gap_paths(graph(), cohort(), LEVELS), "scm must be an EmbeddingSCM"),
    "gap on an array": (lambda t: gap_paths(fitted(), cohort().X, LEVELS), "cohort must be a Cohort"),
    "gap on another cohort": (gap(data=lambda: cohort()[np.arange(60)]), "cohort of the fit", "pass"),
    "gap of another width": (gap(data=lambda: cfm.Cohort(cohort().X[:, :2], table())), "cohort of the fit"),
    "gap of one level": (gap(("A", "A")), "levels=('A', 'A')", "two different levels"),
    "gap of an unseen level": (gap(("A", "C")), "levels=('A', 'C')", "'site'"),
    "gap of a text": (gap("AB"), "levels='AB'", "two different"),
    "gap of a patient": (gap(of="patient"), "of='patient'", "site"),
    "gap of several": (gap(of=["site"]), "of=['site']", "choose among"),
    "gap of no node": (gap(of="sit"), "of='sit'", "Did you mean 'site'?"),
    "gap without folds": (gap(n_folds=1), "n_folds=1", "whole number"),
    "gap without a seed": (gap(random_state=-1), "random_state=-1"),
    "gap in labels": (gap(model=lambda X: (X[:, 0] > 0).astype(int)), "model returned int64", "no labels"),
    "gap by a scale of the batch": (gap(model=batch_scaled), "comes alone", "model.eval()"),
    # --- decisions that change
    "flips before a fit": (lambda t: flips(EmbeddingSCM(graph()), cohort(), two), "not fitted"),
    "flips without a model": (judged(None), "model is a NoneType", "predict_proba"),
    "flips by an unfitted estimator": (
        lambda t: flips(fitted(), cohort(), __import__("sklearn.linear_model").linear_model.LogisticRegression()),
        "model failed",
        "NotFittedError",
    ),
    "flips by a model that fails": (judged(failing), "model failed on 5 rows of 6 dimensions", "RuntimeError"),
    "flips by one score per row": (judged(lambda X: X[:, 0]), "one column per class"),
    "flips by too few scores": (judged(lambda X: X[:3]), "shape (3, 6)", "(rows, classes)"),
    "flips by scores in three axes": (judged(lambda X: X[:, :, None]), "shape (5, 6, 1)"),
    "flips by infinite scores": (judged(lambda X: np.full((len(X), 2), np.inf)), "not finite"),
    "flips by text": (judged(lambda X: np.array(["x"] * len(X))), "not scores"),
    "flips by a scale of the batch": (judged(batch_scaled), "comes alone"),
    "flips of the biology": (judged(two, of="tumour"), "of='tumour'", "choose among site"),
    "flips of another encoder": (judged(two, data=lambda: cfm.Cohort(cohort().X[:, :2], table())), "2 dimensions"),
    "flips without folds": (judged(two, n_folds="all"), "n_folds='all'", "whole number"),
    "flips that nothing allows": (
        judged(two, data=lambda: cohort().replace(obs=table().assign(tumour="z"))),
        "no row can be moved",
        "'tumour'",
    ),
    "figure of a frame": (lambda t: cfm.plot_flips(table()), "must be a Flips", "flips(scm, cohort, model)"),
    # --- levels never seen
    "policy of another name": (unseen("guess"), "unseen='guess'", "'shrink'"),
    "policy of none": (unseen(None), "unseen=None"),
    "two levels make no population": (unseen("shrink"), "2 levels of 'site'", "at least 3"),
    "two levels teach nothing": (unseen("adapt"), "2 levels of 'site'", "at least 3"),
    "new level under refuse": (unseen("refuse", sites="ABD"), "never saw", "unseen='shrink'"),
    "new hospital without biology": (
        unseen("adapt", sites="ABD", drop=["tumour"], mechanism="location-scale"),
        "no column 'tumour'",
        "mechanism='additive'",
    ),
    "new hospital shrunk without biology": (unseen("shrink", sites="ABD", drop=["tumour"]), "no column 'tumour'"),
    "new hospital without a name": (unseen("adapt", sites="ABD", new=None), "'site'", "missing"),
    "new hospital without patients": (unseen("adapt", sites="ABD", drop=["patient"]), "no column 'patient'"),
}
