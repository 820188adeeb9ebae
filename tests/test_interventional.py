"""Interventions in a training loop: independence of biology, masks, workers and seeds, transforms, refusals."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chi2_contingency

import causalfm as cfm
from causalfm.augment import (
    CounterfactualAugment,
    InterventionalAugment,
    ScannerProfile,
    StainLibrary,
    StainSwap,
)
from causalfm.augment.factor_changes import ScannerChange
from causalfm.datasets import histology
from causalfm.errors import DataError, GraphError

GRAPH = cfm.CausalGraph(
    "site <-> tumour; site -> {scanner, stain}; {tumour, site, scanner, stain} -> Z",
    biology="tumour",
    technical=["site", "scanner", "stain"],
    group="patient",
)
SITE = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")


class Painted:
    """A change whose truth is plain: the red channel holds the level; images with a blue pixel cannot be changed."""

    levels = ("a", "b", "c")

    def __call__(self, images, source, target, seed):
        changed = ~(images[:, 2] > 0).flatten(1).any(dim=1)
        moved = images.clone()
        assert (images[:, 0, 0, 0].long() == source).all()  # what it is told is what the images show
        moved[:, 0] = target[:, None, None].to(images.dtype)
        moved[:, 1] = seed % 251
        return torch.where(changed[:, None, None, None], moved, images), changed


def painted(n=300, seed=0, share=0.9):
    """Rows whose site nearly gives the tumour away, and pictures that show the site."""
    rng = np.random.default_rng(seed)
    tumour = np.arange(n) % 2
    site = np.where(rng.random(n) < share, tumour, rng.integers(0, 3, n))
    obs = pd.DataFrame(
        {"tumour": np.array(["x", "y"])[tumour], "site": np.array(["a", "b", "c"])[site], "patient": np.arange(n)}
    )
    images = torch.zeros((n, 3, 4, 4), dtype=torch.uint8)
    images[:, 0] = torch.from_numpy(site).to(torch.uint8)[:, None, None]
    return images, obs


def augmented(obs, **options):
    return InterventionalAugment(SITE, {"site": Painted()}, obs, **options)


def test_the_drawn_level_is_independent_of_biology_and_labels_stay():
    images, obs = painted(3000)
    augment = augmented(obs)
    codes = augment.encode(obs)
    before = pd.crosstab(obs["tumour"], obs["site"])
    assert chi2_contingency(before).pvalue < 1e-100
    moved, done = augment(images, codes)
    after = np.array([np.bincount(done.codes[:, 0][(obs["tumour"] == t).to_numpy()], minlength=3) for t in ("x", "y")])
    assert after.sum(axis=1).tolist() == before.sum(axis=1).tolist()  # biology as frequent as it was
    assert chi2_contingency(after).pvalue > 1e-3
    assert np.abs(after.sum(axis=0) - 1000).max() < 100  # 3.9 standard deviations
    assert torch.equal(moved[:, 0, 0, 0].long(), done.codes[:, 0])  # what is recorded is what is shown
    assert not done.kept.any()
    # exactly independent: rows of other levels and labels get the same draws
    shuffled = augmented(obs)
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(obs)))
    assert torch.equal(shuffled(images[order], codes[order])[1].drawn, done.drawn)


def test_rows_at_their_own_level_are_the_same_bytes_and_others_only_where_asked():
    images, obs = painted()
    augment = augmented(obs, probability=0.5)
    codes = augment.encode(obs)
    moved, done = augment(images, codes)
    same = (done.codes == codes)[:, 0]
    assert torch.equal(moved[same], images[same])
    assert 0.25 < float((~same).float().mean()) < 0.42  # half are drawn anew, a third of these draw their own
    assert augment.counts() == {
        "rows": 300, "drawn_elsewhere": int((~same).sum()), "changed": int((~same).sum()),
        "kept": 0, "waiting": 0, "embedded": 0,
    }  # fmt: skip
    augment.eval()
    again, done = augment(images, codes)
    assert again is images
    assert torch.equal(done.drawn, codes)


def test_targets_and_donors():
    images, obs = painted(3000)
    codes = augmented(obs).encode(obs)
    shares = obs.drop_duplicates(["patient", "site"])["site"].value_counts(normalize=True).sort_index().to_numpy()
    for options, expected in (
        ({}, [1 / 3] * 3),
        ({"target": "marginal"}, shares),
        ({"target": {"site": {"a": 1, "b": 0, "c": 3}}}, [0.25, 0, 0.75]),
        ({"donors": {"site": ["b", "c"]}}, [0, 0.5, 0.5]),
    ):
        _, done = augmented(obs, **options)(images, codes)
        found = np.bincount(done.codes[:, 0], minlength=3) / 3000
        np.testing.assert_allclose(found, expected, atol=0.04)


def test_rows_that_cannot_change_are_marked_and_keep_their_level():
    images, obs = painted()
    images[::3, 2] = 255
    augment = augmented(obs)
    codes = augment.encode(obs)
    moved, done = augment(images, codes)
    spoilt = torch.arange(300) % 3 == 0
    elsewhere = (done.drawn != codes)[:, 0]
    assert torch.equal(done.kept[:, 0], spoilt & elsewhere)
    assert torch.equal(moved[spoilt], images[spoilt])
    assert torch.equal(done.codes[spoilt], codes[spoilt])
    assert augment.counts()["kept"] == int((spoilt & elsewhere).sum()) > 50


@pytest.fixture(scope="module")
def rendered():
    obs = histology.cohort_table(8, 1, 0.0, 0).assign(scanner="Argus 2")
    images = torch.from_numpy(histology.render_cohort(obs, random_state=0, size=64, n_jobs=1)).permute(0, 3, 1, 2)
    return images.contiguous(), obs


def test_stain_and_scanner_of_tissue_and_what_nobody_draws(rendered):
    images, obs = rendered
    images = torch.cat([images, torch.full_like(images[:1], 250)])  # glass
    obs = pd.concat([obs, obs.iloc[:1]])
    library = StainLibrary.fit(images, obs["stain"].tolist())
    profiles = {"Argus 2": ScannerProfile(), "Meridian": ScannerProfile(gamma=1.2, read_noise=0.01)}
    augment = InterventionalAugment(
        GRAPH, {"stain": library, "scanner": profiles}, obs, donors={"scanner": list(profiles)}
    )
    assert augment.untouched == ("site",)
    assert augment.levels["scanner"] == ("Argus 2", "Meridian")  # a donor that no training row has
    codes = augment.encode(obs)
    moved, done = augment(images, codes)
    for i in range(len(images)):
        expected, changed = images[i : i + 1], True
        stains = [augment.levels["stain"][int(c[i, 0])] for c in (codes, done.drawn)]
        if stains[0] != stains[1]:
            expected, changed = StainSwap(library)(expected, *stains)
        assert bool(done.kept[i, 0]) == (not bool(changed))
        if done.drawn[i, 1] == codes[i, 1]:
            assert torch.equal(moved[i : i + 1], expected)
        else:  # noise has its own seed; the response is the profile's
            response = (expected.float() / 255).clamp(1e-6) ** 1.2 * 255
            assert (moved[i : i + 1].float() - response).abs().mean() < 4
    assert (done.codes[:, 1] == done.drawn[:, 1]).all()
    assert bool(done.kept[8, 0]) == bool(done.drawn[8, 0] != codes[8, 0])


def test_scanner_noise_follows_the_seed(rendered):
    images, _ = rendered
    change = ScannerChange({"a": ScannerProfile(), "b": ScannerProfile(read_noise=0.05)})
    a, b = torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.int64)
    assert torch.equal(change(images, a, b, 3)[0], change(images, a, b, 3)[0])
    assert not torch.equal(change(images, a, b, 3)[0], change(images, a, b, 4)[0])
    assert torch.equal(change(images, a, a, 3)[0], images)


def samples(images, obs):
    return [
        {"image": image, "tumour": t, "site": s, "row": i}
        for i, (image, t, s) in enumerate(zip(images, obs["tumour"], obs["site"], strict=True))
    ]


def epochs(augment, rows, workers, n=2, batch=25, **options):
    loader = torch.utils.data.DataLoader(rows, batch, collate_fn=augment.collate(), num_workers=workers, **options)
    out = []
    for _ in range(n):
        batches = list(loader)
        out.append((torch.cat([b["intervened"].drawn for b in batches]), torch.cat([b["image"] for b in batches])))
    return out


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_and_epochs_differ_and_one_seed_repeats_them(persistent):
    images, obs = painted(100)
    rows = samples(images, obs)
    augment = augmented(obs, random_state=5)
    options = {"workers": 2, "persistent_workers": persistent}
    first, second = epochs(augment, rows, **options)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0][:25], first[0][25:50])  # two workers, one batch each
    torch.manual_seed(99)  # not the seed of the loader: the object's
    again = epochs(augmented(obs, random_state=5), rows, **options)
    for (drawn, shown), (other, beside) in zip((first, second), again, strict=True):
        assert torch.equal(drawn, other)
        assert torch.equal(shown, beside)
        assert torch.equal(shown[:, 0, 0, 0].long(), drawn[:, 0])
    assert not torch.equal(epochs(augmented(obs, random_state=6), rows, **options, n=1)[0][0], first[0])
    assert augment.counts()["rows"] == 200  # counted in the workers, seen here


def test_a_state_goes_on_where_it_stopped():
    images, obs = painted(100)
    augment = augmented(obs, random_state=5)
    rows = samples(images, obs)
    epochs(augment, rows, 0, n=1)
    state = copy.deepcopy(augment.state_dict())
    resumed = augmented(obs)
    resumed.load_state_dict(state)
    copied, pickled = copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))
    expected = epochs(augment, rows, 0, n=1)[0]
    for other in (resumed, copied, pickled):
        assert torch.equal(epochs(other, rows, 0, n=1)[0][0], expected[0])
        assert other.counts()["rows"] == 200
    fresh = augmented(obs, donors={"site": ["a", "b"]})
    with pytest.raises(DataError, match="other donors"):
        fresh.load_state_dict(state)
    with pytest.raises(DataError, match="no state"):
        fresh.set_extra_state({"schema": 1})


def test_tuples_codes_and_single_images():
    images, obs = painted(20)
    augment = augmented(obs)
    codes = augment.encode(obs)[:, 0]
    by_place = augment.transform(image=0, factors={"site": 2})
    moved, label, site, done = by_place(images, torch.arange(20), codes)
    assert torch.equal(site, codes)
    assert torch.equal(label, torch.arange(20))
    assert torch.equal(moved[:, 0, 0, 0].long(), done.codes[:, 0])
    one, target = augment.transform()(images[3], {"site": obs["site"][3], "tumour": "y"})
    assert one.shape == images[3].shape
    assert target["tumour"] == "y"
    assert int(one[0, 0, 0]) == int(target["intervened"].codes[0])
    for wrong, message in (
        ({"image": images}, "nothing at 'site'"),
        ({"image": images.numpy(), "site": codes}, "convert it to a tensor"),
        ({"image": images, "site": codes.float()}, "names or codes"),
        ({"image": images[0], "site": "elsewhere"}, "'elsewhere'"),
        (images, "pass a mapping"),
    ):
        with pytest.raises(DataError, match=message):
            augment.transform()(wrong)


def test_inside_a_torchvision_compose():
    v2 = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
    from torchvision import tv_tensors

    images, obs = painted(40)
    augment = augmented(obs)
    chain = v2.Compose([v2.RandomHorizontalFlip(0.5), augment.transform(), v2.ToDtype(torch.float32, scale=True)])
    seen = set()
    for image, site in zip(images, obs["site"], strict=True):
        out = chain({"image": tv_tensors.Image(image), "site": site, "label": torch.tensor(1)})
        assert isinstance(out["image"], tv_tensors.Image)
        assert out["image"].dtype == torch.float32
        level = int(out["intervened"].codes[0])
        assert round(float(out["image"][0, 0, 0]) * 255) == level
        seen.add(level)
    assert seen == {0, 1, 2}
    batch, target = chain(tv_tensors.Image(images), {"site": obs["site"].tolist()})
    assert torch.equal((batch[:, 0, 0, 0] * 255).round().long(), target["intervened"].codes[:, 0])


def test_images_and_embeddings_share_one_draw():
    images, obs = painted(600, share=0.7)
    rng = np.random.default_rng(0)
    shift = {"a": 0.0, "b": 4.0, "c": -4.0}
    X = rng.standard_normal((600, 3)) + obs["site"].map(shift).to_numpy()[:, None] * [1, 0, 0]
    scm = cfm.EmbeddingSCM(SITE, "additive").fit(cfm.Cohort(X, obs))
    model = CounterfactualAugment(scm)
    augment = augmented(obs, embedding=model, image_share=0.5)
    codes = augment.encode(obs)
    moved, done = augment(images, codes)
    assert 150 < int(done.waiting.sum()) < 250  # half of two thirds
    assert torch.equal(moved[done.waiting], images[done.waiting])
    z = torch.tensor(X).float()
    z_codes, _ = model.encode(cfm.Cohort(X, obs))
    after, final = augment.embed(z, z_codes, done)
    assert not final.waiting.any()
    rows = done.waiting & ~final.kept.any(dim=1)
    assert torch.equal(final.codes, final.drawn)
    assert torch.equal(after[~done.waiting], z[~done.waiting])
    names = np.array(augment.levels["site"])
    expected = [
        shift[names[int(d)]] - shift[names[int(c)]] for d, c in zip(final.drawn[rows, 0], codes[rows, 0], strict=True)
    ]
    np.testing.assert_allclose((after - z)[rows, 0], expected, atol=0.6)
    assert augment.counts()["embedded"] == int(rows.sum())
    with pytest.raises(DataError, match="no embedding"):
        augmented(obs, image_share=0.5)
    short = obs.assign(site=obs["site"].replace("c", "a"))
    other = CounterfactualAugment(cfm.EmbeddingSCM(SITE, "additive").fit(cfm.Cohort(X, short)))
    with pytest.raises(DataError, match="never saw"):
        augmented(obs, embedding=other, image_share=0.5)


def test_embeddings_without_support_are_kept_and_marked():
    images, obs = painted(600, share=0.7)
    obs = obs[(obs["site"] != "c") | (obs["tumour"] == "x")].reset_index(drop=True)  # no patient of y at c
    scm = cfm.EmbeddingSCM(SITE, "interaction").fit(
        cfm.Cohort(np.random.default_rng(0).standard_normal((len(obs), 2)), obs)
    )
    model = CounterfactualAugment(scm)
    augment = augmented(obs, embedding=model, image_share=0.0)
    codes, z_codes = augment.encode(obs), model.encode(cfm.Cohort(np.ones((len(obs), 2)), obs))[0]
    done = augment(images[: len(obs)], codes)[1]
    z, final = augment.embed(torch.zeros(len(obs), 2), z_codes, done)
    stuck = torch.from_numpy((obs["tumour"] == "y").to_numpy()) & (done.drawn[:, 0] == 2)
    assert torch.equal(final.kept[:, 0], stuck)
    assert torch.equal(final.codes[stuck], codes[stuck])
    assert not z[stuck].any()


def test_embeddings_move_by_their_own_numbers():
    images, obs = painted(600, share=0.7)
    rng = np.random.default_rng(0)
    obs["age"] = rng.normal(60.0, 10.0, 600)
    scale = 1.0 + 2.0 * (obs["site"] == "b").to_numpy()[:, None]
    X = 0.5 * obs[["age"]].to_numpy() + scale * rng.standard_normal((600, 2))
    aged = cfm.CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
    cohort = cfm.Cohort(X, obs)
    model = CounterfactualAugment(cfm.EmbeddingSCM(aged, "location-scale").fit(cohort))
    augment = augmented(obs, embedding=model, image_share=0.5)
    done = augment(images, augment.encode(obs))[1]
    z, (codes, numbers) = torch.tensor(X).float(), model.encode(cohort)
    for wrong in (None, numbers[:5], numbers[:, :0]):
        with pytest.raises(DataError, match=r"age cause Z: pass numbers \(600, 1\)"):
            augment.embed(z, codes, done, wrong)
    with pytest.raises(DataError, match="300 codes of 600 images"):
        augment.embed(z[:300], codes[:300], done, numbers[:300])
    assert model.counts()["rows"] == 0  # what is refused is not drawn for
    after, final = augment.embed(z, codes, done, numbers)
    target = codes.clone()
    target[:, model.columns.index("site")] = final.codes[:, 0]  # both name a, b, c in this order
    rows = done.waiting
    torch.testing.assert_close(after[rows], model.move(z, codes, target, numbers)[rows])
    assert torch.equal(after[~rows], z[~rows])
    away = model.move(z, codes, target, numbers.flip(0))[rows] - after[rows]
    assert away.abs().max() > 1.0  # numbers of other rows would be seen


TWO = {"technical": ["site", "scanner"]}
SELECTED = {"technical": "site", "selected": "S"}


@pytest.mark.parametrize(
    ("arrows", "options", "message"),
    [
        ("site <-> tumour; tumour -> Z; site -> scanner; scanner <-> age; age -> Z", TWO, "no image"),
        ("site -> tumour; {site, tumour} -> Z", {"technical": "site"}, "site <-> tumour"),
        ("{site, tumour} -> S; {site, tumour} -> Z", SELECTED, "decide together"),
        ("site -> scanner; {scanner, tumour} -> S; {site, tumour} -> Z", TWO | {"selected": "S"}, "decide together"),
        ("site -> S; S <-> tumour; {site, tumour} -> Z", SELECTED, "decide together"),
    ],
)
def test_graphs_that_do_not_allow_it(arrows, options, message):
    _, obs = painted(20)
    graph = cfm.CausalGraph(arrows, biology="tumour", group="patient", **options)
    with pytest.raises(GraphError, match=message):
        InterventionalAugment(graph, {"site": Painted()}, obs)


def test_selection_by_the_factor_alone_is_no_obstacle():
    graph = cfm.CausalGraph(
        "region -> site; site -> S; site <-> tumour; {site, tumour} -> Z",
        biology="tumour", technical="site", group="patient", selected="S",
    )  # fmt: skip
    _, obs = painted(20)
    assert InterventionalAugment(graph, {"site": Painted()}, obs).columns == ("site",)


def test_arguments_are_checked():
    images, obs = painted(20)
    more = obs.assign(site=obs["site"].where(obs.index < 17, "elsewhere"))
    for build, message in (
        (lambda: InterventionalAugment(SITE, {"tumour": Painted()}, obs), "no technical factor"),
        (lambda: InterventionalAugment(SITE, {}, obs), "changes is empty"),
        (lambda: InterventionalAugment(SITE, {"site": 3}, obs), "pass a StainLibrary"),
        (lambda: augmented(more), r"'elsewhere' \(3 rows\) has no donor"),
        (lambda: augmented(obs, donors={"site": ["a", "far"]}), "'far'"),
        (lambda: augmented(obs, donors={"site": ["a"]}), "one level"),
        (lambda: augmented(obs, donors={"scanner": ["a"]}), "nobody changes"),
        (lambda: augmented(obs, target="even"), "target='even'"),
        (lambda: augmented(obs, target={"site": {"a": 1.0}}), "all and no others"),
        (lambda: augmented(obs, probability=2), "probability=2"),
        (lambda: augmented(obs.drop(columns="site")), "no column 'site'"),
        (lambda: augmented(obs.assign(site=obs["site"].where(obs.index > 2))), "missing in 3 of 20 rows"),
    ):
        with pytest.raises(DataError, match=message):
            build()
    augment = augmented(obs)
    codes = augment.encode(obs)
    for wrong in (codes[:5], codes.float(), codes[:, 0], codes + 2):
        with pytest.raises(DataError, match="encode"):
            augment(images, wrong)
    with pytest.raises(DataError, match="not in the training table"):
        augment.encode(more)
    with pytest.raises(DataError, match="no embedding-space model"):
        augment.embed(torch.zeros(20, 2), codes, augment(images, codes)[1])


def test_gradients_pass_through_what_was_changed(rendered):
    images, obs = rendered
    augment = InterventionalAugment(GRAPH, {"stain": StainLibrary.fit(images, obs["stain"].tolist())}, obs)
    floating = (images.float() / 255).requires_grad_()
    moved, done = augment(floating, augment.encode(obs))
    moved.sum().backward()
    assert (done.codes != augment.encode(obs)).any()
    assert torch.isfinite(floating.grad).all()
    assert (floating.grad.abs().flatten(1).sum(dim=1) > 0).all()


@pytest.mark.parametrize("way", ["pickle", "save"])
def test_epochs_differ_in_workers_after_a_trip_through_a_file(way, tmp_path):
    """Counts that came out of a file lay in memory of the process's own: workers began anew every epoch."""
    images, obs = painted(32)
    augment = augmented(obs, random_state=4)
    codes = augment.encode(obs)
    if way == "pickle":
        back = pickle.loads(pickle.dumps(augment))
    else:
        torch.save(augment, tmp_path / "augment.pt")
        back = torch.load(tmp_path / "augment.pt", weights_only=False)
    data = [{"image": images[i], "site": int(codes[i, 0])} for i in range(32)]
    loader = torch.utils.data.DataLoader(data, batch_size=8, num_workers=2, collate_fn=back.collate())
    first, second = ([tuple(batch["intervened"].drawn[:, 0].tolist()) for batch in loader] for _ in range(2))
    assert first != second
    assert back.counts()["rows"] == 64


def test_levels_named_by_numbers_are_not_taken_for_codes():
    images, obs = painted(40)
    numbers = obs["site"].map({"a": 1, "b": 2, "c": 3})

    class Numbered(Painted):
        levels = ("1", "2", "3")

        def __call__(self, images, source, target, seed):
            return images, torch.ones(len(images), dtype=torch.bool)

    augment = InterventionalAugment(SITE, {"site": Numbered()}, obs.assign(site=numbers))
    transform = augment.transform()
    with pytest.raises(DataError, match="named by numbers"):  # 1 was code 1, the level "2"
        transform({"image": images[0], "site": 1})
    assert augment.eval().transform()({"image": images[0], "site": "1"})["intervened"].codes.tolist() == [0]
    as_tensor = InterventionalAugment(SITE, {"site": Numbered()}, {"site": torch.tensor(numbers.to_numpy())})
    assert as_tensor.levels == {"site": ("1", "2", "3")}  # were "tensor(1)" ...


@pytest.mark.parametrize("wrong", [None, True, 1.0])
def test_what_is_no_level_is_refused(wrong):
    images, obs = painted(10)
    with pytest.raises(DataError, match="site"):
        augmented(obs).transform()({"image": images[0], "site": wrong})


def test_names_and_missing_values_of_any_kind():
    images, obs = painted(10)
    transform = augmented(obs).eval().transform()
    assert transform({"image": images[:2], "site": np.array(["a", "b"])})["intervened"].codes.tolist() == [[0], [1]]
    assert transform({"image": images[:0], "site": []})["intervened"].codes.shape == (0, 1)
    with pytest.raises(DataError, match=r"missing in 1 of 10 rows \(row 3\)"):
        augmented(obs.assign(site=pd.array([*obs["site"][:3], pd.NA, *obs["site"][4:]], dtype="string")))
    with pytest.raises(DataError, match="weights are finite"):
        augmented(obs, target={"site": {"a": "x", "b": 1.0, "c": 1.0}})
