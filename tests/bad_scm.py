"""Calls of the causal model that must raise, and what their messages must hold."""

import numpy as np
from bad_data import SENTINEL, cohort, graph, table

import causalfm as cfm


def scm(ask, change=None, **options):
    """Fit on the common cohort, then ask; ``change`` alters the table that is asked about."""

    def call(t):
        data = cohort()
        fitted = cfm.EmbeddingSCM(graph(), **options).fit(data)
        return ask(fitted, data if change is None else data.replace(obs=change(table())))

    return call


def moved(do, **options):
    return scm(lambda model, data: model.counterfactual(data, do), **options)


def first(column, value):
    return lambda obs: obs.assign(**{column: [value, *obs[column][1:]]})


TO_A = {"site": "A"}
CASES = {
    "counterfactual before a fit": (
        lambda t: cfm.EmbeddingSCM(graph()).counterfactual(cohort(), TO_A),
        "not fitted",
        "call fit",
    ),
    "mechanism of another name": (moved(TO_A, mechanism="scale-location"), "mechanism='scale-location'", "additive"),
    "device for a mechanism of moments": (moved(TO_A, device="cpu"), "device='cpu'", "mechanism='flow'"),
    "device that is not there": (moved(TO_A, mechanism="flow", device="tpu7"), "device='tpu7'", "no such device"),
    "device of another type": (moved(TO_A, mechanism="flow", device=[1]), "device=[1]", "no such device"),
    "another assumption": (moved(TO_A, assume="linear"), "assume='linear'", "'additive'"),
    "noise without a seed": (moved(TO_A, random_state=-1), "random_state=-1"),
    "fit on an array": (lambda t: cfm.EmbeddingSCM(graph()).fit(cohort().X), "cohort must be a Cohort"),
    "do of no node": (moved({"sit": "A"}), "'sit'", "Did you mean 'site'?"),
    "do of a patient": (moved({"patient": f"{SENTINEL}-0"}), "'patient'", "no measured node"),
    "do of nothing": (moved({}), "do={}", "name at least one"),
    "do of text": (moved("site"), "do='site'", "name at least one"),
    "do of an unseen level": (moved({"site": "C"}), "'C'", "never saw", "A, B"),
    "do of a missing level": (moved({"site": None}), "None", "never saw"),
    "row at an unseen level": (
        scm(lambda model, data: model.counterfactual(data, TO_A), change=first("site", "C")),
        "'site'",
        "row 0",
        "never saw",
    ),
    "row without a level": (
        scm(lambda model, data: model.counterfactual(data, TO_A), change=first("site", None)),
        "'site'",
        "1 missing",
        "row 0",
    ),
    "likelihood without a column": (
        scm(lambda model, data: model.log_likelihood(data), change=lambda obs: obs.drop(columns="site")),
        "no column 'site'",
    ),
    "embeddings of another width": (
        scm(lambda model, data: model.counterfactual(cfm.Cohort(data.X[:, :2], data.obs), TO_A)),
        "2 dimensions",
        "6",
    ),
    "contrast with an unseen level": (scm(lambda model, data: model.contrast(TO_A, {"site": "C"})), "'C'", "A, B"),
    "no draws": (scm(lambda model, data: model.interventional(0, TO_A)), "n=0", "whole number"),
    "draws without a seed": (scm(lambda model, data: model.interventional(5, random_state=1.5)), "random_state=1.5"),
    "uncertainty by name": (
        scm(lambda model, data: model.counterfactual(data, TO_A, return_uncertainty="yes")),
        "return_uncertainty='yes'",
        "True or False",
    ),
    "model under another ending": (scm(lambda model, data: model.save("model.pkl")), "'model.pkl'", ".safetensors"),
    "model that is not there": (lambda t: cfm.EmbeddingSCM.load(t.folder / "m.safetensors"), "m.safetensors"),
    "two patients": (
        lambda t: cfm.EmbeddingSCM(graph()).fit(cohort()[np.array([0, 1, 2, 9, 10, 11])]),
        "patient",
    ),
}
