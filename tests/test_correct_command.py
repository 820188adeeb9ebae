"""The command that fits, saves and applies correctors: what comes out, what is said, what is refused."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from command_line import typed

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.estimators import ComBat, LinearEraser, MeanAligner
from causalfm.estimators.correctors import NAMES
from causalfm.estimators.correctors.applying import CLAIMS, transform_blocks

SENTINEL = "SENTINEL-PATIENT"


def run(monkeypatch, *arguments) -> int:
    return typed(monkeypatch, "correct", *arguments)


@pytest.fixture(scope="module")
def whole():
    cohort, _ = linear_scm(n_groups=80, n_sites=4, site_effect=1.0, confounding=0.4, random_state=0)
    obs = cohort.obs.assign(patient=SENTINEL + cohort.obs["patient"])
    return Cohort(cohort.X, obs.set_axis([f"{SENTINEL}-{i}" for i in range(len(obs))]))


@pytest.fixture(scope="module")
def files(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohorts")
    known = (whole.obs["site"] != "site3").to_numpy()
    cfm.write(whole[known], folder / "reference.npz")
    cfm.write(whole[~known], folder / "deployed.npy")
    return folder


ROLES = ("--factor", "site", "--biology", "tumour", "--covariates", "age", "--group", "patient")


def parts(whole):
    known = (whole.obs["site"] != "site3").to_numpy()
    reference, deployed = whole[known], whole[~known]
    obs = reference.obs
    given = {"biology": obs["tumour"], "covariates": obs[["age"]], "groups": obs["patient"]}
    return reference, deployed, given


@pytest.mark.parametrize("ending", ["npz", "npy", "parquet", "h5ad", "zarr"])
def test_fit_save_and_apply_give_the_rows_of_the_library_and_a_record(files, whole, tmp_path, monkeypatch, ending):
    out, saved = tmp_path / f"corrected.{ending}", tmp_path / "c.safetensors"
    ask = ("--corrector", "ComBat", *ROLES, "--unseen", "adapt", "--save", saved)
    assert run(monkeypatch, files / "reference.npz", *ask, "--apply", files / "deployed.npy", "--out", out) == 0
    reference, deployed, given = parts(whole)
    fitted = ComBat(unseen="adapt").fit(reference.X, reference.obs["site"], **given)
    back = cfm.read(out)
    np.testing.assert_array_equal(back.X, fitted.transform(deployed.X, factor=deployed.obs["site"]))
    assert back.obs["patient"].tolist() == deployed.obs["patient"].tolist()
    (record,) = back.info["corrections"]
    assert (record["corrector"], record["settings"]["unseen"], record["factor"]) == ("ComBat", "adapt", ["site"])
    assert (record["fingerprint"], record["given"]) == (fitted.report_.fingerprint, ["biology", "age"])
    assert [(row["level"], row["rows"], row["seen"]) for row in record["done"]] == [("site3", len(deployed), False)]
    assert not list(tmp_path.glob(".correct-*"))
    assert ComBat.load(saved).unseen == "adapt"


def test_a_saved_corrector_is_applied_and_adds_to_the_record(files, whole, tmp_path, monkeypatch):
    saved, once, twice = tmp_path / "c.safetensors", tmp_path / "once.npz", tmp_path / "twice.npz"
    assert run(monkeypatch, files / "reference.npz", "--corrector", "MeanAligner", *ROLES, "--save", saved) == 0
    ask = ("--load", saved, "--factor", "site", "--unseen", "shrink")
    assert run(monkeypatch, *ask, "--apply", files / "deployed.npy", "--out", once) == 0
    assert run(monkeypatch, *ask, "--apply", once, "--out", twice) == 0
    reference, deployed, given = parts(whole)
    aligner = MeanAligner(unseen="shrink").fit(reference.X, reference.obs["site"], **given)
    np.testing.assert_array_equal(cfm.read(once).X, aligner.transform(deployed.X, factor=deployed.obs["site"]))
    assert [r["settings"]["unseen"] for r in cfm.read(twice).info["corrections"]] == ["shrink", "shrink"]
    assert len(cfm.read([once, twice], [deployed.obs, deployed.obs.set_axis(range(len(deployed)))]).info["corrections"])


def test_a_corrector_that_needs_no_level_and_the_causal_one(files, whole, tmp_path, monkeypatch):
    out = tmp_path / "z.npz"
    ask = ("--corrector", "LinearEraser", *ROLES, "--set", "shrinkage=false", "--apply", files / "deployed.npy")
    assert run(monkeypatch, files / "reference.npz", *ask, "--out", out) == 0
    reference, deployed, given = parts(whole)
    eraser = LinearEraser(shrinkage=False).fit(reference.X, reference.obs["site"], **given)
    np.testing.assert_array_equal(cfm.read(out).X, eraser.transform(deployed.X))
    causal = ("--corrector", "SCMCorrector", "--set", "reference=site1", *ROLES, "--apply", files / "reference.npz")
    assert run(monkeypatch, files / "reference.npz", *causal, "--out", out) == 0
    (record,) = cfm.read(out).info["corrections"]
    assert {row["done"] for row in record["done"]} == {"moved to site=site1"}


def test_what_trim_left_out_is_said_and_every_row_is_corrected(whole, tmp_path, monkeypatch, capsys):
    reference, _, _ = parts(whole)
    apart = reference.obs["site"].to_numpy() == "site2"
    obs = reference.obs.assign(tumour=np.where(apart, "class9", reference.obs["tumour"]))
    cfm.write(reference.replace(obs=obs), tmp_path / "reference.npz")
    ask = (tmp_path / "reference.npz", "--corrector", "MeanAligner", *ROLES, "--save", tmp_path / "c.safetensors")
    assert run(monkeypatch, *ask) == 3
    refused = capsys.readouterr().err
    assert "site2: class0 0, class1 0, class9 20" in refused
    assert not (tmp_path / "c.safetensors").exists()
    out = tmp_path / "z.npz"
    trimmed = ("--on-violation", "trim", "--unseen", "adapt", "--apply", tmp_path / "reference.npz", "--out", out)
    assert run(monkeypatch, *ask, *trimmed) == 0
    said = capsys.readouterr()
    assert "Left out of the fit" in said.out
    assert "fitted on rows it is applied to" in said.out
    (record,) = cfm.read(out).info["corrections"]
    assert "20 for cells that cannot be compared" in record["left_out_of_the_fit"]
    assert sum(row["rows"] for row in record["done"]) == len(cfm.read(out)) == len(reference)
    assert SENTINEL not in refused + said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--corrector", "ComBt", *ROLES), "Did you mean 'ComBat'"),
        (("--corrector", "LinearEraser", *ROLES, "--set", "from=oracle"), "Did you mean 'form'"),
        (("--corrector", "LinearEraser", *ROLES, "--set", "form"), "NAME=VALUE"),
        (("--corrector", "LinearEraser", *ROLES, "--set", "form=[oracle"), "no number, true, false or word"),
        (("--corrector", "NuisanceSubspace", *ROLES, "--unseen", "adapt"), "no setting 'unseen'"),
        (("--corrector", "ComBat", "--biology", "tumour"), "--factor is needed"),
        (("--corrector", "ComBat", "--factor", "sit"), "Did you mean 'site'"),
        (("--corrector", "ComBat", "--factor", "site,tumour"), "removes one --factor"),
        (("--corrector", "ComBat", *ROLES), "levels that the fit never saw: 'site3' (100 of 100 rows)"),
        (ROLES, "--corrector is needed"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(files, tmp_path, monkeypatch, capsys, arguments, message):
    where = ("--apply", files / "deployed.npy", "--out", tmp_path / "out.npz")
    assert run(monkeypatch, files / "reference.npz", *arguments, *where) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in said
    assert SENTINEL not in said
    assert list(tmp_path.iterdir()) == []


def test_files_that_could_not_be_written_or_read_are_refused_before_the_fit(files, tmp_path, monkeypatch, capsys):
    fit = (files / "reference.npz", "--corrector", "ComBat", *ROLES)
    apply = ("--apply", files / "deployed.npy")
    saved = tmp_path / "model.safetensors"
    cohort = cfm.read(files / "reference.npz")
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    cfm.EmbeddingSCM(graph).fit(cohort).save(saved)
    for arguments, message in (
        (fit, "nothing would be kept"),
        ((*fit, *apply), "give both"),
        ((*fit, *apply, "--out", tmp_path / "z.pt"), ".zarr"),
        ((*fit, *apply, "--out", files / "deployed.npy"), "one of the files that are read"),
        ((*fit, "--save", tmp_path / "c.pkl"), ".safetensors"),
        ((*apply, "--out", tmp_path / "z.npz"), "--load"),
        (("--load", saved, "--corrector", "ComBat", *apply, "--out", tmp_path / "z.npz"), "as it is"),
        (("--load", saved, *apply, "--out", tmp_path / "z.npz"), "no corrector"),
        (("--load", files / "reference.npz", *apply, "--out", tmp_path / "z.npz"), "no file that causalfm saved"),
    ):
        assert run(monkeypatch, *arguments) == 2, arguments
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_missing_values_are_refused_or_counted_and_never_dropped_from_what_is_corrected(
    files, whole, tmp_path, monkeypatch, capsys
):
    holes = whole.obs.assign(site=whole.obs["site"].where(np.arange(len(whole)) != 7))
    cfm.write(whole.replace(obs=holes), tmp_path / "holes.npz")
    fit = (tmp_path / "holes.npz", "--corrector", "MeanAligner", *ROLES, "--save", tmp_path / "c.safetensors")
    assert run(monkeypatch, *fit) == 2
    assert "row 7" in capsys.readouterr().err
    assert run(monkeypatch, *fit, "--missing", "drop") == 0
    assert "1 of 400 rows" in capsys.readouterr().out
    ask = ("--load", tmp_path / "c.safetensors", "--factor", "site", "--apply", tmp_path / "holes.npz")
    assert run(monkeypatch, *ask, "--out", tmp_path / "z.npz") == 2
    assert "row 7" in capsys.readouterr().err
    assert not (tmp_path / "z.npz").exists()


@pytest.mark.parametrize("name", ["ComBat", "LinearEraser"])
def test_a_memory_map_is_never_loaded_whole(tmp_path, monkeypatch, name):
    monkeypatch.setattr("causalfm.validation.BLOCK_BYTES", 2**20)
    monkeypatch.setattr("causalfm.level_moments.LARGE", 2**20)
    monkeypatch.setattr("causalfm.level_moments.SMALL", 2**20)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 128)).astype(np.float32)  # 51 MB
    obs = pd.DataFrame({"site": rng.integers(0, 3, len(X)), "tumour": rng.integers(0, 2, len(X))})
    cfm.write(Cohort(X, obs), tmp_path / "reference.npy")
    cfm.write(Cohort(X, obs.assign(site=9)), tmp_path / "deployed.npy")
    del X
    ask = ("--corrector", name, "--factor", "site", "--biology", "tumour", "--unseen", "adapt")
    where = ("--apply", tmp_path / "deployed.npy", "--out", tmp_path / "z.npy")
    tracemalloc.start()
    assert run(monkeypatch, tmp_path / "reference.npy", *ask, *where) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
    assert cfm.read(tmp_path / "z.npy").X.shape == (100_000, 128)


def test_blocks_are_those_of_transform_and_a_bad_row_is_named_by_its_position(whole):
    reference, _, given = parts(whole)
    aligner = MeanAligner(unseen="adapt").fit(reference.X, reference.obs["site"], **given)
    blocks = list(transform_blocks(aligner, whole.X, whole.obs["site"]))
    assert sum(rows.stop - rows.start for rows, _ in blocks) == len(whole)
    expected = aligner.transform(whole.X, factor=whole.obs["site"])
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), expected)
    X, new = whole.X.copy(), int(np.flatnonzero(whole.obs["site"] == "site3")[4])
    X[new, 0] = np.nan
    with pytest.raises(DataError, match=f"row {new}\\b"):
        aligner.transform(X, factor=whole.obs["site"])


def test_the_list_names_every_corrector_and_its_claim(monkeypatch, capsys):
    assert run(monkeypatch, "--list") == 0
    said = capsys.readouterr().out
    assert set(CLAIMS) == set(NAMES)
    assert all(f"{name}\n" in said and claim in said for name, claim in CLAIMS.items())


def said_of(capsys) -> str:
    said = capsys.readouterr()
    assert SENTINEL not in said.out + said.err
    return " ".join(said.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"--factor": "patient"}, "column 'patient' is given twice"),
        ({"--biology": "patient"}, "column 'patient' is given twice"),
        ({"--covariates": "age,age"}, "column 'age' is given twice"),
        ({"--factor": "patient", "--group": ""}, "at most 200 are taken"),
        ({"--factor": "age", "--covariates": ""}, "column 'age' holds numbers that are no levels"),
        ({"--set": "covbat=maybe"}, "covbat='maybe'"),
        ({"--set": "mean_only=perhaps"}, "mean_only='perhaps'"),
        ({"--set": "prior=2024-01-01"}, "no number, true, false or word"),
        ({"--set": "unseen=adapt", "--unseen": "refuse"}, "unseen is given twice"),
        ({"--set": "graph=site"}, "--graph"),
        ({"--apply-obs": "t.csv"}, "--apply-obs is about the cohort of --apply"),
    ],
)
def test_columns_in_two_roles_ids_and_odd_settings_are_refused(whole, tmp_path, monkeypatch, capsys, roles, message):
    many = np.resize(np.arange(250), len(whole)).astype(str)
    obs = whole.obs.assign(patient=[SENTINEL + name for name in many])
    cfm.write(whole.replace(obs=obs), tmp_path / "r.npz")
    asked = {**dict(zip(ROLES[::2], ROLES[1::2], strict=True)), **roles}
    given = [text for pair in asked.items() for text in pair if pair[1]]
    save = ("--save", tmp_path / "c.safetensors")
    assert run(monkeypatch, tmp_path / "r.npz", "--corrector", "ComBat", *given, *save) == 2
    assert message in said_of(capsys)
    assert not (tmp_path / "c.safetensors").exists()


def test_a_design_that_the_causal_model_cannot_tell_apart_is_refused_as_elsewhere(whole, tmp_path, monkeypatch, capsys):
    obs = whole.obs.assign(tumour=np.where(whole.obs["site"] == "site0", "a", "b"))
    cfm.write(whole.replace(obs=obs), tmp_path / "r.npz")
    for name in ("SCMCorrector", "MeanAligner"):
        save = ("--save", tmp_path / "c.safetensors")
        assert run(monkeypatch, tmp_path / "r.npz", "--corrector", name, *ROLES, *save) == 3
        assert "site0: a 20, b 0" in said_of(capsys)


@pytest.fixture
def saved(files, tmp_path, monkeypatch):
    out = tmp_path / "c.safetensors"
    ask = ("--corrector", "MeanAligner", *ROLES, "--unseen", "adapt", "--save", out)
    assert run(monkeypatch, files / "reference.npz", *ask) == 0
    return out


def test_a_saved_corrector_knows_its_column_and_refuses_another(files, whole, saved, tmp_path, monkeypatch, capsys):
    apply, out = ("--apply", files / "deployed.npy"), tmp_path / "z.npz"
    assert run(monkeypatch, "--load", saved, *apply, "--out", out) == 0
    assert cfm.read(out).info["corrections"][0]["factor"] == ["site"]
    for name in ("tumour", "patient", "age"):
        assert run(monkeypatch, "--load", saved, "--factor", name, *apply, "--out", tmp_path / "y.npz") == 2
        assert f"no level of '{name}' is among them" in said_of(capsys)
    assert not (tmp_path / "y.npz").exists()
    renamed = whole.replace(obs=whole.obs.rename(columns={"site": "centre"}))
    cfm.write(renamed, tmp_path / "renamed.npz")
    ask = ("--factor", "centre", "--apply", tmp_path / "renamed.npz", "--out", tmp_path / "y.npz")
    assert run(monkeypatch, "--load", saved, *ask) == 0


def test_rows_of_another_dimension_and_a_missing_level_are_named(files, whole, saved, tmp_path, monkeypatch, capsys):
    capsys.readouterr()
    cfm.write(Cohort(whole.X[:, :7], whole.obs), tmp_path / "short.npz")
    holes = whole.obs.assign(site=whole.obs["site"].where(np.arange(len(whole)) != 7))
    cfm.write(whole.replace(obs=holes), tmp_path / "holes.npz")
    for name, message in (("short", "rows have 7"), ("holes", "column 'site' has 1 missing values of 400 (row 7)")):
        ask = ("--apply", tmp_path / f"{name}.npz", "--out", tmp_path / "z.npz")
        assert run(monkeypatch, "--load", saved, *ask) == 2
        assert message in said_of(capsys)


def test_options_of_a_fit_are_not_passed_over_where_nothing_is_fitted(files, saved, tmp_path, monkeypatch, capsys):
    for option, value in (("--keep", "site=site1"), ("--missing", "drop"), ("--biology", "tumour"), ("--obs", "t.csv")):
        ask = ("--apply", files / "deployed.npy", "--out", tmp_path / "z.npz", option, value)
        assert run(monkeypatch, "--load", saved, *ask) == 2
        assert f"leave {option} out" in said_of(capsys)


def test_nothing_that_is_read_is_written_over(whole, saved, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "parts"
    folder.mkdir()
    cfm.write(whole, tmp_path / "x.npy")
    cfm.write(whole, folder / "a.parquet")
    cfm.write(whole, tmp_path / "x.zarr")
    table = tmp_path / "y.npz.obs.parquet"
    whole.obs.to_parquet(table)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for apply, out in (
        (("x.npy",), "x.npy.obs.parquet"),  # the table beside the array
        (("x.npy", "--apply-obs", table), "y.npz"),  # whose own table would lie there
        (("x.npy", "--apply-obs", table), table.name),
        (("parts",), "parts/b.parquet"),
        (("x.zarr",), "x.zarr/b.npz"),
    ):
        ask = ("--apply", tmp_path / apply[0], *apply[1:], "--out", tmp_path / out)
        assert run(monkeypatch, "--load", saved, *ask) == 2, out
        assert "one of the files that are read, or lies among them" in said_of(capsys)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
