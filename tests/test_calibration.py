"""Short calibration: the cells of the full study on few cohorts, and the full study's page.

The seeds are fixed (0, 1, 2, ...). The bands are binomial at 99.9 %, corrected for the number of cells (statistics rule
10); ``make calibrate`` runs the study itself, with seeds of its own.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.invariance.methods import METHODS
from experiments.calibration import __main__ as command
from experiments.calibration import methods_figure
from experiments.calibration.designs import Cell, cells, peers
from experiments.calibration.invariance_methods import TESTS
from experiments.calibration.measures import COSTLY, measure
from experiments.calibration.page import page
from experiments.calibration.study import load, record_path, run
from experiments.calibration.summary import COLUMNS, COMPARISONS, OPEN, SIZE, summarise_cell

ROOT = Path(__file__).parents[1]
STUDY = {cell.key: cell for cell in cells()}
MEAN = [key for key in STUDY if key.startswith("mean_test-")]
EFFECT = [
    "effect-balanced-no-effect",
    "effect-site-depends-on-biology-effect",
    "effect-variance-by-site-effect",
    "effect-biology-within-patient-effect",
    "effect-continuous-covariate-effect",
    "effect-20-patients-at-two-sites-effect",
]
INDEX = ["index-site-depends-on-biology-no-effect", "index-balanced-effect"]
READOUT = ["readout-site-site-depends-on-biology-no-effect", "readout-site-one-tile-per-patient-no-effect"]

LONG = {
    *(f"effect-{name}-effect" for name in ("biology-within-patient", "continuous-covariate", "variance-by-site")),
    "effect-site-depends-on-biology-effect",
    *(
        f"mean_test-{name}"
        for name in ("continuous-covariate", "small-sites-bring-more-tiles", "small-sites-vary-less")
    ),
    INDEX[1],
    READOUT[1],
}


def quick(keys: list[str]) -> list:
    """Leave the cells that take longest to ``make calibrate``; each measure keeps one."""
    return [pytest.param(key, marks=pytest.mark.slow) if key in LONG else key for key in keys]


def short(key: str, n: int) -> dict[str, dict]:
    """Return the summary rows of the first ``n`` seeds of a cell by quantity."""
    cell = STUDY[key]
    design, options = dict(cell.design), dict(cell.options)
    records = {seed: measure(cell.measure, design, options, seed, seed < 25) for seed in range(n)}
    rows = {row["quantity"]: row for row in summarise_cell(cell, records)}
    print(f"\n{key}: " + ", ".join(f"{name} {row['share']:.3f}" for name, row in rows.items()))
    return rows


def lowest(row: dict, probability: float, cells_: int) -> float:
    return float(stats.binom.ppf(0.001 / (2 * cells_), row["answered"], probability) / row["answered"])


@pytest.mark.parametrize("key", quick(MEAN))
def test_size_of_the_mean_test(key: str) -> None:
    rows = short(key, 150)
    assert rows["patients"]["share"] <= stats.binom.ppf(1 - 0.001 / (2 * len(MEAN)), 150, 0.05) / 150
    assert rows["rows as units"]["share"] > 0.2  # the same test with rows as units is wrong: the clusters matter


def test_without_studentisation_the_test_is_wrong_where_sites_differ_in_size_and_spread() -> None:
    assert short("mean_test-small-sites-vary-more", 60)["unstudentised"]["share"] > 0.2
    assert short("mean_test-small-sites-vary-less", 60)["unstudentised"]["share"] < 0.03


@pytest.mark.parametrize("key", quick(EFFECT))
def test_coverage_of_the_effect(key: str) -> None:
    rows = short(key, 100)
    for quantity in ("joint", "one pair", "biology", "ratio"):
        # the ratio abstains where biology is not told from zero, which is often where sites vary much
        assert rows[quantity]["answered"] > (20 if quantity == "ratio" else 50)
        assert rows[quantity]["share"] >= lowest(rows[quantity], 0.95, 4 * len(EFFECT))
    assert rows["joint, rows as units"]["share"] < 0.9  # too short, or off zero


@pytest.mark.parametrize("key", quick(INDEX))
def test_coverage_of_the_robustness_index(key: str) -> None:
    rows = short(key, 80)
    for quantity in ("index", "2 x 2 reference"):
        assert rows[quantity]["share"] >= lowest(rows[quantity], 0.95, 2 * len(INDEX))
    assert rows["index, rows as units"]["share"] < 0.9


@pytest.mark.parametrize("key", quick(READOUT))
def test_coverage_of_the_readouts(key: str) -> None:
    rows = short(key, 50)
    above = [row for row in rows.values() if row["kind"] == "error"]
    assert len(above) == 3
    assert all(row["share"] <= stats.binom.ppf(1 - 0.001 / 6, 50, 0.05) / 50 for row in above)
    judged = [r for name, r in rows.items() if r["kind"] == "coverage" and not any(c in name for c in COMPARISONS)]
    assert len(judged) >= 4
    for row in judged:
        assert row["share"] >= lowest(row, 0.95, len(judged) * len(READOUT)), row["quantity"]


def tiny(cohorts: int) -> Cell:
    return Cell("mean_test", "tiny", {"n_groups": 16, "rows_per_group": 2, "d": 4, "n_sites": 2}, cohorts)


def test_the_study_goes_on_where_it_was_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([tiny(6)], tmp_path, workers=1)
    whole = load(tiny(6), tmp_path)
    assert len(whole) == 6
    path = record_path(tiny(6), tmp_path)
    text = path.read_text().rstrip("\n")
    path.write_text(text[:-40])  # killed in the middle of the last line
    assert len(load(tiny(6), tmp_path)) == 5
    capsys.readouterr()
    run([tiny(8)], tmp_path, workers=1)
    assert "3 cohorts" in capsys.readouterr().out
    again = load(tiny(8), tmp_path)
    assert len(again) == 8
    assert {seed: again[seed] for seed in whole} == whole


def test_the_study_starts_a_cell_again_if_the_code_gives_other_numbers(tmp_path: Path) -> None:
    run([tiny(3)], tmp_path, workers=1)
    path = record_path(tiny(3), tmp_path)
    whole = load(tiny(3), tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    for line in lines:
        line["values"]["patients"] += 0.01
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run([tiny(3)], tmp_path, workers=1)
    assert load(tiny(3), tmp_path) == whole
    assert path.with_suffix(".old").is_file()


def test_a_record_of_another_design_is_not_used(tmp_path: Path) -> None:
    run([tiny(2)], tmp_path, workers=1)
    other = Cell("mean_test", "tiny", {**tiny(2).design, "d": 5}, 2)
    assert load(other, tmp_path) == {}


def test_a_rehearsal_leaves_the_committed_page_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(command, "cells", lambda: [tiny(2)])
    command.main(["--share", "0.5", "--workers", "1", "--records", str(tmp_path)])
    assert len(load(tiny(2), tmp_path)) == 1
    assert not (tmp_path / "docs").exists()
    (tmp_path / "docs").mkdir()
    command.main(["--workers", "1", "--records", str(tmp_path)])
    assert (tmp_path / "docs" / "calibration.md").is_file()
    assert "tiny" in (tmp_path / "docs" / "images" / "calibration.svg").read_text()


def test_summary_of_known_values() -> None:
    cell = Cell("effect", "known", {"n_groups": 64}, 4)
    nothing = float("nan")
    records = {
        0: {"joint": [1.0, 0.5, 1.5, 1.2], "margin": [0.0, -1.0, -0.5, 0.0]},
        1: {"joint": [1.0, 0.5, 1.1, 1.2], "margin": [0.0, 0.5, 1.0, 0.0]},
        2: {"joint": [1.4, 0.5, 1.5, 1.2], "margin": [0.0, -1.0, 1.0, 0.0]},
        3: {"joint": [nothing, nothing, nothing, 1.2]},
    }
    rows = {row["quantity"]: row for row in summarise_cell(cell, records)}
    assert rows["joint"]["cohorts"] == 4
    assert rows["joint"]["answered"] == 3
    assert rows["joint"]["share"] == pytest.approx(2 / 3)
    assert rows["joint"]["reading"] == "too short"
    assert rows["margin, false pass"]["share"] == pytest.approx(1 / 3)
    assert rows["margin, false fail"]["share"] == pytest.approx(1 / 3)
    assert rows["margin, false pass"]["reading"] == "too often"


def test_the_page_is_written_from_the_table_and_every_cell_is_there() -> None:
    table = pd.read_csv(ROOT / "docs" / "calibration.csv")
    assert list(table.columns) == list(COLUMNS)
    assert page(table) == (ROOT / "docs" / "calibration.md").read_text(encoding="utf-8")
    present = {(row.measure, row.design) for row in table.itertuples()}
    assert present == {(cell.measure, cell.name) for cell in cells()}
    full = {(cell.measure, cell.name): cell.cohorts for cell in cells()}
    for row in table[table["reading"] != "comparison"].itertuples():
        wanted = COSTLY if "margin" in row.quantity else full[row.measure, row.design]
        assert row.cohorts == wanted, (row.design, row.quantity)


def test_the_figure_shows_every_method_beside_other_software(tmp_path: Path) -> None:
    table = pd.read_csv(ROOT / "docs" / "calibration.csv")
    found = methods_figure.shares(table)
    assert set(found["who"]) == {*METHODS, *TESTS}
    assert found.groupby("design")["who"].nunique().tolist() == [len(METHODS) + len(TESTS)] * 3
    one = found[(found["who"] == "hyppo Dcorr") & (found["kind"] == "rows") & (found["design"] == "balanced")]
    rows = table[(table["measure"] == "peers") & (table["quantity"] == "hyppo Dcorr, rows")].set_index("design")[
        "share"
    ]
    assert one[["size", "power"]].to_numpy().tolist() == [[rows["balanced, no effect"], rows["balanced, effect"]]]
    ours = found[found["kind"] == "methods"]
    assert ours["size"].between(*SIZE).all()
    methods_figure.draw(table, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "causal-learn KCI" in drawn
    assert (ROOT / "docs" / "images" / methods_figure.NAME).is_file()
    methods_figure.draw(table[table["measure"] != "peers"], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_what_fails_in_the_committed_study_is_listed_as_open() -> None:
    table = pd.read_csv(ROOT / "docs" / "calibration.csv")
    outside = table[table["reading"].isin(["too short", "too often", "never answered"])]
    assert {(row.measure, row.design, row.quantity) for row in outside.itertuples()} == set(OPEN)


@pytest.mark.slow
def test_the_full_study_gives_the_committed_table(tmp_path: Path) -> None:
    """After ``make calibrate`` the records are complete, so that nothing is left to run."""
    command.main(["--docs", str(tmp_path)])
    found, committed = (pd.read_csv(folder / "calibration.csv") for folder in (tmp_path, ROOT / "docs"))
    pd.testing.assert_frame_equal(found, committed, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.name == "15 patients"], ids=lambda cell: cell.key)
def test_cells_of_the_families_are_measured(cell: Cell) -> None:
    found = measure(cell.measure, dict(cell.design), dict(cell.options), 0, False)
    rows = {row["quantity"]: row for row in summarise_cell(cell, {0: found})}
    assert len(rows) >= 7
    assert any(row["answered"] == 1 for row in rows.values())


METHOD_CELLS = {cell.name: cell for cell in cells() if cell.measure == "methods"}


@pytest.mark.parametrize(
    "name", ["variance by site, no effect", "biology within patient, no effect", "balanced, effect"]
)
def test_all_methods_of_the_invariance_test_are_measured(name: str) -> None:
    cell = METHOD_CELLS[name]
    found = {seed: measure(cell.measure, dict(cell.design), {}, seed, False) for seed in range(4)}
    rows = {row["quantity"]: row for row in summarise_cell(cell, found)}
    assert list(rows) == ["mean", "mmd", "energy", "hsic", "dcorr", "gcm", "c2st"]
    assert all(row["answered"] == 4 for row in rows.values())
    readings = {method: row["reading"] for method, row in rows.items()}
    if name == "variance by site, no effect":
        assert {readings[m] for m in ("mmd", "energy", "hsic", "dcorr")} == {"not a null for this method"}
        assert rows["mmd"]["share"] > rows["mean"]["share"]
    else:
        assert "not a null for this method" not in readings.values()
    assert ({row["kind"] for row in rows.values()} == {"power"}) is (name == "balanced, effect")


@pytest.mark.parametrize(
    ("key", "quantities"),
    [
        ("paired-ten-patients-no-effect", {"joint", "one pair", "mean", "mmd", "energy"}),
        ("paired-same-tiles-scanned-again-effect", {"joint", "one pair"}),
        ("equivalence-two-scanners-within-patients", {"equivalence"}),
        ("equivalence-variance-by-site", {"equivalence"}),
        ("dose-balanced", {"mean", "hsic", "dcorr", "gcm"}),
    ],
)
def test_paired_designs_equivalence_and_doses_are_measured(key: str, quantities: set[str]) -> None:
    rows = short(key, 3)
    assert set(rows) == quantities
    assert all(row["answered"] == 3 for row in rows.values())
    assert {row["kind"] for name, row in rows.items() if name in ("joint", "one pair")} <= {"coverage"}


def test_other_software_gets_rows_and_means_and_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins that draw, as some peers do, from NumPy's global generator; the slow test below runs the peers."""
    sizes = []

    def peer(arrays: tuple[np.ndarray, ...], seed: int) -> float:
        sizes.append([len(values) for values in arrays])
        return float(np.random.random())  # noqa: NPY002

    for name in TESTS:
        monkeypatch.setitem(TESTS, name, peer)
    cell = next(cell for cell in peers() if cell.name == "balanced, no effect")
    small = Cell(cell.measure, cell.name, {**cell.design, "n_groups": 16, "rows_per_group": 4, "d": 4}, 1)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, same, other = (measure("peers", dict(small.design), {}, seed, False) for seed in (0, 0, 1))
    assert first == same != other
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert list(first) == [f"{name}, {of}" for of in ("rows", "patient means") for name in TESTS]
    assert sizes == 3 * (len(TESTS) * [[64] * 3] + len(TESTS) * [[16] * 3])
    assert {row["reading"] for row in summarise_cell(small, {0: first})} == {"comparison"}


@pytest.mark.slow
def test_other_software_is_measured_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TESTS, "dowhy kernel")  # takes long to import; the study runs it
    cell = next(cell for cell in peers() if cell.name == "balanced, no effect")
    small = Cell(cell.measure, cell.name, {**cell.design, "n_groups": 16, "rows_per_group": 4, "d": 4}, 1)
    np.random.seed(1)  # noqa: NPY002 - some peers draw from it
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, same = (measure("peers", dict(small.design), {}, 0, False) for _ in range(2))
    assert first == same
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert len(first) == 4
    assert {row["reading"] for row in summarise_cell(small, {0: first})} == {"comparison"}
