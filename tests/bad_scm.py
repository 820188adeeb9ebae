"""Calls of the causal model that must raise, and what their messages must hold."""

import numpy as np
import pandas as pd
from bad_data import SENTINEL, cohort, graph, table

import causalfm as cfm

TWO = {"technical": ["site", "scanner"]}


def scm(ask, change=None, roles=None, age=None, **options):
    """Fit on the common cohort, then ask; ``change`` alters the table that is asked about."""

    def call(t):
        data = cohort(scanner=np.array(["s", "t"])[np.arange(72) // 12 % 2])
        data = data if age is None else data.replace(obs=data.obs.assign(age=age))
        fitted = cfm.EmbeddingSCM(graph(**roles or {}), **options).fit(data)
        return ask(fitted, data if change is None else data.replace(obs=change(table())))

    return call


def errors_of(ask, **options):
    """Ask the errors of rows."""
    return scm(lambda model, data: ask(model.counterfactual(data, TO_A, return_uncertainty=True)[1]), **options)


def noisy(model, data, value):
    """Follow an intervention, change one stored noise, follow another."""
    once = model.counterfactual(data, TO_A)
    column = once.obs["noise:scanner"].astype(object)
    column.iloc[0] = value
    return model.counterfactual(once.replace(obs=once.obs.assign(**{"noise:scanner": column})), {"site": "B"})


def in_folder(t):
    """Save where a folder lies."""
    (t.folder / "kept.safetensors").mkdir()
    return cfm.EmbeddingSCM(graph()).fit(cohort()).save(t.folder / "kept.safetensors")


def wide(t):
    """Fit a covariate of thousands of levels."""
    names = np.arange(2100).astype(str).astype(object)
    obs = pd.DataFrame({"patient": names, "slide": names})
    obs = obs.assign(site=np.arange(2100) % 2 > 0, tumour=np.arange(2100) // 2 % 2 > 0)
    X = np.random.default_rng(0).standard_normal((2100, 2))
    return cfm.EmbeddingSCM(graph(covariates="slide")).fit(cfm.Cohort(X, obs))


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
    "do of a column of values": (
        scm(lambda model, data: model.counterfactual(data, {"site": data.obs["patient"]})),
        "do={'site': ...} gives a Series",
        "cohort[mask]",
    ),
    "do of a list": (scm(lambda model, data: model.interventional(5, {"site": ["A"]})), "'site'", "a list"),
    "do of a table": (scm(lambda model, data: model.contrast(data.obs, TO_A)), "do=a DataFrame", "name at least one"),
    "mechanisms as a list": (moved(TO_A, mechanism=["additive"]), "mechanism=['additive']", "choose one of"),
    "model of no graph": (lambda t: cfm.EmbeddingSCM("site -> Z"), "graph must be a CausalGraph", "str"),
    "rows of another cohort": (errors_of(lambda found: found.interval([500])), "positions below 72"),
    "a mask of another length": (errors_of(lambda found: found.standard_error(np.ones(3, bool))), "mask of 72 rows"),
    "a level in percent": (errors_of(lambda found: found.interval([0], level=95)), "level=95", "below 1"),
    "a level of zero": (errors_of(lambda found: found.interval([0], level=0)), "level=0", "above 0"),
    "errors of transported rows": (errors_of(len, mechanism="optimal-transport"), "no intervals for rows", "contrast"),
    "noise as text": (
        scm(lambda model, data: noisy(model, data, "much"), roles=TWO),
        "'noise:scanner'",
        "in 1 rows (row 0)",
        "Drop the column",
    ),
    "noise beyond its interval": (
        scm(lambda model, data: noisy(model, data, 1.5), roles=TWO),
        "'noise:scanner'",
        "in 1 rows (row 0)",
    ),
    "a contrast of a number never seen": (
        scm(lambda model, data: model.contrast({"age": 600, "tumour": "x"}, TO_A), roles={"covariates": "age"}),
        "do(age=600) lies beyond what was seen",
        "choose a value within",
    ),
    "a contrast of no number": (
        scm(lambda model, data: model.contrast({"age": "old"}, TO_A), roles={"covariates": "age"}),
        "'age' is a number",
        "give a finite one",
    ),
    "constant embeddings": (
        lambda t: cfm.EmbeddingSCM(graph()).fit(cfm.Cohort(np.ones((72, 4)), table())),
        "no residual in any of 72 rows",
        "constant",
    ),
    "as many levels as rows": (
        lambda t: cfm.EmbeddingSCM(graph(covariates="slide")).fit(cohort(slide=np.arange(72).astype(str))),
        "no residual",
        "as many regressors as rows",
    ),
    "more levels than can be fitted": (wide, "column 'slide' alone has 2100 levels", "Merge rare levels"),
    "a new age where ages are levels": (
        scm(
            lambda model, data: model.log_likelihood(data.replace(obs=data.obs.assign(age=63))),
            roles={"covariates": "age"},
            age=np.arange(72) // 12 * 10,
        ),
        "never saw",
        "kinds={'age': 'continuous'}",
    ),
    "model in the place of a folder": (in_folder, "'kept.safetensors' is a folder", "nothing was written"),
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
