import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from causalfm.cohort import Cohort
from causalfm.crosstabs import cramers_v, cross_table, effective_units
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.positivity import comparable_set, complete_table, nesting_parents, overlap
from causalfm.strata import joint_factor, stratify

GRAPH = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")


def cohort_of(cells: dict[tuple[str, ...], int], *, rows: int = 2, **extra) -> Cohort:
    """``{(tumour, site[, scanner]): patients}``."""
    patients = [(*key, "S1")[:3] for key, count in cells.items() for _ in range(count)]
    obs = pd.DataFrame(patients, columns=["tumour", "site", "scanner"]).assign(**extra)
    obs["patient"] = [f"secret-{i}" for i in range(len(obs))]
    obs = obs.loc[np.repeat(np.arange(len(obs)), rows)].reset_index(drop=True)
    return Cohort(np.random.default_rng(0).standard_normal((len(obs), 3)), obs)


FULL = {("LUAD", "A"): 5, ("LUAD", "B"): 4, ("LUSC", "A"): 3, ("LUSC", "B"): 6}


# --- verdicts of the overlap check ----------------------------------------------------------------------------------


def test_everything_overlaps() -> None:
    found = overlap(cohort_of(FULL), GRAPH, ["site"], ["tumour"])
    assert (found.verdict, found.comparable, found.left_out) == ("pass", True, ())
    assert found.sentence == "Site is compared between A, B over tumour=LUAD; tumour=LUSC (18 patients)."
    assert found.target == "A, B, standardised over tumour=LUAD; tumour=LUSC"
    assert found.table is not None
    assert found.table.patients == 18  # patients, not rows
    assert found.to_frame().loc[0, "given"] == "tumour"


def test_a_sentence_over_many_levels_names_a_few_and_counts_the_rest() -> None:
    cells = {(tumour, f"site{i:03}"): 3 for tumour in ("LUAD", "LUSC") for i in range(120)}
    few = {("LUAD", f"small{i:03}"): 1 for i in range(110)}
    found = overlap(cohort_of({**cells, **few}, rows=1), GRAPH, ["site"], ["tumour"])
    assert (len(found.levels), len(found.left_out)) == (120, 110)
    for text, most in ((found.sentence, 1000), (found.target, 250)):
        assert len(text) < most
    assert "site009 and 110 more over tumour=LUAD; tumour=LUSC (720 patients)." in found.sentence
    assert "; site=small009: fewer than 3 patients in tumour=LUAD (1), tumour=LUSC (0) and 100 more." in found.sentence


def test_no_conditioning_is_one_stratum() -> None:
    found = overlap(cohort_of(FULL), GRAPH, ["site"], [])
    assert (found.verdict, found.strata) == ("pass", ("all",))


def test_one_class_in_one_hospital_only() -> None:
    found = overlap(cohort_of({**FULL, ("BRCA", "A"): 7}), GRAPH, ["site"], ["tumour"])
    assert (found.verdict, found.comparable) == ("cannot tell", True)
    assert found.left_out == ("tumour=BRCA: A 7 patients; not 3 at every compared level",)
    assert found.sentence.startswith("Cannot be compared between levels of site: tumour=BRCA")
    assert found.sentence.endswith("Site is compared between A, B over tumour=LUAD; tumour=LUSC (18 patients).")


def test_a_level_with_too_few_patients_is_named() -> None:
    found = overlap(cohort_of({**FULL, ("LUAD", "C"): 2, ("LUSC", "C"): 2}), GRAPH, ["site"], ["tumour"])
    assert (found.verdict, found.levels) == ("cannot tell", ("A", "B"))
    assert found.left_out[0] == "site=C: fewer than 3 patients in tumour=LUAD (2), tumour=LUSC (2)"


def test_every_cell_left_out_is_listed_with_its_units_and_the_reason() -> None:
    """C lacks LUSC, BRCA lacks A and B: nobody in these cells takes part, however many they are."""
    cells = {**FULL, ("LUAD", "C"): 3, ("LUSC", "C"): 2, ("BRCA", "A"): 7, ("BRCA", "B"): 1, ("BRCA", "C"): 1}
    found = overlap(cohort_of(cells), GRAPH, ["site"], ["tumour"])
    assert found.levels == ("A", "B")
    rows = {(row["tumour"], row["site"]): (row["patients"], row["reason"]) for row in found.cells}
    assert rows == {
        ("BRCA", "A"): (7, "fewer than 3 patients here at B"),
        ("BRCA", "B"): (1, "fewer than 3 patients"),
        ("BRCA", "C"): (1, "fewer than 3 patients"),
        ("LUAD", "C"): (3, "C has fewer than 3 patients in tumour=LUSC"),
        ("LUSC", "C"): (2, "fewer than 3 patients"),
    }
    apart = overlap(cohort_of({("LUAD", "A"): 9, ("LUSC", "B"): 9}), GRAPH, ["site"], ["tumour"])
    assert [row["reason"] for row in apart.cells] == ["no other level has 3 patients here"] * 2
    assert not overlap(cohort_of(FULL), GRAPH, ["site"], ["tumour"]).cells


def test_nothing_overlaps() -> None:
    found = overlap(cohort_of({("LUAD", "A"): 9, ("LUSC", "B"): 9}), GRAPH, ["site"], ["tumour"])
    assert (found.verdict, found.comparable, found.table, found.levels) == ("cannot tell", False, None, ())
    assert found.sentence == "No stratum of tumour holds two levels of site with 3 patients each."


def test_minimum() -> None:
    found = overlap(cohort_of(FULL), GRAPH, ["site"], ["tumour"], minimum=4)
    assert found.strata == ("tumour=LUAD",)
    assert found.left_out == ("tumour=LUSC: A 3 patients, B 6 patients; not 4 at every compared level",)
    with pytest.raises(DataError, match="minimum=2: choose a whole number of at least 3"):
        overlap(cohort_of(FULL), GRAPH, ["site"], ["tumour"], minimum=2)


NESTED = {("LUAD", "A", "S1"): 4, ("LUAD", "B", "S2"): 4, ("LUSC", "A", "S1"): 4, ("LUSC", "B", "S2"): 4}


def test_nested_scanner_cannot_be_told_from_the_site() -> None:
    cohort = cohort_of(NESTED)
    assert nesting_parents(cohort, GRAPH, ["scanner"]) == ["site"]
    assert nesting_parents(cohort, GRAPH, ["site"]) == []
    found = overlap(cohort, GRAPH, ["scanner"], ["site", "tumour"])
    assert (found.verdict, found.comparable, found.nested_in) == ("cannot tell", False, "site")
    assert found.sentence == "Every level of site has a single level of scanner: scanner cannot be told from site."
    joint = overlap(cohort, GRAPH, ["site", "scanner"], ["tumour"])
    assert (joint.verdict, joint.levels, joint.nested_in) == ("pass", ("A + S1", "B + S2"), None)


def test_crossed_scanner_is_not_nested() -> None:
    cells = {(t, s, k): 3 for t in ("LUAD", "LUSC") for s in "AB" for k in ("S1", "S2")}
    assert nesting_parents(cohort_of(cells), GRAPH, ["scanner"]) == []
    assert overlap(cohort_of(cells), GRAPH, ["scanner"], ["site", "tumour"]).verdict == "pass"


def test_first_set_that_leaves_something_to_compare() -> None:
    nested, crossed = cohort_of(NESTED), cohort_of(FULL)
    assert comparable_set(nested, GRAPH, ["scanner"], [("site", "tumour"), ("tumour",)]).given == ("tumour",)
    assert comparable_set(crossed, GRAPH, ["site"], [("tumour",), ()]).given == ("tumour",)
    stuck = comparable_set(nested, GRAPH, ["scanner"], [("site", "tumour"), ("site",)])
    assert (stuck.given, stuck.comparable) == (("site", "tumour"), False)


# --- patients on the design -----------------------------------------------------------------------------------------


def test_a_factor_that_varies_within_patients_is_refused_without_naming_them() -> None:
    cohort = cohort_of(FULL)
    cohort.obs.loc[1, "scanner"] = "S2"
    cohort = Cohort(cohort.X, cohort.obs)
    with pytest.raises(
        DataError, match=r"'scanner' takes several values within 1 of 18 patients .*Leave those patients out"
    ) as error:
        stratify(cohort, GRAPH, ["scanner"], [])
    assert "secret" not in str(error.value)
    assert "paired" not in str(error.value)  # that is a design in which most patients are seen twice
    with pytest.raises(DataError, match="'scanner' takes several values"):
        stratify(cohort, GRAPH, ["site"], ["scanner"])


def test_biology_within_patients_forms_no_strata() -> None:
    cohort = cohort_of(FULL)
    cohort.obs.loc[1, "tumour"] = "LUSC"
    strata = stratify(Cohort(cohort.X, cohort.obs), GRAPH, ["site"], ["tumour"])
    assert strata.within is not None
    assert (strata.n_strata, strata.conditioning) == (1, ())
    assert strata.counts().tolist() == [[8, 10]]


def test_joint_factor_keeps_the_combinations_that_occur() -> None:
    factor = joint_factor(cohort_of(NESTED), ["site", "scanner"])
    assert (factor.name, factor.levels) == ("site + scanner", ("A + S1", "B + S2"))


def test_continuous_columns_form_no_strata() -> None:
    graph = CausalGraph.standard(biology="tumour", technical="site", covariates=["age"], group="patient")
    cohort = cohort_of(FULL, age=np.linspace(40.0, 80.0, 18))
    strata = stratify(cohort, graph, ["site"], ["tumour", "age"])
    assert (strata.n_strata, strata.continuous) == (2, ("age",))


def test_levels_without_rows_are_no_levels() -> None:
    cohort = cohort_of({**FULL, ("BRCA", "C"): 3})
    cohort = cohort.replace(obs=cohort.obs.astype({"site": "category", "tumour": "category"}))
    kept = cohort[(cohort.obs["site"] != "C").to_numpy()]
    found = overlap(kept, GRAPH, ["site"], ["tumour"])
    assert (found.verdict, found.levels) == ("pass", ("A", "B"))
    assert cross_table(kept, GRAPH, "site")["biology"] == ["LUAD", "LUSC"]


# --- the largest complete table -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5, 5], [5, 5]], ((0, 1), (0, 1), 20)),
        ([[5, 5], [2, 9]], ((0, 1), (0,), 10)),
        ([[5, 5, 0], [5, 5, 0], [9, 0, 9]], ((0, 1), (0, 1), 20)),
        ([[5, 5, 0], [5, 5, 0], [30, 0, 9]], ((0, 2), (2,), 39)),
        ([[3, 3, 3], [3, 3, 0]], ((0, 1), (0, 1), 12)),  # 12 patients beat 9
        ([[4, 4, 4], [2, 4, 1]], ((0, 1, 2), (0,), 12)),
        ([[3, 3, 0, 0], [0, 0, 3, 3]], ((0, 1), (0,), 6)),  # a tie: the first
        ([[6, 6, 6], [3, 3, 0], [0, 0, 9]], ((0, 1), (0, 1), 18)),  # 18 either way: see below
        ([[9, 2], [2, 9]], None),
        ([[9], [9]], None),
    ],
)
def test_complete_table(counts: list[list[int]], expected) -> None:
    best = complete_table(np.array(counts), 3)
    if expected is None:
        assert best is None
        return
    assert best is not None
    if counts == [[6, 6, 6], [3, 3, 0], [0, 0, 9]]:
        expected = ((0, 1, 2), (0,), 18)  # equal patients: more levels win
    assert (best.levels, best.strata, best.patients) == expected


def test_complete_table_is_the_best_of_all_subsets() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = rng.poisson(3.0, (4, 5))
        patients = [0]
        for subset in range(1, 2**5):
            levels = [i for i in range(5) if subset >> i & 1]
            strata = (counts[:, levels] >= 3).all(axis=1)
            if len(levels) > 1 and strata.any():
                patients.append(int(counts[strata][:, levels].sum()))
        best = complete_table(counts, 3)
        assert (best.patients if best else 0) == max(patients)


def test_complete_table_of_many_levels() -> None:
    counts = np.full((3, 14), 4)
    counts[1, 3] = counts[2, 7] = 0
    best = complete_table(counts, 3)
    assert best is not None
    assert best.patients == 4 * 3 * 12
    assert best.levels == tuple(i for i in range(14) if i not in (3, 7))
    assert complete_table(np.eye(14, dtype=int) * 9, 3) is None
    whole = complete_table(np.full((1, 14), 5), 5)
    assert whole is not None
    assert (whole.levels, whole.strata, whole.patients) == (tuple(range(14)), (0,), 70)
    assert complete_table(np.full((1, 14), 5), 6) is None


# --- strength of association ----------------------------------------------------------------------------------------


def test_cross_table() -> None:
    cohort = cohort_of({**FULL, ("BRCA", "A"): 2}, rows=3)
    told = cross_table(cohort, GRAPH, "site")
    assert told["biology"] == ["BRCA", "LUAD", "LUSC"]
    assert told["groups"] == [[2, 0], [5, 4], [3, 6]]
    assert told["rows"] == [[6, 0], [15, 12], [9, 18]]
    assert (told["empty_cells"], told["unit"], told["levels"]) == (1, "patient", ["A", "B"])
    assert told["cramers_v"] == pytest.approx(association(np.array(told["groups"]), method="cramer"))


def test_a_patient_with_two_classes_counts_in_both_cells() -> None:
    cohort = cohort_of(FULL)
    cohort.obs.loc[1, "tumour"] = "LUSC"
    told = cross_table(Cohort(cohort.X, cohort.obs), GRAPH, "site")
    assert told["groups"] == [[5, 4], [4, 6]]


@pytest.mark.parametrize("counts", [[[10, 3], [4, 9]], [[5, 0, 2], [1, 8, 3]], [[7, 7], [7, 7], [1, 2]]])
def test_cramers_v(counts: list[list[int]]) -> None:
    assert cramers_v(np.array(counts))[0] == pytest.approx(association(np.array(counts), method="cramer"))


def test_bergsma_correction_by_hand() -> None:
    # phi^2 = 1 for a diagonal 10 + 10: phi~^2 = 1 - 1/19 = 18/19, r~ = 2 - 1/19, so V~^2 = (18/19) / (18/19) = 1
    assert cramers_v(np.array([[10, 0], [0, 10]])) == pytest.approx((1.0, 1.0))
    # chi^2 = 20 (12 * 4 - 8 * ...)... [[6, 4], [4, 6]]: chi^2 = 4 * 1^2 / 5 = .8, phi^2 = .04 < 1/19: truncated
    assert cramers_v(np.array([[6, 4], [4, 6]])) == pytest.approx((0.2, 0.0))
    # [[8, 2], [2, 8]]: phi^2 = .36, phi~^2 = .36 - 1/19, r~ - 1 = 18/19
    assert cramers_v(np.array([[8, 2], [2, 8]]))[1] == pytest.approx(np.sqrt((0.36 - 1 / 19) / (18 / 19)))


def test_association_ignores_empty_lines_and_needs_two_levels() -> None:
    assert cramers_v(np.array([[6, 4, 0], [4, 6, 0]])) == cramers_v(np.array([[6, 4], [4, 6]]))
    assert np.isnan(cramers_v(np.array([[6, 4]]))).all()


def test_effective_units() -> None:
    assert effective_units(np.array([[5, 5], [5, 5]])) == pytest.approx(20)
    assert effective_units(np.array([[9, 3], [6, 2]])) == pytest.approx(20)  # independent already
    counts = np.array([[8, 2], [2, 8]])
    weights = np.repeat(100 / counts.ravel(), counts.ravel())  # p(b) p(s) / p(b, s), one weight per patient
    assert effective_units(counts) == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert effective_units(counts) < 20


def test_association_of_two_patients() -> None:
    v, corrected = cramers_v(np.eye(2, dtype=int))
    assert v == 1.0
    assert np.isnan(corrected)
