"""Calls with pairs that must raise, and what their messages must hold."""

import numpy as np
import pandas as pd
from bad_data import SENTINEL, cohort, graph

import causalfm as cfm

TILES = {"specimen": "tile"}


def scanned(**changes):
    """The common cohort with scanners that vary within patients, and every row a tile of its own."""
    data = cohort()
    site = data.obs["site"].to_numpy()
    return data.replace(obs=data.obs.assign(scanner=site, tile=data.obs.index, **changes))


def bridge(change=None, patients=12):
    """Tiles of some patients at both sites."""
    first = scanned()[np.arange(3 * patients)]
    other = first.obs["site"].map({"A": "B", "B": "A"})
    again = first.obs.assign(site=other, scanner=other).set_axis([f"again-{i}" for i in range(len(first))])
    found = cfm.Cohort(np.concatenate([first.X, first.X + 1]), pd.concat([first.obs, again]))
    return found if change is None else change(found)


def refocused(t):
    """A technical number of its own for each scan."""
    pairs, data = bridge(), scanned()
    roles = {"technical": ["site", "focus"], "kinds": {"focus": "continuous"}, **TILES}
    pairs, data = (c.replace(obs=c.obs.assign(focus=np.arange(len(c)) / 7.0)) for c in (pairs, data))
    return cfm.EmbeddingSCM(graph(**roles)).fit(data, pairs)


def fit(change=None, roles=None, patients=12):
    def call(t):
        pairs = bridge(change, patients) if callable(change) or change is None else change
        return cfm.EmbeddingSCM(graph(**TILES if roles is None else roles)).fit(scanned(), pairs)

    return call


def after(use):
    """Use a model that learned from pairs where they cannot be used."""
    return lambda t: use(fit()(t), scanned())


def column(name, value):
    return lambda data: data.replace(obs=data.obs.assign(**{name: value}))


def curve(**options):
    patients = options.pop("patients", 12)
    return lambda t: cfm.pair_curve(scanned(), graph(**TILES), bridge(patients=patients), **options)


half = np.repeat(["x", "y"], 36)
CASES = {
    "pairs as an array": (fit(np.zeros((4, 6))), "pairs must be a Cohort", "ndarray"),
    "pairs without a specimen": (fit(roles={}), "declares no specimen", "specimen=..."),
    "pairs of another width": (fit(lambda data: data.replace(X=data.X[:, :2])), "2 dimensions", "6"),
    "pairs without their column": (
        fit(lambda data: data.replace(obs=data.obs.drop(columns="tile"))),
        "no column 'tile'",
    ),
    "pairs that are none": (
        fit(lambda data: data.replace(obs=data.obs.assign(tile=np.arange(len(data))))),
        "no specimen is seen at several levels",
        "'site'",
    ),
    "pairs that repeat a view": (
        fit(lambda data: data.replace(obs=data.obs.assign(tile=[f"{SENTINEL}{i // 6}" for i in range(len(data))]))),
        "lie in several levels of 'patient'",
    ),
    "pairs of unlike tissue": (fit(column("tumour", half)), "'tumour' differs", "same tile"),
    "pairs at technical numbers of their own": (refocused, "'focus' differs", "Declare it in levels"),
    "pairs at an unseen level": (
        fit(lambda data: data.replace(obs=data.obs.assign(site=data.obs["site"].replace("A", "C")))),
        "'site'",
        "never saw",
        "C",
    ),
    "pairs of two patients": (fit(patients=2), "2 patients", "at least 3"),
    "flips of a paired model": (
        after(lambda scm, data: cfm.scm.flips(scm, data, lambda X: X[:, :2])),
        "learned from pairs",
        "without pairs=",
    ),
    "paths of a paired model": (
        after(lambda scm, data: cfm.scm.gap_paths(scm, data, ("A", "B"))),
        "learned from pairs",
        "without pairs=",
    ),
    "augmentation by a paired model": (
        after(lambda scm, data: cfm.augment.balanced_counterfactuals(scm, data)),
        "learned from pairs",
        "without pairs=",
    ),
    "curve of five patients": (curve(patients=5), "5 patients", "at least 6"),
    "curve of more than there are": (curve(sizes=[40]), "sizes=40", "at most"),
    "curve of one fold": (curve(n_folds=1), "n_folds=1"),
    "curve without choices": (curve(n_draws=0), "n_draws=0"),
    "curve without a seed": (curve(random_state=None), "random_state=None"),
    "curve of no mechanism": (curve(mechanism="aditive"), "Did you mean 'additive'?"),
}
