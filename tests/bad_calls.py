"""Arguments and files that cannot be used: calls that must raise, and what their messages must hold."""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from bad_data import SENTINEL, N, cohort, graph, matrix, table

import causalfm as cfm
from causalfm.auditing import load_policy
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.metrics.probes import readout
from causalfm.selection import select_levels


def invariance(**options):
    return lambda t: cfm.invariance_test(cohort(), graph(), **{"of": "site", **options})


def index(**options):
    return lambda t: robustness_index(cohort(), graph(), **options)


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
    "unknown outcome": (effect(outcome="age"), "outcome='age'", "outcome='Z'"),
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
    "policy entry": (policy("version: 1\nname: p\nalpha: 2\n"), "p.yaml", "alpha", "effect_ratio"),
    "policy margin": (policy("version: 1\nname: p\neffect_ratio: -1\n"), "p.yaml", "effect_ratio", "-1"),
    "policy NaN": (policy("version: 1\nname: p\neffect_ratio: .nan\n"), "p.yaml", "effect_ratio", "nan"),
    "policy as a path": (lambda t: cfm.audit(cohort(), graph(), policy="p.yaml"), "policy", "load_policy"),
    # --- files
    "no file": (lambda t: cfm.read(t.folder / "z.npz"), "z.npz", "check the path"),
    "empty file": (file("z.h5ad", b""), "z.h5ad", "empty"),
    "truncated h5": (file("z.h5ad", h5(3000)), "z.h5ad", "again"),
    "h5 by name only": (file("z.h5ad", b"not hdf5 at all" * 99), "z.h5ad", "again"),
    "unknown ending": (file("z.pkl", b"x"), ".pkl", ".npz"),
    "mixed encodings": (file("t.csv", b"patient,site\n" + f"{SENTINEL},".encode() + b"M\xfcnchen\n"), "t.csv", "UTF-8"),
    "header only": (file("t.csv", b"patient,site\n"), "72 rows", "obs has 0"),
    "too many fields": (file("t.csv", b"patient\n" + f"{SENTINEL},1\n".encode() * N), "t.csv", "header"),
    "truncated gzip": (file("t.csv.gz", gzip.compress(table().to_csv().encode())[:99]), "t.csv.gz", "again"),
}
