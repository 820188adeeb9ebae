"""The penalty that a graph implies, heads trained with it, and the monitor."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, GraphError, MissingDependencyError
from causalfm.scm.scores import scorer_of
from causalfm.training import RobustHead, RobustnessMonitor, lightning_callback, penalty_for, train_head
from causalfm.training.robust_head import NAMES

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")


def graph(arrows, **more):
    return cfm.CausalGraph(arrows, biology="y", technical="site", group="patient", **more)


def confounded(seed, confounding, n_groups=160, site_effect=3.0, biology_effect=1.0):
    cohort, _ = linear_scm(
        n_groups=n_groups,
        rows_per_group=2,
        d=8,
        n_sites=2,
        site_effect=site_effect,
        biology_effect=biology_effect,
        confounding=confounding,
        random_state=seed,
    )
    return cohort


def worst_site(head, cohort):
    right = head.predict(cohort.X) == cohort.obs["tumour"].to_numpy()
    cells = cohort.obs.assign(right=right).groupby(["site", "tumour"])["right"].mean()
    return float(cells.groupby("site").mean().min())


@pytest.mark.parametrize(
    ("arrows", "selected", "form", "given", "words"),
    [
        ("y -> Z; site -> Z; site <-> y", None, "conditional", ("y",), "anti-causal"),
        ("Z <-> y; site -> Z; site <-> y", None, "marginal", (), "confounded"),
        ("Z <-> y; site -> Z; y -> S; site -> S", "S", "conditional", ("y",), "selected"),
        ("y -> Z; site -> Z", None, "conditional", ("y",), "not associated"),
    ],
)
def test_the_form_follows_from_the_graph(arrows, selected, form, given, words):
    found = penalty_for(graph(arrows, selected=selected))
    assert (found.form, found.penalty.__name__) == (form, "mmd" if form == "marginal" else "conditional_mmd")
    assert found.given == given
    assert words in found.reason
    assert penalty_for(graph("y -> Z; site -> Z"), family="hsic").penalty.__name__ == "conditional_hsic"


def test_a_design_that_implies_neither_is_refused():
    with pytest.raises(GraphError, match="vrex"):
        penalty_for(graph("y -> Z; site -> Z; site <-> Z; site <-> y"))


def test_the_conditional_penalty_gains_at_the_worst_site():
    gains = []
    for seed in range(4):
        train, test = confounded(seed, 0.8), confounded(seed + 100, 0.0)
        plain, robust = (
            worst_site(train_head(train, GRAPH, penalty=p, strength=10.0, steps=150, batch=96), test)
            for p in ("erm", "auto")
        )
        gains.append(robust - plain)
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / 2 > 0  # two standard errors of four


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hidden", [0, 8])
def test_every_penalty_trains(name, hidden, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    cohort = confounded(0, 0.0, n_groups=60)  # marginal penalties would rightly lose the class that goes with the site
    state, before = torch.get_rng_state(), cohort.X.copy()
    settings = {"penalty": name, "hidden": hidden, "steps": 24, "batch": 50}
    head = train_head(cohort, GRAPH, **settings)
    again = train_head(cohort, GRAPH, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert not seeded  # nor do GPUs start their random numbers anew
    assert np.array_equal(cohort.X, before)
    assert np.array_equal(head.predict_proba(cohort.X), again.predict_proba(cohort.X))
    assert np.allclose(head.predict_proba(cohort.X).sum(axis=1), 1.0)
    assert head.score(cohort.X, cohort.obs["tumour"]) > 0.6
    other = train_head(cohort, GRAPH, **settings, random_state=1)
    assert not np.array_equal(head.state_["bias"], other.state_["bias"])


def test_without_a_penalty_it_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    cohort = confounded(0, 0.0)
    X = (cohort.X - cohort.X.mean(axis=0)) / cohort.X.std(axis=0)
    y = cohort.obs["tumour"].to_numpy()
    head = RobustHead(steps=800, rate=0.05).fit(X, y)
    # two rows of weights w and -w cost decay |w|^2; the difference v = 2 w costs decay |v|^2 / 4 = |v|^2 / (2 n C)
    truth = LogisticRegression(C=2.0 / (0.01 * len(X)), tol=1e-10).fit(X, y)
    assert np.abs(head.predict_proba(X) - truth.predict_proba(X)).max() < 2e-3


def test_patients_weigh_the_same():
    cohort = confounded(0, 0.0, n_groups=40)
    rows = np.repeat(np.arange(len(cohort)), np.where(cohort.obs["patient"] == "p3", 5, 1))
    y, env, groups = (cohort.obs[c].to_numpy() for c in ("tumour", "site", "patient"))
    a, b = (
        RobustHead("vrex", steps=50).fit(cohort.X[r], y[r], env=env[r], groups=groups[r])
        for r in (np.arange(len(cohort)), rows)
    )
    assert np.allclose(a.logits(cohort.X), b.logits(cohort.X), atol=1e-3)


@pytest.fixture(scope="module")
def trained():
    """A cohort, and a head with a hidden layer trained on it."""
    cohort = confounded(0, 0.5)
    return cohort, train_head(cohort, GRAPH, hidden=4, steps=20)


def test_a_head_is_saved_and_read(tmp_path, trained):
    cohort, head = trained
    head.save(tmp_path / "head.safetensors")
    back = RobustHead.load(tmp_path / "head.safetensors")
    assert np.array_equal(back.predict(cohort.X), head.predict(cohort.X))
    assert np.array_equal(back(cohort.X), head.predict_proba(cohort.X))
    assert back.get_params() == head.get_params()
    assert (back.reason_, back.record_, back.classes) == (head.reason_, head.record_, head.classes)
    assert "conditional_mmd" in back.reason_
    assert back.record_["levels"] == list(back.classes) == ["class0", "class1"]
    assert back.record_["of"] == {"site": ["site0", "site1"]}
    assert back.record_["fingerprint"] == cohort.fingerprint(GRAPH.columns)
    assert (back.record_["n"], back.record_["n_groups"]) == (320, 160)
    text = (tmp_path / "head.safetensors").read_bytes()
    assert not [p for p in cohort.obs["patient"].unique() if f'"{p}"'.encode() in text]
    with pytest.raises(DataError, match="RobustHead"):
        cfm.EmbeddingSCM.load(tmp_path / "head.safetensors")


def test_damaged_edited_and_newer_files_are_refused(tmp_path, trained, monkeypatch):
    _, head = trained
    path, bad = tmp_path / "head.safetensors", tmp_path / "bad.safetensors"
    head.save(path)
    content = path.read_bytes()
    for what, message in (
        (content[:-9], "damaged"),
        (content[: len(content) // 2], "damaged"),
        (b"", "empty"),
        (content.replace(b"hidden", b"hiddem"), "changed after"),
    ):
        bad.write_bytes(what)
        with pytest.raises(DataError, match=message):
            RobustHead.load(bad)
    flipped = bytearray(content)
    flipped[-1] ^= 1
    bad.write_bytes(flipped)
    with pytest.raises(DataError, match="checksum"):
        RobustHead.load(bad)
    with pytest.raises(DataError, match="no file"):
        RobustHead.load(tmp_path / "absent.safetensors")
    monkeypatch.setattr("causalfm.model_files.SCHEMA", 2)
    head.save(bad)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"schema 2.*newer causalfm"):
        RobustHead.load(bad)
    monkeypatch.setattr(RobustHead, "get_params", lambda self: {"penalty": "erm", "warmth": 1.0})
    head.save(bad)
    monkeypatch.undo()
    with pytest.raises(DataError, match="version that wrote it"):
        RobustHead.load(bad)


ALONE = """
import sys

for name in ("pandas", "scipy", "sklearn", "networkx", "anndata", "pyarrow", "matplotlib"):
    sys.modules[name] = None
import numpy as np
from causalfm.training import RobustHead
head = RobustHead.load(sys.argv[1])
print(head.classes, head(np.zeros((3, 8), dtype=np.float16)).shape)
"""


def test_a_file_is_read_without_pandas(tmp_path, trained):
    trained[1].save(tmp_path / "head.safetensors")
    command = [sys.executable, "-c", ALONE, str(tmp_path / "head.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "('class0', 'class1') (3, 2)", done.stderr


def test_a_head_is_a_model_for_the_rest_of_the_library(trained):
    cohort, head = trained
    scorer = scorer_of(head, cohort.X, decisions=True)
    assert scorer.classes == head.classes
    assert np.array_equal(head(cohort.X), head.predict_proba(cohort.X))
    scm = cfm.EmbeddingSCM(GRAPH).fit(cohort)
    found = cfm.scm.flips(scm, cohort, head, of="site").to_frame()
    assert {"shift:class0", "shift:class1"} <= set(found.columns)
    assert (found["flips_per_1000"] > 0).all()


def test_sklearn_takes_it_for_a_classifier(trained):
    from sklearn.base import clone, is_classifier
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    cohort, head = trained
    y = cohort.obs["tumour"].to_numpy()
    assert is_classifier(head)
    copy = clone(head)
    assert copy.get_params() == head.get_params()
    with pytest.raises(DataError, match="not fitted"):
        _ = copy.classes
    calibrated = CalibratedClassifierCV(FrozenEstimator(head)).fit(cohort.X, y)
    assert calibrated.score(cohort.X, y) > 0.6


def test_classes_keep_their_kind(tmp_path):
    cohort = confounded(0, 0.5, n_groups=20)
    code = cohort.factor("tumour").codes
    for y in (code, code == 1, code + 0.5, code.astype(str), code.astype(object)):
        head = RobustHead(steps=3).fit(cohort.X.astype(np.float16), y)
        head.save(tmp_path / "head.safetensors")
        back = RobustHead.load(tmp_path / "head.safetensors")
        assert back.classes_.dtype.kind == head.classes_.dtype.kind
        assert back.classes_.tolist() == sorted(set(y.tolist()))
        assert back.score(cohort.X, y) == head.score(cohort.X, y) > 0  # 1 and "1" are no equals
        assert back.predict(cohort.X).dtype == back.classes_.dtype
    with pytest.raises(DataError, match="y has type datetime64"):
        RobustHead().fit(cohort.X, code.astype("datetime64[D]"))


def test_bad_calls_are_refused():
    cohort = confounded(0, 0.5, n_groups=20)
    with pytest.raises(DataError, match="penalty='irn'"):
        train_head(cohort, GRAPH, penalty="irn")
    with pytest.raises(DataError, match="no setting 'strenght'"):
        train_head(cohort, GRAPH, strenght=2.0)
    with pytest.raises(DataError, match="env holds 1"):
        RobustHead(penalty="vrex").fit(cohort.X, cohort.obs["tumour"].to_numpy())
    with pytest.raises(DataError, match="not fitted"):
        RobustHead().predict(cohort.X)
    X = cohort.X.copy()
    X[3, 0] = np.nan
    with pytest.raises(DataError, match="not finite in 1 rows"):
        RobustHead().fit(X, cohort.obs["tumour"].to_numpy())
    y = cohort.obs["tumour"].to_numpy()
    for settings, words in (
        ({"decay": -1.0}, "decay=-1.0"),
        ({"device": "gpu"}, "device='gpu': torch has no such device"),
        ({"device": "cuda:99"}, "device='cuda:99': torch has no such device"),
        ({"penalty": "eqrm", "strength": 9.0}, "beyond every environment"),
        ({"steps": 0}, "steps"),
        ({"random_state": -1}, "random_state"),
    ):
        with pytest.raises(DataError, match=words):
            RobustHead(**settings).fit(cohort.X, y, env=y)
    with pytest.raises(DataError, match="7"):
        train_head(cohort, GRAPH, steps=5).predict(cohort.X[:, :7])


def test_the_monitor_agrees_with_the_index():
    cohort = confounded(0, 0.5)
    y, env, groups = (cohort.factor(c).codes for c in ("tumour", "site", "patient"))
    monitor = RobustnessMonitor(y, env, groups, k=7)
    logits = np.eye(2)[y]
    logits[env == 1] = logits[env == 1][:, ::-1]  # all wrong at the second site
    found = monitor(3, torch.tensor(cohort.X), torch.tensor(logits))
    truth = cfm.metrics.robustness_index(cohort, GRAPH, k=7, within=(), standardised=False)
    assert found.robustness_index == pytest.approx(truth.value, abs=1e-12)
    assert (found.accuracy, found.worst_site_accuracy, found.worst_site, found.epoch) == (0.5, 0.0, 1, 3)
    assert found.site_chance == 0.5
    assert found.site_readout > 0.9  # sites are far apart
    blind = monitor(4, np.random.default_rng(0).standard_normal((len(cohort), 8)))
    assert abs(blind.site_readout - 0.5) < 0.1
    assert np.isnan([blind.accuracy, blind.worst_site_accuracy, blind.worst_site]).all()  # no site is named the worst
    assert [h.epoch for h in monitor.history] == [3, 4]
    with pytest.raises(DataError, match="in the order of y"):
        monitor(5, cohort.X[:5])
    with pytest.raises(DataError, match="one column per class"):
        monitor(5, cohort.X, logits[:, :1])
    logits[3] = np.nan
    with pytest.raises(DataError, match="not finite in 1 rows"):
        monitor(5, cohort.X, logits)


def test_the_monitor_lets_patients_weigh_the_same():
    # site 0: patient 0 brings three rows, all right; patient 1 one row, wrong. Site 1: all right. Class 0 but the last
    y, env, groups = (np.array(v) for v in ([0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 2, 3, 4]))
    logits = np.eye(2)[[0, 0, 0, 1, 0, 0, 1]]
    found = RobustnessMonitor(y, env, groups, k=2)(0, np.random.default_rng(0).standard_normal((7, 4)), logits)
    assert (found.worst_site_accuracy, found.worst_site, found.accuracy) == (0.5, 0, 0.75)


def test_lightning_is_optional(monkeypatch):
    cohort = confounded(0, 0.5, n_groups=40)
    monitor = RobustnessMonitor(*(cohort.factor(c).codes for c in ("tumour", "site", "patient")))
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="lightning"):
        lightning_callback(monitor, lambda m: (m, m))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_callback_logs_in_real_training(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning, of the dev extra, is not installed")
    cohort = confounded(0, 0.5, n_groups=40)
    y, env, groups = (cohort.factor(c).codes for c in ("tumour", "site", "patient"))
    monitor, X = RobustnessMonitor(y, env, groups), torch.tensor(cohort.X).float()
    seen = []

    class Head(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 2)

        def training_step(self, rows):
            assert self.training
            return torch.nn.functional.cross_entropy(self.layer(rows[0]), rows[1])

        def validation_step(self, rows):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def embed(module):
        seen.append((module.training, torch.is_grad_enabled()))
        return X, module.layer(X)

    rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, torch.tensor(y)), batch_size=20)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[lightning_callback(monitor, embed)],
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **quiet,
    )
    trainer.fit((module := Head()), rows, rows)
    assert [h.epoch for h in monitor.history] == [0, 1]  # the sanity check before the first is left out
    assert seen == [(False, False)] * 2
    last = monitor.history[-1]
    for name in ("robustness_index", "site_readout", "worst_site_accuracy", "accuracy"):
        assert float(trainer.callback_metrics[name]) == pytest.approx(getattr(last, name), abs=1e-6)
    with torch.no_grad():
        truth = RobustnessMonitor(y, env, groups)(1, X, module.layer(X))
    assert truth == last


def test_columns_of_large_numbers_do_not_silence_the_others():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 3)), np.repeat([0, 1], 40)
    x[:, 0] += 4 * y
    wide = np.column_stack([x, 1e9 * rng.standard_normal(80), np.full(80, 1234.567)]).astype(np.float32)
    head = RobustHead(steps=60).fit(wide, y)
    assert np.isfinite(head.state_["scale"]).tolist() == [True] * 4 + [False]
    assert head.score(wide, y) > 0.9  # all columns below a millionth of the largest spread were dropped: 0.5
    with pytest.raises(DataError, match="1 columns too large to be squared \\(column 3\\)"):
        RobustHead(steps=3).fit(wide.astype(float) * [1, 1, 1, 1e200, 1], y)


def test_settings_of_a_search_are_saved(tmp_path):
    x, y = np.random.default_rng(0).standard_normal((20, 3)), np.repeat([0, 1], 10)
    head = RobustHead(steps=np.int64(3), hidden=np.int64(2), strength=np.float32(0.5)).fit(x, y)
    head.save(tmp_path / "head.safetensors")
    assert RobustHead.load(tmp_path / "head.safetensors").get_params() == head.get_params()


@pytest.mark.parametrize("wrong", ["gone", "shape", "classes", "nan"])
def test_arrays_that_do_not_fit_the_settings_are_refused(tmp_path, wrong):
    from causalfm.model_files import read_model, write_model
    from causalfm.training.robust_head import KIND

    path = tmp_path / "head.safetensors"
    RobustHead(steps=3).fit(np.random.default_rng(0).standard_normal((20, 3)), np.repeat([0, 1], 10)).save(path)
    header, arrays = read_model(path, KIND)
    if wrong == "gone":
        del arrays["weight"]
    elif wrong == "shape":
        arrays["weight"] = arrays["weight"][:, :2]
    elif wrong == "classes":
        header["classes"] = [0, 1, 2]
    else:
        arrays["bias"] = arrays["bias"] * np.nan
    write_model(path, header, arrays, KIND)
    with pytest.raises(DataError, match="arrays that do not fit"):
        RobustHead.load(path)


def test_labels_that_cannot_be_coded_are_refused():
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).standard_normal((4, 2))
    with pytest.raises(DataError, match="missing in 1 rows \\(row 1\\)"):
        RobustHead(steps=3).fit(x, pandas.array(["a", pandas.NA, "b", "a"], dtype="string"))
    with pytest.raises(DataError, match="y holds int, str: pass texts, numbers or truth values, all of one type"):
        RobustHead(steps=3).fit(x, np.array(["a", 1, "b", "a"], dtype=object))
    with pytest.raises(DataError, match="rows of several lengths"):
        RobustHead(steps=3).fit([[1.0], [1.0, 2.0]], np.array([0, 1]))
