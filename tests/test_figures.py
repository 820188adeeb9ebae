"""The figures of the paper: every fast version runs, its files are sound, and its claim is true by other means."""

import csv
import functools
import inspect
import itertools
import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_files import check_files, check_tex, check_text
from matplotlib.figure import Figure
from scipy import stats

from causalfm.datasets import linear_scm as simulator
from causalfm.errors import DataError
from causalfm.scm import EmbeddingSCM
from experiments import counterfactual_fidelity as study
from experiments.figures import (
    chance_levels,
    command,
    corrector_front,
    counterfactual_fidelity,
    estimator_bias_coverage,
    false_positives,
    page,
    style,
)
from experiments.figures.environment import environment
from experiments.figures.files import Run, latex, write
from experiments.figures.paper import Check, PaperFigure, Unavailable, data_folder, plain
from experiments.figures.wording import span

DOCS = Path(__file__).parents[1] / "docs"
OWN = (chance_levels, false_positives, counterfactual_fidelity, estimator_bias_coverage, corrector_front)
FIGURES = {figure.name: figure for figure in map(PaperFigure.of, OWN)}
views = {}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("figures")


@functools.cache
def computed(name):
    """The numbers of the fast version, run once; of the rendered tissue, the views too."""
    figure = FIGURES[name]
    with pytest.MonkeyPatch.context() as patch:

        def keep(*arguments, **options):
            views["all"] = encoded(*arguments, **options)
            return views["all"]

        encoded = study.encoded_views
        patch.setattr(study, "encoded_views", keep)
        return plain(figure.compute(True, figure.seed), name)


@pytest.fixture(params=FIGURES)
def made(request, out):
    """A figure, its numbers and the folder of its files."""
    figure = FIGURES[request.param]
    if figure.data == "real":
        request.getfixturevalue("data_dir")
    result = computed(figure.name)
    if not (out / figure.name).exists():
        write(figure, Run(True, figure.seed, environment(), result), out)
    return figure, result, out / figure.name


def committed(name):
    with (DOCS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_are_sound_and_the_claim_holds(made):
    figure, result, folder = made
    about = check_files(folder)
    assert about["holds"], [check for check in about["checks"] if not check["holds"]]
    assert about["numbers"] == result
    assert about["fast"] is True
    assert about["claim"] == figure.claim(result)
    with style.paper_style():
        check_text(figure.draw(result))


def test_the_same_numbers_give_the_same_bytes(made, tmp_path):
    figure, result, folder = made
    write(figure, Run(True, figure.seed, environment(), json.loads(json.dumps(result))), tmp_path)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / figure.name / path.name).read_bytes(), path.name


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(monkeypatch):
    cell = chance_levels.designs()[0]
    monkeypatch.setattr(chance_levels, "designs", lambda: [dict(cell)])
    first, again, other = (chance_levels.compute(True, seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_chance_is_the_share_of_pairs_and_the_index_of_noise_is_there():
    result = computed("chance_levels")
    z = []
    for cell in result["cells"]:
        n = np.array(cell["counts"], dtype=float)
        so, os = (n.sum(axis=1) ** 2).sum() - (n**2).sum(), (n.sum(axis=0) ** 2).sum() - (n**2).sum()
        assert cell["chance"] == pytest.approx(so / (so + os), abs=1e-9)  # pairs that share one and not the other
        z += [value - so / (so + os) for value in cell["index"]]
    assert abs(np.mean(z)) < 4.0 * np.std(z) / math.sqrt(len(z)) + 0.002
    assert np.std([cell["chance"] for cell in result["cells"]]) > 0.2  # chance does differ by design
    low, high = (end(cell["chance"] for cell in result["cells"]) for end in (min, max))
    assert f"between {low:.2f} and {high:.2f}" in chance_levels.claim(result)


def test_the_index_of_a_noise_cohort_is_what_a_count_by_hand_gives():
    counts = np.array([[12, 4], [4, 20]])
    cohort = chance_levels.noise(counts, np.random.default_rng(1))
    X = np.asarray(cohort.X, float)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    patient, tumour, site = (cohort.obs[name].to_numpy() for name in ("patient", "tumour", "site"))
    so = os = 0
    for i in range(len(X)):
        far = -(X @ X[i]) + 9.0 * (patient == patient[i])
        for j in np.argsort(far)[:5]:
            so += tumour[j] == tumour[i] and site[j] != site[i]
            os += tumour[j] != tumour[i] and site[j] == site[i]
    found = chance_levels.robustness_index(cohort, chance_levels.GRAPH, k=5, standardised=False)
    assert found.value == pytest.approx(so / (so + os))


def test_tiles_as_units_reject_and_patients_keep_the_level():
    result = computed("false_positives")
    shares = {}
    for row in committed("calibration.csv"):
        if row["measure"] == "mean_test":
            shares.setdefault(row["quantity"], {})[row["design"]] = float(row["share"])
    ours, plainly, tiles = (shares[name] for name in ("patients", "unstudentised", "rows as units"))
    assert len(ours) == 12
    assert all(0.03 <= share <= 0.07 for share in ours.values())
    assert min(tiles.values()) > 0.9
    assert plainly["small sites vary more"] > 0.5
    assert plainly["small sites bring more tiles"] < 0.03
    said = re.findall(r"([\d.]+)% to ([\d.]+)%", false_positives.claim(result))
    for (low, high), part in zip(said, (tiles, plainly, ours), strict=True):
        assert (float(low), float(high)) == pytest.approx(
            (100 * min(part.values()), 100 * max(part.values())), abs=0.051
        )
    assert len(result["fresh"]) == 9
    for row in result["fresh"]:
        assert stats.binomtest(row["rejected"], row["cohorts"], shares[row["test"]][row["design"]]).pvalue > 1e-4


def test_tiles_as_units_reject_by_a_textbook_test_too():
    rejected = 0
    for seed in range(20):
        cohort, _ = simulator.linear_scm(n_groups=64, rows_per_group=(1, 20), random_state=910_000 + seed)
        x, y = np.asarray(cohort.X[:, 0], float), cohort.obs["tumour"]
        x = x - pd.Series(x).groupby(y.to_numpy()).transform("mean").to_numpy()
        parts = [x[(cohort.obs["site"] == site).to_numpy()] for site in sorted(cohort.obs["site"].unique())]
        rejected += stats.f_oneway(*parts).pvalue <= 0.05
    assert rejected >= 10


def test_counterfactual_errors_are_those_of_rows_held_against_their_truth():
    result = computed("counterfactual_fidelity")
    (question,) = study.QUESTIONS[counterfactual_fidelity.FAST_QUESTIONS]
    seen = views["all"].seen
    test = study.held_out(seen.obs)
    training, rows = seen[~test], seen[test]
    scm = EmbeddingSCM(study.GRAPH, "random-effects", assume="additive").fit(training)
    parts = []
    for level in question.levels:
        truth = views["all"].under(study.histology.intervene(rows.obs, **{question.factor: level}))
        moved = np.array(rows.X)
        for (scanner, stain), at in truth.obs.reset_index().groupby(["scanner", "stain"]).indices.items():
            do = {"site": level, "scanner": scanner, "stain": stain}
            moved[at] = scm.counterfactual(rows[at], do).X
        other = (rows.obs[question.factor] != level).to_numpy()
        errors = [((truth.X - X) ** 2).sum(axis=1)[other] for X in (moved, rows.X)]
        parts.append(pd.DataFrame({"patient": rows.obs["patient"][other], "error": errors[0], "change": errors[1]}))
    means = pd.concat(parts).groupby("patient")[["error", "change"]].mean().mean()
    table = counterfactual_fidelity.table(result).set_index("method")["relative error"]
    assert table["random-effects"] == pytest.approx(means["error"] / means["change"], rel=1e-6)
    assert table["ridge on all pairs"] < table["random-effects"] < min(table["mean shift"], table["ComBat"]) < 1.5
    assert f"miss {table['random-effects']:.2f} of" in counterfactual_fidelity.claim(result)


def test_bias_is_what_confounding_gives_and_intervals_over_patients_hold():
    result = computed("estimator_bias_coverage")
    _, truth = simulator.linear_scm(**estimator_bias_coverage.DESIGN, random_state=0)
    between = (truth.biology[1] - truth.biology[0])[0]
    for row in result["fresh"]:
        assert row["truth"] == pytest.approx(truth.site[1, 0] - truth.site[0, 0])
        # hospital 1 sees class 1 more often than hospital 0 by as much as the confounding says
        wanted = row["confounding"] * between if row["method"] == "difference of means" else 0.0
        assert abs(row["bias"] - wanted) < 4.5 * row["error"]
    last = {row["method"]: row["covered"] / row["cohorts"] for row in result["fresh"] if row["confounding"] == 0.8}
    assert last["difference of means"] < 0.5
    assert last["regression on tiles"] < 0.85 <= last["standardisation over patients"]
    library = [
        float(row["share"])
        for row in committed("calibration.csv")
        if row["measure"] == "effects" and row["design"].endswith(", effect")
    ]
    assert len(library) == 48
    assert min(library) > 0.93
    assert f"{min(library):.1%} to {max(library):.1%} over 48 cells" in estimator_bias_coverage.claim(result)


def test_standardisation_is_the_mean_of_differences_within_classes():
    design = {**estimator_bias_coverage.DESIGN, "confounding": 0.6}
    cohort, _ = simulator.linear_scm(**design, random_state=7)
    patients = cohort.obs.assign(z=np.asarray(cohort.X[:, 0], float)).groupby("patient")
    means = patients.agg(z=("z", "mean"), site=("site", "first"), tumour=("tumour", "first"))
    cells = means.groupby(["tumour", "site"])["z"].mean().unstack()
    share = means["tumour"].value_counts(normalize=True)
    value, low, high = estimator_bias_coverage.standardised(cohort, design)
    assert value == pytest.approx(((cells["site1"] - cells["site0"]) * share).sum())
    assert low < value < high


def test_the_front_is_what_no_corrector_beats_and_values_are_found_again(data_dir):
    result = computed("corrector_front")
    rows = [row for row in committed("scoreboard.csv") if row["name"] in ("site_linear", "biology_new_site")]
    value = {(row["table"], row["corrector"], row["name"]): row for row in rows}
    for row in result["fresh"]:
        assert row["value"] == pytest.approx(
            float(value[row["table"], row["corrector"], row["name"]]["value"]), abs=2e-5
        )
    gains = [
        row for row in rows if row["name"] == "biology_new_site" and row["joint_low"] and float(row["joint_low"]) > 0
    ]
    sure = [row for row in rows if row["name"] == "biology_new_site" and row["joint_low"]]
    assert f"in {len(gains)} of {len(sure)} cases" in corrector_front.claim(result)
    same = 0
    for table in sorted({row["table"] for row in rows}):
        places = {
            name: (
                float(value[table, name, "site_linear"]["value"]),
                float(value[table, name, "biology_new_site"]["value"]),
            )
            for (t, name, _) in value
            if t == table
        }
        kept = {
            p for p in places.values() if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in places.values())
        }
        assert set(corrector_front.front(places)) == kept
        del places["no correction"]
        same += min(places, key=lambda name: places[name][0]) == max(places, key=lambda name: places[name][1])
    assert f"best classifier in {same} of 3 cohorts" in corrector_front.claim(result)


def test_a_claim_that_the_numbers_do_not_bear_is_told_from_one_that_they_do():
    result = json.loads(json.dumps(computed("false_positives")))
    for row in result["study"]:
        if row["test"] == "patients" and row["design"] == "balanced":
            row["share"] = 0.2
    assert not FIGURES["false_positives"].holds(result)
    result = json.loads(json.dumps(computed("chance_levels")))
    for cell in result["cells"]:
        cell["chance"] = 0.5
    assert not FIGURES["chance_levels"].holds(result)


def dummy(name="dummy", *, holds=True, value=1.5, missing=False):
    def compute(fast, seed):
        if missing:
            raise Unavailable("real data not found")
        return {"sizes": {"n": 3}, "source": "made up", "value": value}

    def draw(result):
        return Figure(figsize=(style.ONE_COLUMN, 1.0))

    table = pd.DataFrame({"50 % & a_b": ["x_1 & {y}", r"\cmd #3 $z$"], "value": [value, np.nan]})
    checks = [Check("one", holds, "detail"), Check("two", True, "detail")]
    return PaperFigure(
        name, "A title", "simulated", compute, lambda r: table, draw, lambda r: "A claim.", lambda r: checks
    )


def test_the_command_says_what_came_of_it(tmp_path, capsys):
    asked = ["--out", str(tmp_path)]
    assert command.main([dummy()], asked) == 0
    assert "dummy" in capsys.readouterr().out
    assert command.main([dummy(holds=False)], asked) == 1
    assert "DOES NOT HOLD: one" in capsys.readouterr().out
    assert command.main([dummy("away", missing=True)], asked) == 77
    assert "away: skipped, nothing written: real data not found" in capsys.readouterr().out
    assert not (tmp_path / "away").exists()
    assert command.main([dummy(), dummy("away", missing=True)], asked) == 0
    assert json.loads((tmp_path / "dummy" / "result.json").read_text("utf-8"))["holds"] is True
    text = (tmp_path / "dummy" / "table.tex").read_text("utf-8")
    check_tex(text, 2)
    assert r"x\_1 \& \{y\}" in text
    assert r"\textbackslash cmd \#3 \$z\$ & -- \\" in text


@pytest.mark.parametrize("name", command.NAMES)
def test_a_script_holds_what_the_base_asks_for(name):
    figure = command.load(name)
    assert figure.name == name
    assert figure.title
    assert figure.data in ("simulated", "rendered", "real")
    for part in fields(PaperFigure):
        if part.type.startswith("Callable"):
            asked = re.fullmatch(r"Callable\[\[(.*)\], (.*)\]", part.type)
            written = inspect.signature(getattr(figure, part.name))
            assert [one.annotation for one in written.parameters.values()] == asked[1].split(", "), part.name
            assert written.return_annotation.replace("list[", "Sequence[") == asked[2], part.name


def test_a_script_makes_its_own_figure_and_leaves_with_its_code(monkeypatch, capsys):
    made = []
    monkeypatch.setattr(command, "main", lambda figures: made.extend(figures) or 77)
    with pytest.raises(SystemExit) as stop:
        command.run(chance_levels.__file__)
    assert stop.value.code == 77
    assert made == [FIGURES["chance_levels"]]


def test_a_check_takes_the_truth_values_of_numpy():
    check = Check.each("every one", [np.True_, np.False_], " cohorts")
    assert (check.holds, check.detail) == (False, "1 of 2 cohorts")
    assert json.dumps(vars(check))
    assert Check.each("every one", [np.True_]).holds is True


@pytest.mark.parametrize(("values", "said"), [((0.5, 0.25), "0.25 to 0.50"), ((0.251, 0.249), "0.25")])
def test_a_span_names_both_ends_where_they_differ(values, said):
    assert span(values, ".2f") == said


def test_a_picture_is_drawn_anew_from_the_numbers_of_a_run(tmp_path, capsys):
    asked = ["--out", str(tmp_path), "--redraw"]
    assert command.main([dummy()], asked) == 77
    assert "nothing written: no numbers of an earlier run" in capsys.readouterr().out
    command.make(dummy(), tmp_path, seed=7)
    path = tmp_path / "dummy" / "result.json"
    first = json.loads(path.read_text("utf-8"))
    first["environment"]["date"] = "2001-02-03"
    path.write_text(json.dumps(first), "utf-8")
    other = replace(dummy(holds=False, missing=True), claim=lambda result: f"Now {result['value']}.")
    assert command.main([other], asked) == 1
    again = json.loads(path.read_text("utf-8"))
    assert (again["claim"], again["holds"]) == ("Now 1.5.", False)
    for kept in ("numbers", "seed", "fast", "environment"):
        assert again[kept] == first[kept], kept
    with pytest.raises(SystemExit) as stop:
        command.main([other], [*asked, "--seed", "1"])
    assert stop.value.code == 2


def test_a_name_that_is_mistyped_is_told(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([command.load(name) for name in command.NAMES], ["--fast", "--only", "chance_level"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "no figure is named 'chance_level'; did you mean chance_levels?" in said
    assert "corrector_front" in said


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"sizes": {}, "source": "", "x": math.nan}, "Out of range"),
        ({"sizes": {}, "source": "", "x": np.zeros(2)}, "ndarray"),
        ({"sizes": {}}, "lacks source"),
    ],
)
def test_numbers_that_a_file_cannot_hold_are_refused(result, said):
    with pytest.raises(DataError, match=f"figure 'mine'.*{said}"):
        plain(result, "mine")


def test_real_data_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.delenv("CAUSALFM_DATA", raising=False)
    with pytest.raises(Unavailable, match="set CAUSALFM_DATA"):
        data_folder()
    monkeypatch.setenv("CAUSALFM_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match=r"amibr_metadata\.csv\.gz is not in the folder"):
        data_folder("amibr_metadata.csv.gz")
    with pytest.raises(Unavailable, match=r"tcga_hipt_metadata\.csv\.gz, .* is not in the folder"):
        corrector_front.compute(True, 0)


def test_the_page_shows_claims_tables_and_no_picture_of_real_data(tmp_path, monkeypatch):
    figures = [dummy("first"), replace(dummy("second"), data="real", title="Of patients")]
    monkeypatch.setattr(page, "NAMES", ("first", "second"))
    out, docs = tmp_path / "out", tmp_path / "docs"
    with pytest.raises(DataError, match="run python -m"):
        page.written(out, docs)
    for figure in figures:
        command.make(figure, out)
    text = page.written(out, docs)
    assert text.count("A claim.") == 2
    assert "| x_1 & {y} | 1.5 |" in text
    assert "images/figures/first.svg" in text
    assert "second.svg" not in text
    assert [path.name for path in (docs / "images" / "figures").iterdir()] == ["first.svg"]
    command.make(figures[0], out, fast=True)
    with pytest.raises(DataError, match="'first' is a fast run"):
        page.written(out, docs)


def test_names_of_lines_never_touch():
    with style.paper_style():
        figure, (ax,) = style.panels(width=style.ONE_COLUMN)
        ax.set(xlim=(0, 1), ylim=(0, 1))
        style.name_lines(ax, [(1.0, y, f"line {y}", "k") for y in (0.5, 0.501, 0.9, 0.499)])
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_text_cells_of_a_table_are_escaped():
    assert "100\\%" in latex(pd.DataFrame({"a": ["100%"]}))
