"""Figures of the paper on real data, and on a shortcut: they run, and every claim is derived again in another way."""

import copy
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_files import check_files, check_text
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.datasets import amibr, tcga_hipt
from experiments.balanced_augmentation.hospitals import draw_split, load_pool
from experiments.encoder_comparison import SUBSETS
from experiments.figures import (
    encoder_comparison,
    hospital_against_cancer,
    shift_across_hospitals,
    shortcut,
    shortcut_at_real_hospitals,
)
from experiments.figures.command import SKIPPED, main
from experiments.figures.paper import PaperFigure, records
from experiments.figures.style import paper_style

REAL = (hospital_against_cancer, encoder_comparison, shift_across_hospitals, shortcut_at_real_hospitals)
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Run the fast version of a figure, once: exit code, folder, numbers."""
    folder, kept = tmp_path_factory.mktemp("figures"), {}

    def make(module):
        figure = PaperFigure.of(module)
        if figure.name not in kept:
            code = main([figure], ["--fast", "--out", str(folder)])
            kept[figure.name] = code, folder / figure.name, check_files(folder / figure.name)
        return kept[figure.name]

    return make


@pytest.mark.parametrize("module", REAL)
def test_a_fast_run_holds_and_holds_no_patient(module, made, data_dir):
    code, folder, found = made(module)
    assert code == 0
    assert (found["data"], found["fast"], found["holds"]) == ("real", True, True)
    assert len(found["checks"]) >= 4
    text = "".join((folder / name).read_text("utf-8") for name in ("result.json", "table.csv", "figure.svg"))
    assert not re.search(r"TCGA-\w\w-\w{4}", text)
    patients = amibr.load(data_dir, "color").obs["file"]
    assert not any(name in text for name in patients[:200])
    with paper_style():
        check_text(module.draw(found["numbers"]))


@pytest.mark.parametrize("module", REAL)
def test_without_the_data_nothing_is_drawn(module, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CAUSALFM_DATA", raising=False)
    call = [PaperFigure.of(module)], ["--fast", "--out", str(tmp_path / "out")]
    assert main(*call) == SKIPPED
    assert "skipped, nothing written: real data not found: set CAUSALFM_DATA" in capsys.readouterr().out
    monkeypatch.setenv("CAUSALFM_DATA", str(tmp_path))
    assert main(*call) == SKIPPED
    assert re.search(r"real data not found: \w+\.(csv\.gz|npz)", capsys.readouterr().out)
    assert not (tmp_path / "out").exists()


def test_without_the_encoder_nothing_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    assert main([PaperFigure.of(shortcut)], ["--fast", "--out", str(tmp_path / "out")]) == SKIPPED
    assert "causalfm[demo]" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


# --- what hospital and cancer cause -----------------------------------------------------------------------------------


def test_cell_means_give_the_shares(made, data_dir):
    """Means of patients per hospital and cancer, averaged over the other factor as it is found; nothing debiased."""
    found = made(hospital_against_cancer)[2]["numbers"]
    shares = pd.DataFrame(found["shares"]).set_index(["set", "of"])
    page = (DOCS / "tcga_effects.md").read_text("utf-8")
    for name, (cancers, _) in SUBSETS.items():
        cohort = tcga_hipt.load(data_dir, cancers=cancers, hospitals=found["levels"][name])
        keys = [np.asarray(cohort.obs[c], dtype=object) for c in ("case", "center", "project_id")]
        patients = pd.DataFrame(cohort.X.astype(float)).groupby(keys).mean()
        center, cancer = (pd.factorize(patients.index.get_level_values(i))[0] for i in (1, 2))
        X, counts = patients.to_numpy(), np.histogram2d(center, cancer, bins=(center.max() + 1, cancer.max() + 1))[0]
        cells = np.array(
            [
                [X[(center == i) & (cancer == j)].mean(axis=0) for j in range(counts.shape[1])]
                for i in range(counts.shape[0])
            ]
        )
        weights = [counts.sum(axis=1 - axis) / counts.sum() for axis in (0, 1)]
        by_hand = {}
        for axis, of in enumerate(("hospital", "cancer type")):
            levels = np.tensordot(weights[1 - axis], cells, axes=(0, 1 - axis))  # E[Z | do(level)]
            spread = weights[axis] @ (levels - weights[axis] @ levels) ** 2
            by_hand[of] = spread.sum() / X.var(axis=0).sum()
            assert -0.001 < by_hand[of] - shares.loc[(name, of), "value"] < 0.012, (name, of)  # noise adds to it
        assert by_hand["hospital"] > 3 * by_hand["cancer type"]
        row = shares.loc[(name, "hospital")]
        assert "{:.1f} ({:.1f} to {:.1f})".format(*(100 * row[end] for end in ("value", "low", "high"))) in page


# --- losses predicted without labels ----------------------------------------------------------------------------------


def test_leaving_hospitals_out_gives_the_gain_over_the_guess(made, data_dir):
    _, folder, found = made(shift_across_hospitals)
    rows = pd.DataFrame(found["numbers"]["rows"])
    misses = rows.assign(miss=(rows["predicted"] - rows["accuracy"]).abs())
    misses = misses.pivot(index=["task", "hospital"], columns="estimator", values="miss")
    gains = (misses["site level"] - misses["chosen"]).reset_index("task", drop=True)
    without = np.array([gains[gains.index != name].mean() for name in gains.index.unique()])
    n = len(without)
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    table = pd.read_csv(folder / "table.csv").iloc[0]
    assert n == found["numbers"]["sizes"]["hospitals"]
    assert table["gain"] == pytest.approx(gains.mean(), abs=1e-5)
    assert gains.mean() - half > 0
    assert table["gain low"] == pytest.approx(gains.mean() - half, abs=2e-3)  # both to first order
    inside = [r["low"] <= r["accuracy"] <= r["high"] for r in found["numbers"]["rows"] if r["estimator"] == "chosen"]
    assert table["covered"] == sum(inside)
    told = rows[(rows["estimator"] == "chosen") & (rows["verdict"] != "cannot tell")]
    assert len(told) > 0
    assert (told["verdict"] == told["measured_verdict"]).all()
    assert found["numbers"]["anew"][0]["numbers"] == 7 * 6


# --- encoders under scanners ------------------------------------------------------------------------------------------


def indices_without_each_patient(cohort, k, reserve=60):
    """Robustness index by its definition: of all rows, and with each patient gone from queries and neighbours."""
    X = cohort.X / np.linalg.norm(cohort.X, axis=1, keepdims=True)
    y, scanner, patient = (np.unique(cohort.obs[c], return_inverse=True)[1] for c in ("label", "scanner", "patient"))
    nearness = X @ X.T
    nearness[patient[:, None] == patient] = -np.inf
    lists = np.argsort(-nearness, axis=1, kind="stable")[:, : k + reserve]
    same, own = y[lists] == y[:, None], scanner[lists] == scanner[:, None]
    good, bad = same & ~own, ~same & own

    def index(kept):
        used = kept[lists] & (np.cumsum(kept[lists], axis=1) <= k) & kept[:, None]
        return (good & used).sum() / ((good | bad) & used).sum()

    everyone = np.ones(len(patient), dtype=bool)
    return index(everyone), np.array([index(patient != p) for p in range(patient.max() + 1)])


def test_leaving_patients_out_tells_the_encoders_apart(made, data_dir):
    """Patients per scanner are fixed. The jackknife meets what pairs of patients add twice: its variance is bounded."""
    found = made(encoder_comparison)[2]["numbers"]
    cohorts = {name: amibr.load(data_dir, name) for name in amibr.ENCODERS}
    ours = {name: indices_without_each_patient(cohort, found["k"]) for name, cohort in cohorts.items()}
    scores = {row["encoder"]: row["value"] for row in found["scores"] if row["metric"] == "robustness_index"}
    for name, (value, _) in ours.items():
        assert scores[name] == pytest.approx(value, abs=1e-6), name
    obs = cohorts["color"].obs
    scanner = obs.groupby(np.unique(obs["patient"], return_inverse=True)[1])["scanner"].first().to_numpy()
    for a, b in encoder_comparison.PAIRS:
        value, without = ours[a][0] - ours[b][0], ours[a][1] - ours[b][1]
        parts = [without[scanner == name] for name in np.unique(scanner)]
        error = np.sqrt(sum((len(part) - 1) * part.var() for part in parts))
        half = stats.t.ppf(0.975, len(without) - len(parts)) * error
        one = encoder_comparison.difference(found, "robustness_index", a, b)
        assert one["difference"] == pytest.approx(value, abs=1e-6)
        assert 0.98 * np.sqrt(0.5) * half < (one["high"] - one["low"]) / 2 < 1.02 * half, (a, b)
        assert abs(value) > half  # told apart by the wider interval too
        assert encoder_comparison.shown(found, "robustness_index", a, b) == (a if value > 0 else b)


# --- shortcuts --------------------------------------------------------------------------------------------------------


def accuracies(pool, split, X, y, weight):
    """Of agreeing and of conflicting patients, the four cells alike."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    model.fit(X, y, logisticregression__sample_weight=weight)
    right = model.predict(pool.cohort.X[split.test]) == pool.label[split.test]
    cells = [right[pool.cell[split.test] == c].mean() for c in range(4)]
    return (cells[0] + cells[3]) / 2, (cells[1] + cells[2]) / 2


def test_corrections_by_hand_regain_what_the_shortcut_takes(made, data_dir):
    """Reweighting from counts; augmentation as every patient once at each hospital, moved by least squares."""
    found, pool = made(shortcut_at_real_hospitals)[2]["numbers"], load_pool(data_dir)
    by_hand = {name: [] for name in shortcut_at_real_hospitals.FAST}
    for number in range(found["sizes"]["run anew"]):
        split = draw_split(pool, "75/25", 12, 0, number)
        X, y, h = (v[split.train] for v in (pool.cohort.X.astype(float), pool.label, pool.hospital))
        by_hand["no correction"].append(accuracies(pool, split, X, y, np.ones(len(y))))
        counts = np.histogram2d(y, h, bins=2)[0]
        by_hand["reweighting"].append(accuracies(pool, split, X, y, 1 / counts[y, h] * len(y) / 4))
        shift = np.linalg.lstsq(np.column_stack([np.ones(len(y)), y, h]), X, rcond=None)[0][2]
        both = np.vstack([X - h[:, None] * shift, X + (1 - h)[:, None] * shift])
        halves = np.full(2 * len(y), 0.5)
        by_hand["augmentation, additive"].append(accuracies(pool, split, both, np.tile(y, 2), halves))
    anew = {(r["method"], r["measure"]): r["value anew"] for r in found["anew"] if r["training"] == "75/25"}
    for name, values in by_hand.items():
        for value, measure in zip(np.mean(values, axis=0), ("agreeing", "conflicting"), strict=True):
            assert anew[name, measure] == pytest.approx(value, abs=0.02), (name, measure)
    plain, weighted, augmented = (np.mean(by_hand[name], axis=0) for name in shortcut_at_real_hospitals.FAST)
    assert augmented[1] > plain[1] + 0.15
    assert augmented.mean() > plain.mean() + 0.02
    assert augmented.mean() == pytest.approx(weighted.mean(), abs=0.04)


def test_the_gain_of_stainswap_is_scipys_paired_interval():
    rows = pd.read_csv(DOCS / "train_with_interventions.csv")
    result = {"rows": records(rows), "committed": [], "sizes": {"seeds": 5}, "trained": "networks"}
    wide = rows.pivot(index="seed", columns="arm", values="opposite hospital")
    gain = stats.ttest_rel(wide["StainSwap"], wide["as it comes"]).confidence_interval()
    assert f"by +33 ({100 * gain.low:+.0f} to {100 * gain.high:+.0f}) percentage points" in shortcut.claim(result)
    assert PaperFigure.of(shortcut).holds(result)
    swapped = {"StainSwap": "as it comes", "as it comes": "StainSwap"}
    assert not PaperFigure.of(shortcut).holds(result | {"rows": records(rows.replace({"arm": swapped}))})
    with paper_style():
        check_text(shortcut.draw(result))
    table = shortcut.table(result).set_index(["training", "measure"])
    assert table.loc[("StainSwap", "opposite hospital, gain"), "low"] == pytest.approx(gain.low)


def test_a_fast_shortcut_holds(made):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the pretrained encoder is in causalfm[demo]")
    code, _, found = made(shortcut)
    rows = pd.DataFrame(found["numbers"]["rows"]).set_index("arm")
    assert code == 0
    assert rows.loc["StainSwap", "opposite hospital"] > rows.loc["as it comes", "opposite hospital"] + 0.05
    assert rows.loc["StainSwap", "flips"] < rows.loc["as it comes", "flips"]
    mixed = (rows["shortcut hospital"] + rows["opposite hospital"]) / 2
    np.testing.assert_allclose(rows["balanced"], mixed)


# --- claims that can fail ---------------------------------------------------------------------------------------------


def swap_hospital_and_cancer(numbers):
    for row in numbers["shares"]:
        row["of"] = {"hospital": "cancer type", "cancer type": "hospital"}.get(row["of"], row["of"])


def fail_an_attempt(numbers):
    numbers["attempts"][0]["verdict"] = "fail"


def differ_from_the_table(numbers):
    numbers["anew"][0]["apart"] = 0.01


def contradict_a_verdict(numbers):
    row = next(r for r in numbers["rows"] if r["estimator"] == "chosen" and r["verdict"] == "fail")
    row["measured_verdict"] = "pass"


def take_the_gain(numbers):
    for row in numbers["rows"]:
        row["difference_low"] = None if row["difference_low"] is None else row["difference_low"] - 1


def train_otherwise(numbers):
    numbers["anew"][0]["value anew"] = 0.99


def answer_where_it_was_refused(numbers):
    row = next(r for r in numbers["anew"] if r["refused"].startswith("refused"))
    row["refused anew"] = ""


def turn_the_contrasts(numbers):
    for row in numbers["contrasts"]:
        row["a"], row["b"] = row["b"], row["a"]


@pytest.mark.parametrize(
    ("module", "spoil"),
    [
        (hospital_against_cancer, swap_hospital_and_cancer),
        (hospital_against_cancer, fail_an_attempt),
        (shift_across_hospitals, differ_from_the_table),
        (shift_across_hospitals, contradict_a_verdict),
        (shortcut_at_real_hospitals, take_the_gain),
        (shortcut_at_real_hospitals, train_otherwise),
        (shortcut_at_real_hospitals, answer_where_it_was_refused),
        (encoder_comparison, turn_the_contrasts),
    ],
)
def test_numbers_that_say_otherwise_do_not_hold(module, spoil, made, data_dir):
    numbers = copy.deepcopy(made(module)[2]["numbers"])
    assert PaperFigure.of(module).holds(numbers)
    spoil(numbers)
    assert not PaperFigure.of(module).holds(numbers)
