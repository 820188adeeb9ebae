from dataclasses import replace

import numpy as np
import pytest

import causalfm.metrics.growing_lists as growing_lists
import causalfm.metrics.nearest_typed as nearest
from causalfm.metrics.design import Design
from causalfm.metrics.growing_lists import Lists
from causalfm.metrics.nearest_typed import Wanted, nearest_typed, unit_loader
from causalfm.metrics.typed import OS, SO


def sample(seed: int, n: int = 240) -> tuple[np.ndarray, Design]:
    """Groups that lie in several classes and sites, of very unequal sizes, in two strata."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 5, n) * rng.integers(0, 9, n)
    biology, confounder = rng.integers(0, 3, n), (groups + rng.integers(0, 2, n)) % 4
    within = rng.integers(0, 2, n)
    X = rng.standard_normal((n, 6)).astype(np.float32)
    return X, Design(biology, confounder, groups, (), ("stain",), "", "", "", within)


def brute(X: np.ndarray, design: Design, kind: int, query: int, width: int) -> np.ndarray:
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    same, other = (design.biology, design.confounder) if kind == SO else (design.confounder, design.biology)
    fits = (same == same[query]) & (other != other[query]) & (design.within == design.within[query])
    fits &= design.groups != design.groups[query]
    found = np.sort((unit @ unit[query])[fits])[::-1][:width]
    return np.pad(found, (0, width - len(found)), constant_values=-np.inf)


@pytest.mark.parametrize("many", [1, 8])  # 1: everything nearer is put aside, however much it is
@pytest.mark.parametrize("kind", [SO, OS])
@pytest.mark.parametrize(
    ("few", "block", "level"), [(1024, 2**14, 2**12), (1024, 50, 9), (0, 2**14, 2**12), (0, 50, 9)]
)
def test_both_searches_equal_a_full_sort(
    kind: int, few: int, block: int, level: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "FEW", few)
    monkeypatch.setattr(growing_lists, "MANY", many)
    monkeypatch.setattr(nearest, "CANDIDATE_BLOCK", block)
    monkeypatch.setattr(nearest, "LEVEL_BLOCK", level)
    X, design = sample(kind)
    for queries in (np.arange(240), np.flatnonzero(np.random.default_rng(1).random(240) < 0.2)):
        found = nearest_typed(unit_loader(X), [Wanted(design, kind, queries)], 12, 5)[0]
        expected = [brute(X, design, kind, query, 12) for query in queries]
        np.testing.assert_allclose(found.similarity, expected, atol=1e-6)
        assert ((found.indices == -1) == (found.similarity == -np.inf)).all()
        real = found.indices >= 0
        unit = X / np.linalg.norm(X, axis=1, keepdims=True)
        again = np.einsum("ijk,ik->ij", unit[found.indices], unit[queries])
        np.testing.assert_allclose(found.similarity[real], again[real], atol=1e-6)


@pytest.mark.parametrize("held", [1, 2**22])  # 1: sorted in after every block
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_lists_keep_the_first_of_equals_in_blocks_of_any_size(
    order: slice, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most entries of a block are wanted, few, or none; later blocks are nearer than all before, or all further."""
    monkeypatch.setattr(growing_lists, "HELD", held)
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(8), [1, 3, 9, 40, 8, 200, 2, 60])[order]
    similarity = ((level + rng.integers(-6, 6, (25, len(level)))) / 20).astype(np.float32)
    similarity[rng.random(similarity.shape) < 0.3] = -np.inf
    similarity[:3, :-4] = -np.inf  # lists that are never full
    lists, expected = Lists(np.arange(25), 7), np.argsort(-similarity, axis=1, kind="stable")[:, :7]
    for code in dict.fromkeys(level.tolist()):
        entries = np.flatnonzero(level == code)
        for at in (np.arange(0, 25, 2), np.arange(1, 25, 2)):
            block = similarity[np.ix_(at, entries)]
            lists.see(at, np.asfortranarray(block) if code % 2 else block, entries)
    lists.finish()
    best = np.take_along_axis(similarity, expected, axis=1)
    np.testing.assert_array_equal(lists.similarity, best)
    np.testing.assert_array_equal(lists.indices, np.where(best == -np.inf, -1, expected))


@pytest.mark.parametrize("few", [0, 1024])
def test_one_search_for_several_labellings_equals_one_search_each(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "FEW", few)
    X, design = sample(3)
    labels = [design, replace(design, biology=design.biology[::-1]), replace(design, confounder=design.biology)]
    queries = [np.arange(240), np.arange(0, 240, 7), np.arange(0, 0)]
    wanted = [Wanted(one, kind, asked) for one, asked in zip(labels, queries, strict=True) for kind in (SO, OS)]
    together = nearest_typed(unit_loader(X), wanted, 9, 5)
    for ask, found in zip(wanted, together, strict=True):
        alone = nearest_typed(unit_loader(X), [ask], 9, 5)[0]
        np.testing.assert_array_equal(found.indices, alone.indices)
        np.testing.assert_allclose(found.similarity, alone.similarity, atol=1e-6)
