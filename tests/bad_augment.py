"""Calls of the augmentation that must raise, and what their messages must hold."""

import numpy as np
from bad_data import cohort, graph, table, torch

import causalfm as cfm


def balanced(change=None, roles=None, columns=None, **options):
    """Fit on the common cohort and augment; ``change`` alters the table that is augmented."""

    def call(t):
        data = cohort(**columns or {})
        scm = cfm.EmbeddingSCM(graph(**roles or {})).fit(data)
        rows = data if change is None else data.replace(obs=change(table()))
        return cfm.augment.balanced_counterfactuals(scm, rows, **options)

    return call


def module(ask, **options):
    """Fit, build the module, then ask it with embeddings and codes."""

    def call(t):
        data = cohort()
        augment = cfm.augment.CounterfactualAugment(cfm.EmbeddingSCM(graph()).fit(data), **options)
        return ask(augment, torch().tensor(data.X), augment.encode(data)[0])

    return call


def put(codes, row, column, value):
    codes[row, column] = value
    return codes


def twice(t):
    scm = cfm.EmbeddingSCM(graph()).fit(cohort())
    return cfm.augment.balanced_counterfactuals(scm, cfm.augment.balanced_counterfactuals(scm, cohort()))


def caused(t):
    own = cfm.CausalGraph("site -> tumour; {site, tumour} -> Z", biology="tumour", technical="site", group="patient")
    return cfm.augment.balanced_counterfactuals(cfm.EmbeddingSCM(own).fit(cohort()), cohort())


def ageing(t):
    own = cfm.CausalGraph("site -> age; {site, tumour, age} -> Z", biology="tumour", technical="site", group="patient")
    return cfm.augment.balanced_counterfactuals(cfm.EmbeddingSCM(own).fit(cohort()), cohort())


alike = {"tumour": np.where(table()["site"] == "A", "x", "y")}
CASES = {
    "augmentation by no model": (
        lambda t: cfm.augment.balanced_counterfactuals(graph(), cohort()),
        "scm must be an EmbeddingSCM",
        "fit",
    ),
    "augmentation before a fit": (
        lambda t: cfm.augment.balanced_counterfactuals(cfm.EmbeddingSCM(graph()), cohort()),
        "not fitted",
    ),
    "augmentation of an array": (
        lambda t: cfm.augment.balanced_counterfactuals(cfm.EmbeddingSCM(graph()).fit(cohort()), cohort().X),
        "cohort must be a Cohort",
    ),
    "augmentation of biology": (balanced(factors="tumour"), "'tumour'", "no technical factor", "site"),
    "augmentation of a typo": (balanced(factors="sit"), "Did you mean 'site'?"),
    "augmentation of nothing": (balanced(factors=()), "factors is empty", "None"),
    "augmentation of a patient": (balanced(factors="patient"), "'patient'", "no technical factor"),
    "augmentation of what a number follows": (ageing, "'age' follows from site", "Remove the arrow"),
    "augmentation of a cause of biology": (caused, "site cause 'tumour'", "site <-> tumour"),
    "augmentation that nothing identifies": (
        balanced(columns=alike),
        "not identified",
        "A: x 12, y 0; B: x 0, y 12",
        "assume='additive'",
    ),
    "augmentation no times": (balanced(copies=0), "copies=0", "at least 1"),
    "augmentation with originals, perhaps": (balanced(include_original="no"), "include_original='no'", "True or False"),
    "augmentation to another target": (balanced(target="even"), "target='even'", "'marginal', 'uniform'"),
    "augmentation without a seed": (balanced(random_state=None), "random_state=None"),
    "augmentation of a row at an unseen level": (
        balanced(change=lambda obs: obs.assign(site=["C", *obs["site"][1:]])),
        "'site'",
        "row 0",
        "never saw",
    ),
    "augmentation of a row without a level": (
        balanced(change=lambda obs: obs.assign(site=[None, *obs["site"][1:]])),
        "'site'",
        "1 missing",
    ),
    "augmentation of other dimensions": (
        lambda t: cfm.augment.balanced_counterfactuals(
            cfm.EmbeddingSCM(graph()).fit(cohort()), cohort().replace(X=cohort().X[:, :2])
        ),
        "2 dimensions",
        "6",
    ),
    "augmentation of an augmentation": (twice, "augmented before", "rows as seen"),
    "module without a seed": (module(lambda a, z, c: a, random_state=0.5), "random_state=0.5"),
    "module with another target": (module(lambda a, z, c: a, target="even"), "target='even'"),
    "module with a level out of range": (
        module(lambda a, z, c: a(z, put(c, [4, 9], 1, 2))),
        "'site'",
        "from 0 to 1",
        "rows 4, 9",
    ),
    "module with a negative code": (module(lambda a, z, c: a(z, put(c, 4, 0, -1))), "'tumour'", "row 4"),
    "module with codes of one column": (module(lambda a, z, c: a(z, c[:, :1])), "(72, 1)", "tumour, site", "encode"),
    "module with codes that are no integers": (module(lambda a, z, c: a(z, c.float())), "float32", "int64"),
    "module with fewer embeddings": (module(lambda a, z, c: a(z[:5], c)), "(5, 6)", "(72, 6)"),
    "module with other dimensions": (module(lambda a, z, c: a(z[:, :2], c)), "(72, 2)", "(72, 6)"),
    "module with whole numbers": (module(lambda a, z, c: a(z.long(), c)), "int64", "floating"),
    "module in half precision": (module(lambda a, z, c: a.half()(z, c)), "float16", "float()"),
    "module of an empty batch": (module(lambda a, z, c: a(z[:0], c[:0])), "(0, 2)"),
    "module from another state": (
        lambda t: cfm.augment.CounterfactualAugment.from_state({"weight": torch().zeros(2)}),
        "no state of CounterfactualAugment",
        "state_dict()",
    ),
    "module from a newer state": (
        module(lambda a, z, c: a.set_extra_state({**a.get_extra_state(), "schema": 9})),
        "schema 9",
        "newer",
    ),
    "module with the state of other levels": (
        module(lambda a, z, c: a.set_extra_state({**a.get_extra_state(), "spec": {**a.spec, "levels": [["x"]]}})),
        "other levels",
        "from_state",
    ),
    "codes of a cohort without a column": (
        module(lambda a, z, c: a.encode(cohort().replace(obs=table().drop(columns="site")))),
        "no column 'site'",
    ),
    "codes of an unseen level": (module(lambda a, z, c: a.encode(cohort(site="C"))), "'site'", "never saw"),
}
