"""Balanced counterfactual augmentation: the function, the torch module, and what they refuse."""

import copy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scm_samples import AGED, SCANNED, SITE, aged, bent, scanned

import causalfm as cfm
from causalfm.augment import CounterfactualAugment, balanced_counterfactuals
from causalfm.augment.level_draws import draw_levels
from causalfm.augment.move_tables import move_tables
from causalfm.errors import DataError, NotIdentifiedError
from causalfm.scm.parents import Values

MECHANISMS = (
    "additive",
    "location-scale",
    "interaction",
    "interaction-location-scale",
    "random-effects",
    "optimal-transport",
)


def confounded(cells, d=5, seed=0, shift=3.0):
    """Patients with two rows each by (site, class), as many as ``cells`` says; the site shifts every dimension."""
    rng, rows = np.random.default_rng(seed), []
    for (site, tumour), n in cells.items():
        for _ in range(n):
            patient = f"p{len(rows) // 2}"
            rows += [{"patient": patient, "site": site, "tumour": tumour}] * 2
    obs = pd.DataFrame(rows)
    mean = shift * (obs["site"] == "b").to_numpy()[:, None] + (obs["tumour"] == "y").to_numpy()[:, None]
    return cfm.Cohort(mean + rng.standard_normal((len(obs), d)), obs)


SKEWED = {("a", "x"): 15, ("a", "y"): 5, ("b", "x"): 5, ("b", "y"): 15}
FULL = {("a", "x"): 12, ("b", "y"): 12}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_rows_are_the_models_counterfactuals(mechanism):
    cohort, _ = scanned()
    scm = cfm.EmbeddingSCM(SCANNED, mechanism).fit(cohort)
    out = balanced_counterfactuals(scm, cohort, random_state=3)
    for site in np.unique(out.obs["site"]):
        rows = np.flatnonzero((out.obs["site"] == site).to_numpy())
        one = scm.counterfactual(cohort[rows], {"site": site})
        np.testing.assert_allclose(out.X[rows], one.X, rtol=0, atol=1e-12)
        assert one.obs["scanner"].tolist() == out.obs["scanner"].iloc[rows].tolist()
        np.testing.assert_array_equal(one.obs["noise:scanner"], out.obs["noise:scanner"].iloc[rows])
    back = scm.counterfactual(out, {"site": "site1"})  # do(a) then do(b) is do(b)
    straight = scm.counterfactual(cohort, {"site": "site1"})
    np.testing.assert_allclose(back.X, straight.X, rtol=0, atol=1e-9)
    assert (out.obs["scanner"] != cohort.obs["scanner"]).any()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_module_moves_as_the_function_does(mechanism):
    cohort, _ = scanned()
    scm = cfm.EmbeddingSCM(SCANNED, mechanism).fit(cohort)
    out = balanced_counterfactuals(scm, cohort, random_state=3)
    augment = CounterfactualAugment(scm, random_state=3)
    codes, numbers = augment.encode(cohort)
    assert (numbers is None) == (mechanism in ("additive", "interaction", "random-effects"))
    z, target = torch.tensor(cohort.X, dtype=torch.float32), augment.encode(out)[0]
    np.testing.assert_allclose(augment.move(z, codes, target, numbers), out.X, rtol=0, atol=1e-5)
    drawn = augment.draw(codes).codes[:, augment.columns.index("site")]  # the first call of a seed is the first copy
    np.testing.assert_array_equal(drawn, target[:, augment.columns.index("site")])
    own = augment.move(z, codes, codes, numbers)
    assert torch.equal(own, z)
    exact = torch.tensor(cohort.X)  # the tables are float32: rows that stay are not rounded to it
    stays = (codes == target).all(dim=1)
    assert torch.equal(augment.move(exact, codes, target, numbers)[stays], exact[stays])
    assert stays.any()


def test_numbers_enter_the_residual():
    cohort, _ = aged(age_effect=2.0)
    scm = cfm.EmbeddingSCM(AGED, "location-scale").fit(cohort)
    out, augment = balanced_counterfactuals(scm, cohort), CounterfactualAugment(scm)
    codes, numbers = augment.encode(cohort)
    z, target = torch.tensor(cohort.X).float(), augment.encode(out)[0]
    np.testing.assert_allclose(augment.move(z, codes, target, numbers), out.X, rtol=0, atol=1e-5)
    beyond = numbers + 100.0  # straight beyond the range seen
    moved = cohort.replace(obs=cohort.obs.assign(age=cohort.obs["age"] + 100.0))
    far = balanced_counterfactuals(scm, moved)
    np.testing.assert_allclose(augment.move(z, codes, target, beyond), far.X, rtol=0, atol=1e-4)
    with pytest.raises(DataError, match="age cause Z: pass numbers"):
        augment(z, codes)


def test_levels_no_longer_tell_the_class():
    cohort = confounded(SKEWED)
    scm = cfm.EmbeddingSCM(SITE).fit(cohort)
    out = balanced_counterfactuals(scm, cohort, copies=100)
    share = pd.crosstab(out.obs["tumour"], out.obs["site"], normalize="index").to_numpy()
    se = np.sqrt(0.25 / 4000)
    assert np.abs(share - 0.5).max() < 4 * se  # patients: half at each site
    # the site moves classes apart by nothing any more: what is left between them is the class effect
    gap = {s: cohort.X[(cohort.obs["tumour"] == s).to_numpy()].mean() for s in ("x", "y")}
    after = {s: out.X[(out.obs["tumour"] == s).to_numpy()].mean() for s in ("x", "y")}
    effect = float(scm.contrast({"site": "b"}, {"site": "a"}).difference.mean())
    np.testing.assert_allclose(gap["y"] - gap["x"] - (after["y"] - after["x"]), effect / 2, atol=4 * effect * se)
    record = out.info["augmented"]
    assert record["kept"] == 0
    assert record["moved"] + record["own_level"] == 100 * len(cohort)
    assert record["target"] == pytest.approx({"site=a": 0.5, "site=b": 0.5})


def test_the_target_is_that_of_patients_or_even():
    cells = {("a", "x"): 20, ("a", "y"): 10, ("b", "x"): 5, ("b", "y"): 5}
    cohort = confounded(cells)
    rows = np.concatenate([np.flatnonzero(cohort.obs["site"] == "b"), np.arange(0, 60, 2)])
    fewer = cohort[rows]  # patients of b keep two rows, those of a one: patients weigh equally
    scm = cfm.EmbeddingSCM(SITE).fit(fewer)
    marginal, even = (balanced_counterfactuals(scm, fewer, target=t).info["augmented"] for t in ("marginal", "uniform"))
    assert marginal["target"] == pytest.approx({"site=a": 0.75, "site=b": 0.25})
    assert even["target"] == pytest.approx({"site=a": 0.5, "site=b": 0.5})


def test_copies_originals_and_ids():
    cohort = confounded(SKEWED)
    before = cohort.X.copy(), cohort.obs.copy()
    scm = cfm.EmbeddingSCM(SITE).fit(cohort)
    out = balanced_counterfactuals(scm, cohort, copies=2, include_original=True)
    n = len(cohort)
    np.testing.assert_array_equal(out.X[:n], cohort.X)
    assert out.obs["augmented:copy"].tolist() == [0] * n + [1] * n + [2] * n
    assert out.obs["augmented:row"].tolist() == 3 * list(range(n))
    assert out.obs["patient"].tolist() == 3 * cohort.obs["patient"].tolist()
    assert not np.array_equal(out.X[n : 2 * n], out.X[2 * n :])
    np.testing.assert_array_equal(out.X[n : 2 * n], balanced_counterfactuals(scm, cohort).X)
    assert not np.array_equal(out.X[n : 2 * n], balanced_counterfactuals(scm, cohort, random_state=1).X)
    assert balanced_counterfactuals(scm, cohort).obs.index.equals(cohort.obs.index)
    np.testing.assert_array_equal(cohort.X, before[0])
    pd.testing.assert_frame_equal(cohort.obs, before[1])
    with pytest.raises(DataError, match="augmented before"):
        balanced_counterfactuals(scm, out)


def test_several_factors_are_drawn_in_combinations_that_were_seen():
    cohort, _ = scanned()
    cohort = cohort[((cohort.obs["site"] != "site0") | (cohort.obs["scanner"] != "scanner2")).to_numpy()]
    scm = cfm.EmbeddingSCM(SCANNED).fit(cohort)
    out = balanced_counterfactuals(scm, cohort, ["site", "scanner"], copies=20, target="uniform")
    found = pd.crosstab(out.obs["site"], out.obs["scanner"])
    assert found.loc["site0", "scanner2"] == 0
    assert (found.drop(index="site0") > 0).all(axis=None)
    assert out.info["augmented"]["follow"] == []
    scanner = balanced_counterfactuals(scm, cohort, "scanner")
    assert scanner.obs["site"].tolist() == cohort.obs["site"].tolist()
    assert scanner.obs["noise:scanner"].isna().all()


def test_rows_without_support_stay_and_are_counted():
    cohort = confounded({("a", "x"): 15, ("a", "y"): 2, ("b", "x"): 5, ("b", "y"): 15})
    scm = cfm.EmbeddingSCM(SITE).fit(cohort)
    out = balanced_counterfactuals(scm, cohort, copies=5)
    record, n = out.info["augmented"], len(cohort)
    stays = (cohort.obs["site"] == "b") & (cohort.obs["tumour"] == "y")  # class y has 2 patients at a
    assert (out.obs["site"].to_numpy()[np.tile(stays, 5)] == "b").all()
    np.testing.assert_array_equal(out.X[np.tile(stays, 5)], np.tile(cohort.X[stays], (5, 1)))
    assert record["kept"] == record["kept_at"]["site=b, tumour=y"] > 0
    assert record["moved"] + record["own_level"] + record["kept"] == 5 * n
    augment = CounterfactualAugment(scm)
    codes, _ = augment.encode(cohort)
    for _ in range(5):
        augment(torch.tensor(cohort.X).float(), codes)
    assert augment.counts() == {"rows": 5 * n, "moved": record["moved"], "kept": record["kept"]}
    willing = balanced_counterfactuals(cfm.EmbeddingSCM(SITE, assume="additive").fit(cohort), cohort, copies=5)
    assert willing.info["augmented"]["kept"] == 0


def test_full_confounding_is_refused_and_other_classes_lend_the_effect():
    cohort = confounded(FULL)
    for assume in (None, "additive"):  # no assumption on sums tells one column from its copy
        scm = cfm.EmbeddingSCM(SITE, assume=assume).fit(cohort)
        with pytest.raises(NotIdentifiedError, match=r"cannot be told apart.*a: x 12, y 0; b: x 0, y 12"):
            balanced_counterfactuals(scm, cohort)
        augment = CounterfactualAugment(scm)
        codes, _ = augment.encode(cohort)
        z = torch.tensor(cohort.X).float()
        assert torch.equal(augment(z, codes), z)
        assert augment.counts()["moved"] == 0 < augment.counts()["kept"]
    both = confounded({**FULL, ("a", "z"): 40, ("b", "z"): 40}, d=400)
    lung = both[both.obs["tumour"].isin(["x", "y"]).to_numpy()]
    with pytest.raises(NotIdentifiedError, match=r"fewer than 3 patients of their tumour.*assume='additive'"):
        balanced_counterfactuals(cfm.EmbeddingSCM(SITE).fit(both), lung)
    out = balanced_counterfactuals(cfm.EmbeddingSCM(SITE, assume="additive").fit(both), lung, copies=20)
    b, y = ((out.obs[c] == v).to_numpy() for c, v in (("site", "b"), ("tumour", "y")))
    moved = np.array([[out.X[(b == s) & (y == t)].mean() for s in (0, 1)] for t in (0, 1)])
    # site effect 3 and class effect 1, as drawn; both rest on about 24 patients in 400 dimensions
    np.testing.assert_allclose(moved[:, 1] - moved[:, 0], 3.0, atol=0.1)
    np.testing.assert_allclose(moved[1] - moved[0], 1.0, atol=0.1)


def test_support_is_that_of_the_model():
    """Tables for the device say what ``refuse_unsupported`` says, over random sparse designs."""
    from causalfm.scm.support import refuse_unsupported

    rng, seen = np.random.default_rng(5), {"open": 0, "few": 0, "fine": 0}
    for _ in range(12):
        n, k = 26, int(rng.integers(2, 5))
        site, tumour = rng.integers(k, size=n), rng.integers(3, size=n)
        if rng.random() < 0.5:
            tumour = np.where(rng.random(n) < 0.9, site % 3, tumour)
        scanner = np.where(rng.random(n) < 0.6, site, rng.integers(3, size=n))
        obs = pd.DataFrame({"patient": np.arange(n), "site": site, "scanner": scanner, "tumour": tumour}).astype(str)
        graph = cfm.CausalGraph("site; scanner; tumour; {site, scanner, tumour} -> Z", biology="tumour",
                                technical=["site", "scanner"], group="patient")  # fmt: skip
        cohort = cfm.Cohort(rng.standard_normal((n, 2)), obs)
        scm = cfm.EmbeddingSCM(graph).fit(cohort)
        tables = move_tables(scm, ["site", "scanner"], "uniform")
        codes = scm.fitted.mean.parents.read(cohort).levels[: n // 2]
        columns = [tables.spec["columns"].index(c) for c in scm.fitted.mean.parents.categorical]
        assert columns == [0, 1, 2]
        arrays = {name: torch.from_numpy(np.array(v)) for name, v in tables.arrays.items()}
        for c, combination in enumerate(tables.arrays["combinations"]):
            at = torch.full((len(codes),), c)
            draw = draw_levels(tables.spec, arrays, torch.from_numpy(codes), at, torch.zeros((len(codes), 0)))
            target = codes.copy()
            target[:, [1, 2]] = combination
            for i in range(len(codes)):
                rows, none = slice(i, i + 1), np.zeros((len(codes), 0))
                try:
                    refuse_unsupported(
                        scm.fitted, graph, {"site": "?"}, Values(codes, none)[rows], Values(target, none)[rows],
                        assume=None,
                    )  # fmt: skip
                    found = "fine"
                except DataError as error:
                    found = "few" if "fewer than" in str(error) else "open"
                assert (found == "open", found == "few") == (bool(draw.open[i]), bool(draw.few[i]))
                seen[found] += 1
    assert min(seen.values()) > 30


def test_training_in_a_loader_loop():
    torch.manual_seed(0)
    cohort = confounded({k: 4 * v for k, v in SKEWED.items()}, shift=4.0)
    scm = cfm.EmbeddingSCM(SITE).fit(cohort)
    augment = CounterfactualAugment(scm, random_state=1)
    codes, _ = augment.encode(cohort)
    y = torch.tensor((cohort.obs["tumour"] == "y").to_numpy(), dtype=torch.float32)
    data = torch.utils.data.TensorDataset(torch.tensor(cohort.X).float(), codes, y)
    gaps = {}
    for name, move in {"plain": None, "augmented": augment}.items():
        head = torch.nn.Linear(5, 1)
        for _ in range(30):
            for z, c, label in torch.utils.data.DataLoader(data, batch_size=64, shuffle=True):
                head.zero_grad()
                moved = z if move is None else move(z, c)
                torch.nn.functional.binary_cross_entropy_with_logits(head(moved)[:, 0], label).backward()
                with torch.no_grad():
                    for parameter in head.parameters():
                        parameter -= 0.1 * parameter.grad
        with torch.no_grad():
            gaps[name] = abs(
                float(head.weight @ torch.tensor(scm.contrast({"site": "b"}, {"site": "a"}).difference).float())
            )
    assert augment.counts()["rows"] == 30 * len(cohort)
    assert augment.calls == 30 * 5
    assert gaps["augmented"] < 0.4 * gaps["plain"]  # how much the site alone moves the score


def test_a_state_comes_back_and_draws_on():
    cohort, _ = scanned()
    scm = cfm.EmbeddingSCM(SCANNED, "optimal-transport").fit(cohort)
    augment = CounterfactualAugment(scm, random_state=3)
    codes, numbers = augment.encode(cohort)
    z = torch.tensor(cohort.X).float()
    augment(z, codes, numbers)
    state = copy.deepcopy(augment.state_dict())
    second = augment(z, codes, numbers)
    again, alone = CounterfactualAugment(scm, random_state=8), CounterfactualAugment.from_state(state)
    again.load_state_dict(state)
    for module in (again, alone):
        assert torch.equal(module(z, codes, numbers), second)
        assert module.counts() == augment.counts()
    assert not torch.equal(CounterfactualAugment(scm, random_state=3)(z, codes, numbers), second)
    assert torch.equal(copy.deepcopy(augment)(z, codes, numbers), augment(z, codes, numbers))
    with pytest.raises(DataError, match="other factors"):
        CounterfactualAugment(scm, "scanner").set_extra_state(state["_extra_state"])


ALONE = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pandas", "scipy", "sklearn", "networkx", "anndata", "safetensors", "matplotlib"}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocked())
import torch
import causalfm as cfm
saved = torch.load(sys.argv[1], weights_only=True)
augment = cfm.augment.CounterfactualAugment.from_state(saved["state"])
assert torch.equal(augment(saved["z"], saved["codes"]), saved["moved"])
print("same")
"""


def test_training_needs_torch_and_numpy_only(tmp_path):
    cohort, _ = scanned()
    augment = CounterfactualAugment(cfm.EmbeddingSCM(SCANNED).fit(cohort))
    codes, _ = augment.encode(cohort)
    z, state = torch.tensor(cohort.X).float(), copy.deepcopy(augment.state_dict())
    torch.save({"state": state, "z": z, "codes": codes, "moved": augment(z, codes)}, tmp_path / "state.pt")
    command = [sys.executable, "-c", ALONE, str(tmp_path / "state.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr


def test_gradients_types_and_eval():
    cohort = confounded(SKEWED)
    augment = CounterfactualAugment(cfm.EmbeddingSCM(SITE, "location-scale").fit(cohort))
    codes, _ = augment.encode(cohort)
    z = torch.tensor(cohort.X).float().requires_grad_()
    augment(z, codes).sum().backward()
    assert torch.isfinite(z.grad).all()
    assert (z.grad > 0).all()
    assert augment(z.detach().half(), codes).dtype == torch.float16
    augment.eval()
    assert augment(z, codes) is z
    assert augment.calls == 2


def test_a_scanner_that_follows_is_drawn_from_what_explains_the_row():
    """Over many calls a row's scanner at its own site never changes, and elsewhere follows the shares there."""
    cohort, _ = scanned(n_patients=900)
    scm = cfm.EmbeddingSCM(SCANNED).fit(cohort)
    augment = CounterfactualAugment(scm)
    codes, _ = augment.encode(cohort)
    site, scanner = (augment.columns.index(c) for c in ("site", "scanner"))
    draws = torch.stack([augment.draw(codes).codes for _ in range(30)])
    own = draws[:, :, site] == codes[:, site]
    assert (draws[:, :, scanner] == codes[:, scanner])[own].all()
    shares = scm.fitted.tables["scanner"].shares()
    for s in range(3):
        at = draws[:, :, site] == s
        found = torch.bincount(draws[:, :, scanner][at], minlength=3).numpy() / int(at.sum())
        np.testing.assert_allclose(found, shares[s], atol=0.02)


def test_a_trained_flow_moves_rows_as_the_model_does(monkeypatch):
    """The flow bends rows: a copy is the counterfactual of the levels drawn for it."""
    monkeypatch.setattr("causalfm.scm.flow_training.STEPS", 120)
    cohort, _ = bent(n_patients=240)
    scm = cfm.EmbeddingSCM(SITE, "flow").fit(cohort)
    assert scm.fitted.noise.record["strength"] > 0  # it is no longer transport
    out = balanced_counterfactuals(scm, cohort, copies=2, random_state=3)
    moved = 0
    for number in (1, 2):
        part = out[np.flatnonzero((out.obs["augmented:copy"] == number).to_numpy())]
        for site in np.unique(part.obs["site"]):
            rows = np.flatnonzero((part.obs["site"] == site).to_numpy())
            one = scm.counterfactual(cohort[rows], {"site": site})
            np.testing.assert_allclose(part.X[rows], one.X, rtol=0, atol=1e-6)
            moved += int((part.X[rows] != cohort.X[rows]).any(axis=1).sum())
    assert moved > len(cohort)
