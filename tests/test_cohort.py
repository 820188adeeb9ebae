import numpy as np
import pandas as pd
import pytest

from causalfm import validation
from causalfm.cohort import Cohort
from causalfm.errors import DataError

SENTINEL = "PATIENT-4711"


def make(n=6, d=3, dtype="float32", **columns):
    X = np.random.default_rng(0).normal(size=(n, d)).astype(dtype)
    obs = pd.DataFrame(columns or {"site": list("abcabc")[:n]}, index=[f"s{i}" for i in range(n)])
    return Cohort(X, obs)


def test_nan_rows_are_counted_and_placed():
    X = np.zeros((20, 2), np.float32)
    X[[3, 7, 8, 9, 11, 15], 1] = np.nan
    X[17, 0] = np.inf
    with pytest.raises(DataError, match=r"in 7 of 20 rows \(rows 3, 7, 8, 9, 11 and 2 more\)"):
        Cohort(X, pd.DataFrame(index=range(20)))


def test_nan_positions_survive_blocks(monkeypatch):
    monkeypatch.setattr(validation, "BLOCK_BYTES", 8 * 2 * 4)  # four rows a block
    X = np.zeros((11, 2))
    X[[2, 9]] = np.nan
    with pytest.raises(DataError, match=r"in 2 of 11 rows \(rows 2, 9\)"):
        Cohort(X, pd.DataFrame(index=range(11)))


@pytest.mark.parametrize(("dtype", "big"), [("float16", 65504), ("float32", 3e38), ("float64", 1.7e308)])
def test_finite_rows_whose_sum_overflows_are_accepted(dtype, big):
    X = np.full((400, 300), big, dtype)
    assert len(Cohort(X, pd.DataFrame(index=range(400)))) == 400


def test_unequal_lengths_give_both_counts():
    with pytest.raises(DataError, match="X has 5 rows and obs has 4"):
        Cohort(np.zeros((5, 2)), pd.DataFrame(index=range(4)))


def test_repeated_ids_are_placed_but_not_named():
    with pytest.raises(DataError, match="rows 0, 2") as caught:
        Cohort(np.zeros((3, 2)), pd.DataFrame({"site": [1, 2, 3]}, index=[SENTINEL, "other", SENTINEL]))
    assert SENTINEL not in str(caught.value)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(3), r"shape \(3,\).*X\[None, :\]"),
        (np.zeros((3, 2, 2)), "one vector per row"),
        (np.zeros((3, 2), int), r"int64.*astype\('float32'\)"),
        (np.zeros((3, 2), bool), "dtype bool"),
        (np.zeros((3, 2), complex), "dtype complex"),
        (np.zeros((3, 0)), "empty"),
        ([[1.0], [1.0, 2.0], [3.0]], "ragged"),
    ],
)
def test_unusable_matrices(X, message):
    with pytest.raises(DataError, match=message):
        Cohort(X, pd.DataFrame(index=range(3)))


def test_empty_repeated_columns_and_no_frame():
    with pytest.raises(DataError, match="empty"):
        Cohort(np.zeros((0, 4)), pd.DataFrame())
    with pytest.raises(DataError, match="repeated column names: site"):
        Cohort(np.zeros((1, 2)), pd.DataFrame([[1, 2]], columns=["site", "site"]))
    with pytest.raises(DataError, match="dict"):
        Cohort(np.zeros((1, 2)), {"site": [1]})


def test_rows_by_slice_mask_and_positions_stay_aligned():
    cohort = make()
    for rows in (slice(1, 5, 2), np.array([False, True, False, True, False, False]), [1, 3], [-5, -3]):
        part = cohort[rows]
        np.testing.assert_array_equal(part.X, cohort.X[[1, 3]])
        assert list(part.obs.index) == ["s1", "s3"]
    assert list(cohort[4].obs.index) == ["s4"]
    assert list(cohort[[5, 0]].obs.index) == ["s5", "s0"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([True, False], r"mask has shape \(2,\) and the cohort 6"),
        ([6], "run from 6 to 6; the cohort has 6"),
        ([-7], "run from -7"),
        ([0.0, 1.0], "list of positions"),
        (["s1"], "list of positions"),
        ([[0, 1]], "list of positions"),
        ([], "empty"),
        (np.zeros(6, bool), "empty"),
        ([1, 1], "not unique"),
    ],
)
def test_impossible_rows(rows, message):
    with pytest.raises(DataError, match=message):
        make()[rows]


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((6, 3), np.float16))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    cohort = Cohort(X, make().obs)
    assert cohort.X is X
    assert isinstance(cohort[2:5].X, np.memmap)
    assert cohort.replace(info={"encoder": "uni"}).X is X
    (rows, block), *rest = cohort.blocks()
    assert not rest
    assert (rows, block.dtype) == (slice(0, 6), np.float32)


def test_unknown_column_lists_the_columns():
    with pytest.raises(DataError, match=r"no column 'scanner'. Columns: site"):
        make().factor("scanner")


def test_factor_levels_and_codes():
    cohort = make(
        text=list("bacbac"),
        number=[10, 9, 10, 9, 10, 9],
        ordered=pd.Categorical(list("hlhlhl"), ["l", "never", "h"], ordered=True),
        mixed=[2, "a", 2, "a", 2, "a"],
    )
    text = cohort.factor("text")
    assert (text.levels, text.codes.tolist(), text.counts().tolist()) == (("a", "b", "c"), [1, 0, 2] * 2, [2, 2, 2])
    assert cohort.factor("number").levels == ("9", "10")  # numeric order, not that of the text
    assert cohort.factor("ordered").levels == ("l", "h")  # declared order, unused level dropped
    assert cohort.factor("mixed").levels == ("2", "a")


@pytest.mark.parametrize("values", [[1, "1", 1, "1", 1, 1], pd.Categorical([1, "1", 1, "1", 1, 1], [1, "1"])])
def test_levels_that_read_the_same_are_not_merged(values):
    cohort = make(site=values)
    with pytest.raises(DataError, match="as text: 1"):
        cohort.factor("site")
    with pytest.raises(DataError) as caught:
        cohort.factor("site", private=True)
    assert ": 1" not in str(caught.value)


def test_missing_factor_values_are_placed_but_ids_are_not_named():
    cohort = make(patient=[SENTINEL, None, SENTINEL, "b", float("nan"), "c"])
    with pytest.raises(DataError, match=r"'patient' has 2 missing values of 6 \(rows 1, 4\)") as caught:
        cohort.factor("patient", private=True)
    assert SENTINEL not in str(caught.value)


def test_numeric_columns():
    cohort = make(age=[1, 2, 3, 4, 5, 6], text=list("abcdef"), odd=[1.0, np.inf, 2, 3, -np.inf, 4])
    assert cohort.numeric("age").dtype == np.float64
    with pytest.raises(DataError, match="'text' is declared continuous but holds text"):
        cohort.numeric("text")
    with pytest.raises(DataError, match=r"infinite values in rows 1, 4"):
        cohort.numeric("odd")


def test_missing_policies():
    stage = pd.Categorical(["high", None, "low", "low", None, "high"], ["low", "high"], ordered=True)
    cohort = make(site=["a", "b", None, "a", "b", "a"], stage=stage, age=[1, 2, 3, np.nan, 5, 6], whole=range(6))
    before = cohort.obs.copy()
    assert cohort.handle_missing(["whole"]) is cohort
    with pytest.raises(DataError, match=r"'site' has 1 missing values of 6 \(row 2\)"):
        cohort.handle_missing(["whole", "site"])

    filled = cohort.handle_missing(["site", "stage"], "level")
    assert filled.obs["site"].tolist() == ["a", "b", "(missing)", "a", "b", "a"]
    assert filled.factor("stage").levels == ("low", "high", "(missing)")
    assert filled.info["missing"] == [{"policy": "level", "counts": {"site": 1, "stage": 2}}]

    left = filled.handle_missing(["age"], "drop")
    assert list(left.obs.index) == ["s0", "s1", "s2", "s4", "s5"]
    np.testing.assert_array_equal(left.X, cohort.X[[0, 1, 2, 4, 5]])
    assert left.info["missing"][1:] == [{"policy": "drop", "counts": {"age": 1}, "rows_dropped": 1}]
    pd.testing.assert_frame_equal(cohort.obs, before)

    with pytest.raises(DataError, match=r"'age' is numeric.*astype\('category'\)"):
        cohort.handle_missing(["age"], "level")
    with pytest.raises(DataError, match="'ignore' is not a policy"):
        cohort.handle_missing(["whole"], "ignore")
    with pytest.raises(DataError, match="nothing is left"):
        make(site=[None] * 6).handle_missing(["site"], "drop")
    with pytest.raises(DataError, match="already has a level"):
        make(site=["(missing)", None, "a", "a", "a", "a"]).handle_missing(["site"], "level")


def test_aggregate_means_order_and_columns():
    cohort = make(
        slide=list("yxyxzz"),
        site=["p", "q", "p", "q", None, None],
        x=[1, 2, 3, 2, 4, 4],
        n_rows=[1] * 6,
        dtype="float16",
    )
    slides = cohort.aggregate("slide")
    assert slides.obs["slide"].tolist() == ["y", "x", "z"]
    assert list(slides.obs.index) == ["s0", "s1", "s4"]
    assert slides.obs.columns.tolist() == ["slide", "site", "n_rows"]
    assert slides.obs["n_rows"].tolist() == [2, 2, 2]
    assert slides.info["aggregated"] == {"by": "slide", "from_rows": 6, "columns_left_out": ["x", "n_rows"]}
    expected = cohort.X.astype("float64").reshape(6, 3)[[[0, 2], [1, 3], [4, 5]]].mean(axis=1)
    assert slides.X.dtype == np.float32
    np.testing.assert_allclose(slides.X, expected, rtol=1e-6)


def test_fingerprint_sees_values_and_columns():
    cohort = make()
    other = cohort.X.copy()
    other[5, 2] += 1e-3
    prints = {
        cohort.fingerprint(),
        cohort.fingerprint(["site"]),
        cohort.replace(X=other).fingerprint(),
        cohort.replace(X=cohort.X.astype("float64")).fingerprint(),
        cohort.replace(obs=cohort.obs.assign(site=list("abcabd"))).fingerprint(["site"]),
    }
    assert len(prints) == 5
    assert cohort.fingerprint(["site"]) == make().fingerprint(["site"])


def test_anndata_there_and_back():
    cohort = make(site=pd.Categorical(list("abcabc"), ["c", "b", "a"]), dtype="float16")
    adata = cohort.to_anndata()
    adata.obsm["X_uni"] = np.ones((6, 5))
    back = Cohort.from_anndata(adata)
    np.testing.assert_array_equal(back.X, cohort.X)
    assert back.X.dtype == np.float16
    pd.testing.assert_frame_equal(back.obs, cohort.obs)
    assert Cohort.from_anndata(adata, obsm="X_uni").d == 5
    with pytest.raises(DataError, match=r"no key 'uni'. Keys: X_uni"):
        Cohort.from_anndata(adata, obsm="uni")


def test_anndata_without_dense_embeddings():
    import anndata
    from scipy import sparse

    with pytest.raises(DataError, match="sparse"):
        Cohort.from_anndata(anndata.AnnData(sparse.csr_matrix(np.eye(3))))
    with pytest.raises(DataError, match="obsm="):
        Cohort.from_anndata(anndata.AnnData(obs=pd.DataFrame(index=["a", "b"])))
