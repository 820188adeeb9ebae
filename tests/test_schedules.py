import numpy as np
import pandas as pd
import pytest
from croma.downstream import pathorob_schedule

from causalfm.cohort import Cohort
from causalfm.crosstabs import cramers_v
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics import confounded_schedule
from causalfm.metrics.allocation import allocate, kinds_of
from causalfm.metrics.confounding import confounded_tables

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
SECRET = "PATIENT-4711"


def cohort_of(sizes, *, rows: int = 1, mixed: bool = False, seed: int = 0) -> Cohort:
    """``sizes`` patients per class and site; mixed: every second one of the first class has rows of the second too."""
    out = []
    for b, line in enumerate(sizes):
        for s, n in enumerate(line):
            for p in range(n):
                name = f"{SECRET}-{b}{s}{p}"
                out += [(f"c{b}", f"s{s}", name)] * rows
                out += [("c1", f"s{s}", name)] * rows if mixed and b == 0 and p % 2 else []
    obs = pd.DataFrame(out, columns=["tumour", "site", "patient"])
    return Cohort(np.random.default_rng(seed).standard_normal((len(obs), 5)).astype("f4"), obs)


def tables_of(name: str, rows: int, classes: list[int], sites: list[int]) -> tuple[np.ndarray, int]:
    plan = pathorob_schedule(name, rows_per_slide=rows)
    tables = np.zeros((len(plan), len(classes), len(sites)), dtype=int)
    for table, (cells, _) in zip(tables, plan, strict=True):
        for site, label, n in cells:
            table[classes.index(label), sites.index(site)] = n // rows
    return tables, plan[0][1]


@pytest.mark.parametrize(
    ("name", "rows", "classes", "sites"),
    [
        ("camelyon", 300, [0, 1], [1, 0]),
        ("tcga", 30, [0, 1, 3, 2], [0, 1, 3, 2]),
        ("tolkach_esca", 100, [0, 1, 2, 3, 4, 5], [1, 0]),
    ],
)
def test_pathorobs_schedules_are_special_cases(name, rows, classes, sites):
    theirs, groups = tables_of(name, rows, classes, sites)
    np.testing.assert_array_equal(confounded_tables(len(classes), len(sites), groups, len(theirs)), theirs)
    # the whole plan, from a cohort of PathoROB's size: steps, validation and test follow from it
    slides = {"camelyon": 17, "tcga": 12, "tolkach_esca": 9}[name]
    sizes = np.full((len(classes), len(sites) + 2), slides)
    options = {"classes": [f"c{c}" for c in classes], "levels": [f"s{s}" for s in sites], "rows_per_group": 2}
    plan = confounded_schedule(cohort_of(sizes, rows=2), GRAPH, groups_per_class=groups, **options)
    np.testing.assert_array_equal(plan.counts, theirs)
    assert (plan.validation, plan.other_levels) == (1, (f"s{len(sites)}", f"s{len(sites) + 1}"))
    published = {"camelyon": np.arange(8) / 7, "tcga": [0, 0.204, 0.354, 0.5, 0.677, 0.842, 1]}
    np.testing.assert_allclose(plan.cramers_v, published.get(name, np.arange(4) / 3), atol=5e-4)


@pytest.mark.parametrize(
    ("classes", "sites", "groups"), [(2, 2, 6), (3, 3, 9), (2, 3, 8), (3, 2, 6), (6, 3, 6), (2, 6, 12)]
)
def test_any_table_goes_from_nothing_to_all_at_one_size(classes, sites, groups):
    steps = 4 if groups > 6 else 3
    tables = confounded_tables(classes, sites, groups, steps)
    assert (tables.sum(axis=2) == groups).all()
    assert (tables >= 0).all()
    v = [cramers_v(table)[0] for table in tables]
    assert (v[0], v[-1]) == (pytest.approx(0.0, abs=1e-12), pytest.approx(1.0))
    assert (np.diff(v) > 0).all()
    margins = tables.sum(axis=1)
    assert np.abs(margins - margins[0]).max() <= 2  # of the levels: rounding only


def test_the_defaults_leave_room_for_two_training_sets():
    plan = confounded_schedule(cohort_of([[17, 25, 9, 30], [20, 16, 11, 40]], rows=3), GRAPH)
    assert plan.levels == ("s0", "s3")  # the smallest class has 17 and 30 patients, in the others 16 and 9
    assert plan.other_levels == ("s1", "s2")
    assert plan.parts == 2
    assert plan.held.max() <= 0.5
    frame = plan.to_frame()
    assert frame["cramers_v"].is_monotonic_increasing
    assert frame["rows"].nunique() == 1
    assert frame.filter(like=" x ").sum(axis=1).nunique() == 1
    assert SECRET not in repr(plan.to_dict())


@pytest.mark.parametrize("mixed", [False, True])
def test_patients_are_never_on_two_sides(mixed):
    cohort = cohort_of([[24, 24, 10], [24, 24, 10]], rows=3, mixed=mixed)
    plan = confounded_schedule(cohort, GRAPH, rows_per_group=2)
    patient, y = plan.groups, plan.y
    used = []
    for part in plan.draw(np.random.default_rng(0)):
        train = np.unique(np.concatenate(part.train))
        sides = [np.unique(patient[rows]) for rows in (train, part.validation, part.test, part.other)]
        for a, b in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3)):
            assert not len(np.intersect1d(sides[a], sides[b]))
        used.append(np.union1d(sides[0], sides[1]))
        for step, rows in enumerate(part.train):
            assert len(rows) == len(np.unique(rows)) == 2 * plan.counts[step].sum()
            found = np.zeros(plan.counts.shape[1:], dtype=int)
            np.add.at(found, (y[rows], plan.level[rows]), 1)
            np.testing.assert_array_equal(found, 2 * plan.counts[step])
            # validation rows weigh as their cells do in the training set
            cells = np.zeros(found.shape)
            np.add.at(cells, (y[part.validation], plan.level[part.validation]), part.shares[step])
            np.testing.assert_allclose(cells / cells.sum(), found / found.sum())
        assert (plan.level[part.other] == -1).all()
        assert np.bincount(patient[part.other]).max() <= 2 * (1 + mixed)
        assert part.held.sum() == len(used[-1])
    assert len(used) == plan.parts == 2
    assert not len(np.intersect1d(*used))


def test_patients_scanned_everywhere_are_on_one_side():
    obs = pd.DataFrame([(f"c{p % 2}", f"s{s}", f"p{p}") for p in range(40) for s in range(4)])
    obs.columns = ["tumour", "site", "patient"]
    cohort = Cohort(np.random.default_rng(0).standard_normal((len(obs), 3)), obs)
    plan = confounded_schedule(cohort, GRAPH)
    for part in plan.draw(np.random.default_rng(1)):
        learned = np.unique(plan.groups[np.concatenate([*part.train, part.validation])])
        assert not np.isin(plan.groups[np.concatenate([part.test, part.other])], learned).any()
        assert len(part.other)


def test_allocation_against_brute_force():
    """Two kinds with one cell, one with both: all ways to fill the cells are tried."""
    kinds = kinds_of([{0, 1, 2, 10, 11}, {5, 6, 10, 11}])
    assert kinds.sizes.sum() == 7
    best = None
    for need in ((3, 2), (2, 3), (4, 3), (2, 2)):
        train, one = np.array(need), np.ones(2)
        found = allocate(kinds, train, one, one)
        best = min(
            (
                sum(t) + sum(v)
                for t in np.ndindex(*(kinds.sizes + 1))
                for v in np.ndindex(*(kinds.sizes + 1))
                if (np.add(t, v) <= kinds.sizes).all()
                and (kinds.cells.T @ np.array(t) >= train).all()
                and (kinds.cells.T @ np.array(v) >= one).all()
                and (kinds.cells.T @ (kinds.sizes - t - v) >= one).all()
            ),
            default=None,
        )
        assert (found is None) == (best is None)
        assert found is None or found.sum() == best


def test_a_table_that_cannot_carry_it_is_refused_in_words():
    cohort = cohort_of([[12, 5, 4], [9, 12, 4]])
    with pytest.raises(DataError, match="c0 x s0 has 12 and needs 12") as caught:
        confounded_schedule(cohort, GRAPH, groups_per_class=12, levels=["s0", "s1"])
    assert "c1 x s1 has 12 and needs 12 for training, 1 for validation and 2 for the test" in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(DataError, match="has 0 and needs"):
        confounded_schedule(cohort, GRAPH, rows_per_group=7)
    empty = cohort_of([[9, 0], [9, 9]])
    with pytest.raises(DataError, match="c0 x s1 has 0 and needs 1"):
        confounded_schedule(empty, GRAPH)


def test_bad_arguments():
    cohort = cohort_of([[12, 12, 4], [12, 12, 4]])
    for options, message in (
        ({"levels": ["s0", "s9"]}, "levels names 's9'"),
        ({"classes": ["c0"]}, "at least two different values of 'tumour'"),
        ({"classes": "c0"}, "at least two different values"),
        ({"groups_per_class": 5}, "multiple of 2"),
        ({"steps": 30}, "fewer steps"),
        ({"steps": 1}, "steps=1"),
        ({"test": 0}, "test=0"),
        ({"rows_per_group": 2.5}, "rows_per_group=2.5"),
        ({"confounder": "tumour"}, "confounder='tumour'"),
    ):
        with pytest.raises(DataError, match=message):
            confounded_schedule(cohort, GRAPH, **options)


def test_groups_with_too_few_rows_are_left_out_and_counted():
    cohort = cohort_of([[30, 30], [30, 30]], rows=4)
    keep = np.ones(len(cohort), dtype=bool)
    keep[[0, 1, 4, 5]] = False  # two patients lose two of their four rows
    plan = confounded_schedule(cohort[keep], GRAPH, max_rows=10_000)
    assert (plan.rows_per_group, plan.left_out) == (4, 2)
    assert plan.available.tolist() == [[28, 30], [30, 30]]
    small = confounded_schedule(cohort[keep], GRAPH, max_rows=40)
    assert (small.counts.sum(axis=(1, 2)) * small.rows_per_group <= 40).all()
    assert small.rows_per_group == 1
