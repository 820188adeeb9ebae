"""Arguments and files that cannot be used: calls that must raise, and what their messages must hold."""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from bad_data import SENTINEL, N, cohort, graph, matrix, table

import causalfm as cfm
from causalfm import metrics
from causalfm.auditing import load_policy
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.metrics.probes import readout
from causalfm.selection import select_levels


def invariance(**options):
    return lambda t: cfm.invariance_test(cohort(), graph(), **{"of": "site", **options})


def index(**options):
    return lambda t: robustness_index(cohort(), graph(), **options)


def metric(name, **options):
    """Call a metric; ``neighbours`` may be options of a search, and ``rows`` what it is made on."""

    def call(t):
        given = dict(options)
        if isinstance(given.get("neighbours"), dict):
            search = {"k": 10, "exclude": "patient", "X": cohort().X, **given["neighbours"]}
            search["exclude"] = cohort().factor(search["exclude"]).codes if search["exclude"] else None
            given["neighbours"] = cfm.knn(search.pop("X"), search.pop("k"), **search)
        return getattr(metrics, name)(cohort(), graph(), **given)

    return call


LISTED = ("robustness_index", "de_jong_ratio", "neighbour_scalars", "mari", "ilisi", "clisi", "kbet")
GRAPHS = ("kbet_per_label", "graph_connectivity")
DISTANCES = ("silhouette_label", "silhouette_batch", "bras", "isolated_labels")
FAMILIES = (*LISTED, *GRAPHS, *DISTANCES, "croma", "pc_regression", "clustering_score", "reference_index")
METRICS = {
    **{
        f"{name}: {argument} {value!r}": (metric(name, **{argument: value}), f"{argument}={value!r}")
        for argument, names, values in (
            ("k", (*LISTED, *GRAPHS), (0, -1, 2.5, "9", True)),
            ("m", ("croma",), (0, 2.5, "5")),
            ("tau", ("mari",), (0, -0.1, "1", float("nan"), float("inf"))),
            ("alpha", ("croma", "kbet", "kbet_per_label"), (0, -0.1, "1", 1.0, float("nan"))),
            ("max_k", ("mari", "de_jong_ratio"), (0, "9")),
            ("design", ("mari", "croma"), ("pairs", None)),
            ("metric", DISTANCES, ("manhattan", None)),
            ("max_rows", ("bras", "clustering_score"), (0, "9")),
            ("most_levels", ("isolated_labels",), (0, "1")),
            ("exclude_groups", ("ilisi", "kbet", "graph_connectivity", "bras"), ("no", None, 2)),
            ("balanced", ("clustering_score",), ("no",)),
            ("runs", ("clustering_score",), (1, "3")),
            ("cap", ("clustering_score",), (1, 2.5)),
            ("fraction", ("reference_index",), (0, 2, "1", True, float("nan"))),
            ("draws", ("reference_index",), (0, 1.5, "1")),
            ("min_groups", ("reference_index", "clustering_score"), (1, 2.5, "3")),
            ("kinds", ("silhouette_pass",), ([], "label", ["labels"])),
            ("within", FAMILIES, (3, None)),
            ("random_state", FAMILIES, (-1,)),
        )
        for name in names
        for value in values
    },
    **{f"{name} of no column": (metric(name, confounder="sit"), "'sit'", "Did you mean 'site'?") for name in FAMILIES},
    **{f"{name} of the biology": (metric(name, confounder="tumour"), "confounder='tumour'") for name in FAMILIES},
    **{f"{name} of a list": (metric(name, confounder=["site"]), "confounder must be a str") for name in FAMILIES},
    **{f"{name} within no column": (metric(name, within="sit"), "'sit'", "'site'?") for name in FAMILIES},
    **{f"{name} within itself": (metric(name, within="site"), "within names ['site']") for name in FAMILIES},
    **{f"{name}: k 70": (metric(name, k=70), "k=70", "up to 69") for name in (*LISTED, *GRAPHS)},
    "croma: m 70": (metric("croma", m=70), "m=70", "smaller m"),
    **{
        f"{name} of {what}": (metric(name, neighbours=search, **({} if name == "croma" else {"k": 10})), *said)
        for name in (*LISTED, *GRAPHS, "croma")
        for what, search, said in (
            ("no search", 3, ("neighbours must be a Neighbours", "knn(")),
            ("a search of fewer rows", {"X": cohort().X[:60], "exclude": None}, ("60 rows", "has 72 rows")),
            ("a search with the own patient", {"exclude": None}, ("own patient", "exclude=")),
            ("a search without the own site", {"exclude": "site"}, ("lack rows of other patient", "knn(")),
            ("a search of another encoder", {"X": cohort().X[:, ::-1] ** 3}, ("other embeddings", "knn(")),
        )
    },
    **{
        f"{name} of shorter lists": (metric(name, neighbours={"k": 5}, k=10), "k=5", "needs k=10")
        for name in (*LISTED, *GRAPHS)
    },
    **{
        f"{name} of repeated queries": (
            metric(name, neighbours={"queries": np.arange(N) // 2}, **({} if name == "croma" else {"k": 10})),
            "twice",
            "queries=",
        )
        for name in (*LISTED, *GRAPHS, "croma")
    },
    **{
        f"{name} of some queries": (metric(name, neighbours={"queries": 30}, k=10), "30 of 72", "queries=")
        for name in GRAPHS
    },
    **{f"{name} of no pass": (metric(name, passed=3), "passed", "silhouette_pass") for name in DISTANCES},
}


def effect(**options):
    return lambda t: cfm.effect(cohort(), graph(), **{"treatment": "site", **options})


def file(name, content, table="t.csv"):
    """Read embeddings from a file with these bytes, or a table from it beside good embeddings."""

    def call(t):
        (t.folder / name).write_bytes(content() if callable(content) else content)
        if not name.startswith("t."):
            return cfm.read(t.folder / name, obs=pd.DataFrame(index=range(N)))
        np.savez(t.folder / "z.npz", X=matrix())
        return cfm.read(t.folder / "z.npz", obs=t.folder / name)

    return call


def h5(cut):
    def content():
        with TemporaryDirectory() as folder:
            path = Path(folder) / "z.h5ad"
            cfm.write(cohort(), path)
            return path.read_bytes()[:cut]

    return content


def policy(text):
    def call(t):
        (t.folder / "p.yaml").write_text(text)
        return load_policy(t.folder / "p.yaml")

    return call


CASES = {
    # --- arguments
    "a question about nothing": (invariance(of="sit"), "'sit'", "Did you mean 'site'?"),
    "a question about a number": (invariance(of=3), "3", "column name"),
    "unknown effect kind": (invariance(effect="partial"), "effect='partial'", "'direct'"),
    "own set that is not valid": (invariance(given=["age"]), "['age']", "{tumour}"),
    "unknown method": (invariance(method="anova"), "method='anova'", "'mean'"),
    **{
        f"margin {v}": (invariance(margin=v), f"margin={v!r}", "above 0")
        for v in (-1, 0, float("nan"), float("inf"), "1")
    },
    **{
        f"{v} permutations": (invariance(n_permutations=v), f"n_permutations={v!r}", "whole number")
        for v in (0, -5, 2.5, "9")
    },
    **{
        f"seed {v}": (invariance(random_state=v), f"random_state={v!r}", "whole number")
        for v in (-1, 1.5, None, 2**40, True)
    },
    "seed of an audit": (lambda t: cfm.audit(cohort(), graph(), random_state=-1), "random_state=-1"),
    "seed of an index": (index(random_state=0.5), "random_state=0.5"),
    "minimum 2": (effect(minimum=2), "minimum=2", "at least 3"),
    "minimum NaN": (effect(minimum=float("nan")), "minimum=nan", "whole number"),
    "unknown estimator": (effect(estimator="ipw"), "estimator='ipw'", "standardisation"),
    "unknown outcome": (effect(outcome="agee"), "outcome='agee'", "outcome='Z'"),
    "unknown reference": (effect(reference="C"), "reference='C'", "A, B"),
    **{f"k {v}": (index(k=v), f"k={v!r}", "positive whole number") for v in (0, -1, 2.5, "all", True)},
    "k too large": (index(k=70), "k=70", "up to 69"),
    "max_k half": (index(max_k=2.5), "max_k=2.5", "whole number"),
    "patients as confounder": (index(confounder="patient"), "confounder='patient'", "'site'"),
    "no search": (index(neighbours=3), "neighbours", "Neighbours", "knn("),
    **{f"knn k {v}": (lambda t, v=v: cfm.knn(matrix(), v), f"k={v!r}", "whole number") for v in (0, 2.5, None)},
    "knn reserve": (lambda t: cfm.knn(matrix(), 3, reserve=-1), "reserve=-1"),
    "knn k too large": (lambda t: cfm.knn(matrix(), 72), "k=72", "up to 71"),
    "knn of a list": (lambda t: cfm.knn(matrix().tolist(), 3), "list", "np.asarray"),
    "unknown probe": (lambda t: readout(cohort(), graph(), probe="svm"), "probe='svm'", "logistic"),
    "read-out beyond a typo": (lambda t: readout(cohort(), graph(), beyond="tumor"), "'tumor'", "'tumour'?"),
    "read-out in half folds": (lambda t: readout(cohort(), graph(), n_splits=2.5), "n_splits=2.5", "whole number"),
    "read-out of no rows": (lambda t: readout(cohort(), graph(), max_rows=0), "max_rows=0", "at least 1"),
    "read-out with a broken seed": (lambda t: readout(cohort(), graph(), random_state=-1), "random_state=-1", "whole"),
    "read-out of no cohort": (lambda t: readout(matrix(), graph()), "cohort", "causalfm.read"),
    "read-out beyond nothing": (lambda t: readout(cohort(), graph(), beyond=[]), "no column", "give"),
    "unknown level": (
        lambda t: select_levels(cohort(), {"site": ["a"]}, public=["site"]),
        "'site'",
        "'a'",
        "Did you mean 'A'?",
    ),
    "unknown patient": (
        lambda t: select_levels(cohort(), {"patient": [f"{SENTINEL}-x"]}, public=["site"]),
        "'patient'",
        "1 of",
    ),
    "nothing selected": (
        lambda t: select_levels(cohort(lab=table()["site"].map({"A": "b", "B": "a"})), {"site": "A", "lab": "a"}),
        "no row",
        "site, lab",
    ),
    "policy entry": (policy("version: 1\nname: p\nalfa: 2\n"), "p.yaml", "line 3", "alfa", "Did you mean 'alpha'?"),
    "policy margin": (policy("version: 1\nname: p\neffect_ratio: -1\n"), "p.yaml", "effect_ratio", "-1"),
    "policy NaN": (policy("version: 1\nname: p\neffect_ratio: .nan\n"), "p.yaml", "effect_ratio", "nan"),
    "policy as a path": (lambda t: cfm.audit(cohort(), graph(), policy="p.yaml"), "policy", "load_policy"),
    **METRICS,
    # --- files
    "no file": (lambda t: cfm.read(t.folder / "z.npz"), "z.npz", "check the path"),
    "empty file": (file("z.h5ad", b""), "z.h5ad", "empty"),
    "truncated h5": (file("z.h5ad", h5(3000)), "z.h5ad", "again"),
    "h5 by name only": (file("z.h5ad", b"not hdf5 at all" * 99), "z.h5ad", "again"),
    "unknown ending": (file("z.pkl", b"x"), ".pkl", ".npz"),
    "mixed encodings": (file("t.csv", b"patient,site\n" + f"{SENTINEL},".encode() + b"M\xfcnchen\n"), "t.csv", "UTF-8"),
    "header only": (file("t.csv", b"patient,site\n"), "72 rows", "obs has 0"),
    "no header": (file("t.csv", f"{SENTINEL},1\n".encode() * N), "72 rows", "obs has 71", "header line"),
    "a spreadsheet": (file("t.xlsx", b"PK"), "'t.xlsx'", "CSV UTF-8", "read_excel"),
    "too many fields": (file("t.csv", b"patient\n" + f"{SENTINEL},1\n".encode() * N), "t.csv", "header"),
    "truncated gzip": (file("t.csv.gz", gzip.compress(table().to_csv().encode())[:99]), "t.csv.gz", "again"),
}


def downstream(**options):
    return lambda t: metrics.performance_drop(cohort(), graph(), **options)


def schedule(**options):
    return lambda t: metrics.confounded_schedule(cohort(), graph(), **options)


def scanned_twice():
    """Every tissue seen at both sites."""
    rows = np.arange(N)
    columns = {"site": np.array(["A", "B"])[rows % 2], "tile": [f"{SENTINEL}-{row // 2}" for row in rows]}
    columns |= {"patient": [f"{SENTINEL}-{row // 4}" for row in rows], "tumour": np.array(["x", "y"])[rows // 4 % 2]}
    return cohort(**columns)


def paired(measure, **options):
    return lambda t: measure(scanned_twice(), graph(specimen="tile"), **options)


def judged(change=None, **options):
    codes = np.arange(6) % 2
    parts = {"probabilities": np.full((6, 2), 0.5), "y": codes, "by": codes, "groups": np.arange(6)} | (change or {})
    return lambda t: metrics.calibration_by_level(*parts.values(), **{"minimum": 2, **options})


def other_rows(t):
    plan = metrics.confounded_schedule(cohort(), graph())
    return metrics.performance_drop(cohort()[np.arange(N)[::-1]], graph(), schedule=plan)


CASES |= {
    # --- metrics
    **{
        f"schedule with {name} {value}": (schedule(**{name: value}), f"{name}={value!r}", "whole number")
        for name in ("groups_per_class", "steps", "rows_per_group", "validation", "test", "max_rows")
        for value in (0, 2.5, "3", True)
    },
    "schedule of a million steps": (schedule(steps=10**6), "steps=1000000", "fewer steps"),
    "schedule of a number of classes": (schedule(classes=3), "classes=3", "at least two different"),
    "schedule of one level": (schedule(levels=["A", "A"]), "levels=", "at least two different"),
    "schedule of patients": (schedule(confounder="patient"), "confounder='patient'", "'site'"),
    **{
        f"drop with strengths {value}": (downstream(strengths=value), f"strengths={value!r}", "ascending")
        for value in ((), (0,), (-1, 1), ("a",), (float("nan"),), (1, 0.1), 3.0, "12")
    },
    "drop of no schedule": (downstream(schedule=3), "schedule must be a Schedule", "confounded_schedule"),
    "drop along another's rows": (other_rows, "other rows", "confounded_schedule"),
    "drop of two deals": (downstream(repeats=2), "repeats=2", "at least 3"),
    "gap between patients": (
        lambda t: metrics.transfer_gap(cohort(), graph(), confounder="patient"),
        "confounder='patient'",
        "'site'",
    ),
    "gap between classes": (
        lambda t: metrics.transfer_gap(cohort(), graph(), confounder="tumour"),
        "confounder='tumour'",
        "'site'",
    ),
    "gap of neighbours": (lambda t: metrics.transfer_gap(cohort(), graph(), probe="knn"), "probe='knn'", "choose"),
    "calibration by patient": (
        lambda t: metrics.probe_calibration(cohort(), graph(), by="patient"),
        "by='patient'",
        "'site'",
    ),
    "calibration of no prediction": (
        lambda t: metrics.probe_calibration(cohort(), graph(), prediction=3),
        "prediction must be a Prediction",
        "predict",
    ),
    "read-out within by no search": (
        lambda t: metrics.readout_within(cohort(), graph(), neighbours=3),
        "neighbours must be",
        "knn(",
    ),
    "collapse with too many votes": (lambda t: metrics.feature_collapse(cohort(), graph(), k=72), "k=72", "up to 71"),
    "collapse within patients": (
        lambda t: metrics.feature_collapse(cohort(), graph(), confounder="patient"),
        "confounder='patient'",
        "'site'",
    ),
    "clusters of no table": (
        lambda t: metrics.clustering_score(cohort(), graph(), max_tables=0),
        "max_tables=0",
        "at least 1",
    ),
    **{
        f"{measure.__name__} {name}": (case, *parts)
        for measure in (metrics.paired_similarity, metrics.paired_retrieval)
        for name, case, *parts in (
            ("without tissue", lambda t, f=measure: f(cohort(), graph()), "no specimen", "specimen=..."),
            ("of patients", paired(measure, confounder="patient"), "'patient'", "'site'"),
        )
    },
    "retrieval of nothing": (paired(metrics.paired_retrieval, k=0), "k=0", "at least 1"),
    "retrieval of more than there is": (paired(metrics.paired_retrieval, k=72), "k=72", "at most 36"),
    "retrieval of one tissue": (paired(metrics.paired_retrieval, max_specimens=1), "max_specimens=1", "at least 2"),
    "drop of text": (lambda t: metrics.apd([["a", "b"], ["c", "d"]]), "accuracies", "pass numbers"),
    "degradation along text": (lambda t: metrics.nipd(np.full((2, 3), 0.8), "x", 0.5), "cramers_v", "pass numbers"),
    "degradation to no chance": (lambda t: metrics.nipd(np.full((2, 3), 0.8), [0, 1], "a"), "chance", "pass numbers"),
    "calibration of one column": (judged({"probabilities": np.full(6, 0.5)}), "shape (6,)", "must be numbers"),
    "calibration of nothing": (judged({"probabilities": np.zeros((0, 2))}), "shape (0, 2)", "must be numbers"),
    "calibration of names": (judged({"y": np.array(["x", "y"] * 3)}), "class codes", "cohort.factor(name).codes"),
    "calibration of groups below 0": (judged({"groups": np.arange(6) - 1}), "group codes", "from 0"),
    "calibration of few units": (judged(minimum=1), "minimum=1", "at least 2"),
    "calibration with a broken seed": (judged(random_state=-1), "random_state=-1", "whole number"),
    "comparison about nothing": (
        lambda t: cfm.compare({"a": cohort(), "b": cohort()}, graph(), confounder=[]),
        "confounder names no column",
        "give",
    ),
    "comparison by a number": (
        lambda t: cfm.compare({"a": cohort(), "b": cohort()}, graph(), metrics=3),
        "no measure 3",
        "choose from",
    ),
}
