"""Data and graphs that cannot be used: calls that must raise, and what their messages must hold."""

import numpy as np
import pandas as pd

import causalfm as cfm
from causalfm.metrics.neighbourhood import robustness_index

SENTINEL = "PATIENT-4711"
N = 72


def table() -> pd.DataFrame:
    group = np.repeat(np.arange(N // 3), 3)
    return pd.DataFrame(
        {
            "site": np.array(["A", "B"])[group % 2],
            "tumour": np.array(["x", "y"])[group // 2 % 2],
            "patient": [f"{SENTINEL}-{g}" for g in group],
            "age": 40.0 + group,
        },
        index=[f"{SENTINEL}/{row}" for row in range(N)],
    )


def matrix() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N, 6)) + rng.normal(size=(N // 3, 6)).repeat(3, axis=0)).astype("float32")


def graph(**roles):
    return cfm.CausalGraph.standard(**{"biology": "tumour", "technical": "site", "group": "patient", **roles})


def arrows(text):
    return lambda t: cfm.CausalGraph(text, biology="tumour", technical="site", group="patient")


def X(change):
    return lambda t: cfm.Cohort(change(matrix()), table())


def obs(change):
    return lambda t: cfm.Cohort(matrix(), change(table()))


def cohort(**columns):
    return cfm.Cohort(matrix(), table().assign(**columns))


def audit(roles=None, missing="error", **columns):
    return lambda t: cfm.audit(cohort(**columns), graph(**roles or {}), missing=missing)


def put(X, row, value):
    X[row] = value
    return X


def varies(every):
    return [["A", "B"][row // 3 % 2 if row % every else 0] for row in range(N)]


half = np.arange(N) < 36


def torch():
    import torch

    return torch


def many_levels(call):
    n = 10_000
    obs = pd.DataFrame(
        {
            "site": [f"s{i}" for i in range(n)],
            "tumour": ["x", "y"] * (n // 2),
            "patient": [f"{SENTINEL}{i}" for i in range(n)],
        }
    )
    return call(cfm.Cohort(np.random.default_rng(0).normal(size=(n, 4)), obs), graph())


CASES = {
    # --- embeddings
    "infinite value": (X(lambda X: put(X, (3, 1), np.inf)), "1 of 72 rows", "row 3"),
    "NaN rows": (X(lambda X: put(X, slice(2, 9), np.nan)), "7 of 72 rows", "rows 2, 3, 4, 5, 6 and 2 more"),
    "object X": (X(lambda X: X.astype(object)), "dtype object", "astype('float32')"),
    "integer X": (X(lambda X: X.astype(int)), "dtype int64"),
    "boolean X": (X(lambda X: X > 0), "dtype bool"),
    "complex X": (X(lambda X: X.astype(complex)), "dtype complex128"),
    "text X": (X(lambda X: X.astype(str).tolist()), "X has dtype <U"),
    "ragged X": (X(lambda X: [[1.0], [1.0, 2.0]] * 36), "ragged"),
    "no X": (X(lambda X: None), "shape ()", "array (n, d)"),
    "one vector": (X(lambda X: X[0]), "shape (6,)", "X[None, :]"),
    "tokens": (X(lambda X: X[:, None]), "shape (72, 1, 6)", "Pool"),
    "no rows": (X(lambda X: X[:0]), "X has 0 rows and obs has 72"),
    "masked X": (X(lambda X: np.ma.masked_array(X, mask=np.isin(X, X[4, 4]))), "masked", "1 rows"),
    "sparse X": (X(lambda X: __import__("scipy.sparse").sparse.csr_array(X)), "sparse", "toarray"),
    "tensor with gradient": (X(lambda X: torch().tensor(X, requires_grad=True)), "Tensor", "detach()"),
    "bfloat16 tensor": (X(lambda X: torch().tensor(X).bfloat16()), "Tensor", "float()"),
    "X in another order": (X(lambda X: pd.DataFrame(X, table().index[::-1])), "rows 0, 1, 2", "loc[obs.index]"),
    "zero rows have no cosine": (
        lambda t: cfm.audit(cohort().replace(X=put(matrix(), [4, 9], 0)), graph()),
        "2 zero",
        "rows 4, 9",
    ),
    "squares overflow": (
        lambda t: cfm.effect(cohort().replace(X=matrix().astype(float) * 1e200), graph(), treatment="site"),
        "e+200",
        "constant",
    ),
    "squares vanish": (
        lambda t: cfm.invariance_test(cohort().replace(X=matrix().astype(float) * 1e-200), graph(), of="site"),
        "e-200",
        "constant",
    ),
    # --- the table
    "unequal lengths": (obs(lambda o: o[:5]), "72 rows", "obs has 5"),
    "obs no frame": (obs(lambda o: o.to_dict()), "obs is a dict"),
    "repeated columns": (obs(lambda o: pd.concat([o, o[["site"]]], axis=1)), "repeated", "site"),
    "repeated index": (obs(lambda o: o.set_axis([SENTINEL] * N)), "not unique", "rows 0, 1", "67 more", "reset_index"),
    "columns of two levels": (obs(lambda o: pd.concat({"a": o}, axis=1)), "2 levels"),
    "lists as levels": (audit(site=[[1]] * 36 + [[2]] * 36), "'site'", "lists"),
    "complex covariate": (audit({"covariates": "age"}, age=np.arange(N) * 1j), "'age'", "complex"),
    "infinite covariate": (
        audit({"covariates": "age"}, age=np.where(half, np.inf, 1.0)),
        "'age'",
        "infinite",
        "rows 0",
    ),
    "text declared continuous": (
        audit({"covariates": "age", "kinds": {"age": "continuous"}}, age=list("abc") * 24),
        "'age'",
        "text",
    ),
    "number and text": (audit(site=[1] * 36 + ["1"] * 36), "'site'", "same as text: 1", "astype(str)"),
    "blank level": (audit(site=np.where(half, " ", "A")), "'site'", "blank in 36 of 72", "rows 0", "None"),
    "blank patients": (audit(patient=np.where(half, "", SENTINEL)), "'patient'", "blank in 36 of 72"),
    "dates as factor": (
        audit(site=pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(N) // 3, "D")),
        "'site'",
        "24 different dates",
        "kinds={'site': 'categorical'}",
    ),
    "numbers as biology": (audit(tumour=np.arange(N) / 7), "'tumour'", "72 different numbers", "pandas.cut"),
    "one site": (audit(site="A"), "'site'", "one level", "72 rows"),
    "one class": (audit(tumour="x"), "'tumour'", "one level", "72 rows"),
    "one patient": (audit(patient=SENTINEL), "'site'", "1 of 1 levels", "'patient'"),
    "a patient in two hospitals": (audit(site=varies(2)), "'site'", "of 24 levels", "rows 3, 9", "first factor"),
    "ids that start again": (
        audit(patient=[f"{SENTINEL}-{(row // 6 + row // 3 % 2) % 12}" for row in range(N)]),
        "12 of 12 levels of 'patient'",
        "rows 0, 3, 9, 15, 21 and 7 more",
        "another 'tumour' there",
        "obs['site'].astype(str)",
        "specimen",
    ),
    "decimal commas": (
        audit({"covariates": "age"}, age=[f"{40 + row // 3},5" for row in range(N)]),
        "'age'",
        "24 numbers with a decimal comma",
        "astype(float)",
        "kinds={'age': 'categorical'}",
    ),
    **{
        f"missing {name}": (
            audit({"covariates": "age"}, **{name: table()[name].where(~half)}),
            f"'{name}'",
            "36 missing values of 72",
            "rows 0, 1, 2, 3, 4 and 31 more",
            "missing='drop'",
        )
        for name in ("site", "tumour", "patient", "age")
    },
    "missing patients as a level": (
        audit(missing="level", patient=table()["patient"].where(~half)),
        "'patient'",
        "36 missing",
        "cannot be told apart",
        "missing='drop'",
    ),
    "missing numbers as a level": (audit({"covariates": "age"}, "level", age=table()["age"].where(~half)), "'age'"),
    "all missing, dropped": (audit(missing="drop", site=None), "every row", "site", "Complete"),
    "all missing, a level": (audit(missing="level", site=None), "'site'", "one level", "(missing)"),
    "unknown missing": (audit(missing="ignore"), "missing='ignore'", "'drop'"),
    "an id as site": (lambda t: many_levels(cfm.audit), "'site'", "10000 levels in 10000 rows", "group"),
    "an id as confounder": (lambda t: many_levels(robustness_index), "'site'", "10000 levels", "merge"),
    # --- the graph
    "a column that is not there": (audit({"technical": "Sites"}), "'Sites'", "Did you mean 'site'?"),
    "a patient column that is not there": (audit({"group": "case"}), "no column 'case'", "Columns: site"),
    "reserved name": (lambda t: graph(technical=["site", "Z"]), "'Z'", "embedding", "rename"),
    "two roles": (lambda t: graph(technical=["site", "tumour"]), "'tumour'", "one role"),
    "site twice": (lambda t: graph(technical=["site", "site"]), "'site'", "twice"),
    "biology as a list": (lambda t: graph(biology=["tumour"]), "['tumour']", "text"),
    "biology as a list, own arrows": (
        lambda t: cfm.CausalGraph("{a, s} -> Z", biology=["a"], technical="s", group="p"),
        "biology",
        "text",
    ),
    "a number as a name": (lambda t: graph(technical=3), "3", "list of them"),
    "numbers as names": (lambda t: graph(technical=[3]), "3", "rename"),
    "quote in a name": (lambda t: graph(technical='si"te'), 'si"te', "Rename"),
    "newline in a name": (lambda t: graph(technical="si\nte"), "si\\nte", "Rename"),
    "a blank name": (lambda t: graph(technical=["site", " "]), "' '", "blank"),
    "no technical factor": (lambda t: graph(technical=[]), "technical", "site first"),
    "group among the causes": (lambda t: graph(group="site"), "site", "leave it out"),
    "unknown kind": (lambda t: graph(kinds={"site": "nominal"}), "kinds['site']", "categorical"),
    "a cycle": (arrows("site -> tumour -> site; {site, tumour} -> Z"), "site -> tumour -> site", "remove"),
    "no Z": (arrows("{site, tumour} -> z"), "no node Z"),
    "another arrow": (arrows("site => Z"), "'='", "a -> b"),
    "an open brace": (arrows("{site, tumour -> Z"), "{site, tumour -> Z", "'}'"),
    "no arrows": (arrows(" "), "empty", "a -> b"),
    "no graph": (lambda t: cfm.audit(cohort(), "site -> Z"), "graph", "CausalGraph", "not str"),
    "no cohort": (lambda t: cfm.effect(table(), graph(), treatment="site"), "cohort", "DataFrame", "Cohort(X, obs)"),
}
