import subprocess
import sys

import numpy as np
import pytest

import causalfm.neighbours as engine
import causalfm.symmetric_pass as symmetric_pass
from causalfm.errors import DataError
from causalfm.neighbours import knn


def brute(X: np.ndarray, width: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Every list in float64, ties by position, -1 where it has ended."""
    X = X.astype(np.float64)
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    similarity = np.round(X @ X.T, 10)
    groups = np.arange(len(X)) if groups is None else groups
    similarity[groups[:, None] == groups] = -np.inf
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :width]
    order[np.take_along_axis(similarity, order, 1) == -np.inf] = -1
    return np.pad(order, ((0, 0), (0, width - order.shape[1])), constant_values=-1)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "COLUMN_BLOCK", 7)
    monkeypatch.setattr(engine, "BLOCK_ENTRIES", 50)


def tied_rows(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rows whose cosines are exact in float32 and take five values only."""
    axes = np.eye(4)[rng.integers(0, 4, n)] * rng.choice([-1.0, 1.0, 2.0], (n, 1))
    corners = rng.choice([-1.0, 1.0], (n, 4))
    return np.where(rng.random((n, 1)) < 0.5, axes, corners)


def test_lists_equal_a_full_sort_in_float64() -> None:
    rng = np.random.default_rng(0)
    X, groups = rng.standard_normal((300, 20)).astype(np.float32), rng.integers(0, 40, 300)
    found = knn(X, 12, exclude=groups, reserve=5)
    np.testing.assert_array_equal(found.indices, brute(X, 17, groups))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(found.similarity, np.einsum("ijk,ik->ij", unit[found.indices], unit), atol=1e-6)
    assert (found.k, found.reserve, found.n) == (12, 5, 300)
    assert found.indices.dtype == np.int64
    assert found.similarity.dtype == np.float32


def test_without_exclude_only_the_query_itself_is_left_out() -> None:
    X = np.random.default_rng(1).standard_normal((50, 6))
    np.testing.assert_array_equal(knn(X, 49).indices, brute(X, 49))


@pytest.mark.parametrize("seed", range(8))
def test_ties_go_to_the_lower_position_whatever_the_blocks(seed: int, small_blocks: None) -> None:
    rng = np.random.default_rng(seed)
    X, groups = tied_rows(rng, 45), rng.integers(0, 9, 45)
    for k in (1, 3, 10):
        np.testing.assert_array_equal(knn(X, k, exclude=groups).indices, brute(X, k, groups))


def test_ties_at_the_edge_of_one_block() -> None:
    X = tied_rows(np.random.default_rng(3), 200)
    for k in (1, 5, 40):
        np.testing.assert_array_equal(knn(X, k).indices, brute(X, k))


def test_the_reserve_is_padded_where_candidates_run_out(small_blocks: None) -> None:
    rng = np.random.default_rng(2)
    X, groups = rng.standard_normal((20, 4)), np.repeat([0, 1, 2], [10, 6, 4])
    found = knn(X, 10, exclude=groups, reserve=30)
    np.testing.assert_array_equal(found.indices, brute(X, 40, groups))
    assert np.array_equal(found.indices == -1, found.similarity == -np.inf)
    np.testing.assert_array_equal((found.indices >= 0).sum(1), 20 - np.array([10, 6, 4])[groups])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_memory_map_gives_the_same_lists(dtype: type, tmp_path, small_blocks: None) -> None:
    X = np.random.default_rng(4).standard_normal((60, 8)).astype(dtype)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    groups = np.arange(60) // 3
    np.testing.assert_array_equal(knn(mapped, 5, exclude=groups).indices, brute(X, 5, groups))
    np.testing.assert_array_equal(knn(X, 5, exclude=groups).indices, brute(X, 5, groups))


def test_positive_row_scaling_changes_nothing_even_beyond_the_range_of_squares() -> None:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((80, 10)).astype(np.float32)
    scaled = X * (2.0 ** rng.integers(-80, 80, (80, 1))).astype(np.float32)
    np.testing.assert_array_equal(knn(scaled, 20).indices, knn(X, 20).indices)


def test_rotation_and_row_order() -> None:
    rng = np.random.default_rng(6)
    X, groups = rng.standard_normal((120, 9)), rng.integers(0, 30, 120)
    rotation = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    base = knn(X, 15, exclude=groups).indices
    np.testing.assert_array_equal(knn(X @ rotation, 15, exclude=groups).indices, base)
    order = rng.permutation(120)
    np.testing.assert_array_equal(order[knn(X[order], 15, exclude=groups[order]).indices], base[order])
    np.testing.assert_array_equal(knn(X, 15, exclude=97 - 3 * groups).indices, base)


def test_queries_are_exact_rows_of_the_full_search() -> None:
    X, groups = np.random.default_rng(7).standard_normal((90, 5)), np.arange(90) // 4
    full = knn(X, 6, exclude=groups, reserve=2)
    sample = knn(X, 6, exclude=groups, reserve=2, queries=20, random_state=3)
    assert len(np.unique(sample.queries)) == 20
    np.testing.assert_array_equal(sample.indices, full.indices[sample.queries])
    np.testing.assert_array_equal(knn(X, 6, exclude=groups, queries=20, random_state=3).queries, sample.queries)
    assert not np.array_equal(knn(X, 6, exclude=groups, queries=20, random_state=4).queries, sample.queries)
    named = np.array([40, 3, 77])
    np.testing.assert_array_equal(knn(X, 6, exclude=groups, reserve=2, queries=named).indices, full.indices[named])


def test_X_is_not_modified() -> None:
    X = np.random.default_rng(8).standard_normal((30, 4)).astype(np.float32)
    before = X.copy()
    X.flags.writeable = False
    knn(X, 3)
    np.testing.assert_array_equal(X, before)


def test_k_beyond_the_shortest_list_is_refused_and_names_it() -> None:
    X, groups = np.random.default_rng(9).standard_normal((20, 4)), np.repeat([700123, 700124, 700125], [10, 6, 4])
    with pytest.raises(DataError, match=r"k=11 .* 10 of 20 rows .*Choose k up to 10") as error:
        knn(X, 11, exclude=groups)
    assert "70012" not in str(error.value)
    assert knn(X, 10, exclude=groups).indices.min() >= 0
    assert knn(X, 14, exclude=groups, queries=np.array([10, 12])).indices.shape == (2, 14)  # their lists are longer
    with pytest.raises(DataError, match="k=20"):
        knn(X, 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((4, 2))}, r"4 zero or non-finite rows \(rows 0, 1, 2, 3\)"),
        ({"X": np.array([[1.0, 0], [0, 0], [0, 1], [np.nan, 1]])}, r"2 zero or non-finite rows \(rows 1, 3\)"),
        ({"X": np.ones(4)}, "2-D"),
        ({"X": np.ones((4, 2), dtype=int)}, "floats"),
        ({"k": 0}, "at least 1"),
        ({"reserve": -1}, "reserve"),
        ({"exclude": np.arange(3)}, "4 integer codes"),
        ({"exclude": np.array(list("abcd"))}, "4 integer codes"),
        ({"queries": 5}, "between 1 and 4"),
        ({"device": "gpu"}, "device='gpu': torch has no such device"),
        ({"queries": np.array([0, 4])}, "positions between 0 and 3"),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    arguments = {"X": np.eye(4), "k": 1} | change
    with pytest.raises(DataError, match=message):
        knn(arguments.pop("X"), arguments.pop("k"), **arguments)


def test_runs_on_torch_and_numpy_alone() -> None:
    code = (
        "import sys\n"
        "for name in ('pandas', 'scipy', 'sklearn', 'anndata', 'matplotlib', 'dowhy'): sys.modules[name] = None\n"
        "import numpy as np; from causalfm.neighbours import knn\n"
        "assert knn(np.eye(5) + 0.1, 2).indices.shape == (5, 2)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture
def many_tiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small tables are searched tile by tile as large ones are; gives the numbers of queries left to the plain way."""
    left: list[int] = []
    whole = engine._all_at_once

    def counted(*arguments) -> np.ndarray:
        found = whole(*arguments)
        left.append(len(found))
        return found

    monkeypatch.setattr(symmetric_pass, "SAMPLE", 60)
    monkeypatch.setattr(symmetric_pass, "TILE", 70)
    monkeypatch.setattr(engine, "_all_at_once", counted)
    return left


@pytest.mark.parametrize("seed", range(6))
def test_tiles_give_the_same_lists(seed: int, many_tiles: list[int]) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(60), 5)) if seed % 2 else np.arange(300) // 5
    X = rng.standard_normal((300, 8)) + 0.8 * rng.standard_normal((60, 8))[groups]
    for width in (1, 12, 30):
        np.testing.assert_array_equal(knn(X, width, exclude=groups).indices, brute(X, width, groups))
    np.testing.assert_array_equal(knn(X, 20).indices, brute(X, 20))
    assert len(many_tiles) == 4
    assert 0 < sum(many_tiles) < 600  # some thresholds are too high: those queries are searched again


@pytest.mark.parametrize("seed", range(4))
def test_tiles_keep_ties_and_what_they_cannot_answer(seed: int, many_tiles: list[int]) -> None:
    rng = np.random.default_rng(seed)
    X, groups = tied_rows(rng, 300), rng.integers(0, 30, 300)
    groups[rng.random(300) < 0.3] = 30  # a group of many rows
    for k in (1, 10, 25):
        np.testing.assert_array_equal(knn(X, k, exclude=groups).indices, brute(X, k, groups))
    assert len(many_tiles) == 3
    one = np.append(
        np.zeros(280, dtype=int), np.arange(1, 21)
    )  # most queries have 20 candidates, hardly one in the sample
    found = knn(X, 15, exclude=one, reserve=15)
    np.testing.assert_array_equal(found.indices, brute(X, 30, one))
    assert many_tiles[-1] >= 280
