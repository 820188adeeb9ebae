"""Numbers in hand-written pages stand in a committed file that a script has written."""

import json

import pytest
from docs_numbers import DOCS, ROOT, is_there, marks, paragraphs, results, unsourced

import causalfm as cfm
from experiments import readme_numbers

# Written by their scripts as a whole, most of them compared with their tables by a test of their own.
GENERATED = {
    "augmentation_study",
    "benchmarks",
    "calibration",
    "counterfactuals",
    "data",
    "figures",
    "invariance_on_real_data",
    "penalties",
    "performance_by_level",
    "scale_measured",
    "scanner_errors",
    "scoreboard",
    "shift_across_hospitals",
    "stain",
    "stain_errors",
    "tcga_effects",
    "tile_content",
    "train_with_interventions",
}
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.glob("*.md")) if page.stem not in GENERATED)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_numbers_have_a_source(page):
    wrong = unsourced(page)
    assert not wrong, "\n".join(wrong)


def test_the_finder_finds():
    told = "Of 785 slides 98 % were read (case mix 48.5 %), 2.1 [2.0, 2.2] times, in 3 seconds, 5 of 40; .14 at k = 11."
    assert results(told) == ["98", "48.5", "2.1", "2.0", "2.2", "3", "5", ".14"]
    assert results("causalfm 0.1.0 needs Python 3.11; ADR 0024; arXiv:2501.16239; 24 patients, 2 x 2") == []


def test_a_number_that_its_source_does_not_hold_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("The index is .14. <!-- from: readme_numbers.json, value -->\n\nNo mark: 12 %.\n")
    held = json.loads((DOCS / "readme_numbers.json").read_text("utf-8"))
    assert round(held["robustness index"]["value"], 2) == 0.14
    assert [line.partition(":")[0] for line in unsourced(page)] == ["12"]
    page.write_text("The index is .15. <!-- from: readme_numbers.json, robustness -->\n")
    assert len(unsourced(page)) == 1


def test_a_number_of_the_readme_comes_out_again(data_dir):
    cohort, graph = readme_numbers.four_by_four(data_dir)
    held = json.loads(readme_numbers.OUT.read_text("utf-8"))
    assert held["cohort"] == {"slides": len(cohort), "patients": cohort.factor("case").n_levels}
    again = cfm.metrics.robustness_index(cohort, graph, k=readme_numbers.K, standardised=False)
    assert readme_numbers.plain(again) | {"k": readme_numbers.K} == held["robustness index"]


def test_numbers_are_compared_as_they_are_shown():
    assert is_there(".14", [0.1419])
    assert is_there("98", [0.9771])
    assert is_there("2.1", [2.0999])
    assert not is_there(".15", [0.1419])
    assert not is_there("2.10", [2.111])


def test_a_mark_that_stands_alone_belongs_to_what_is_before_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("| 5 % |\n\n<!-- set: 5 -->\n\nNext.\n")
    first, second = paragraphs(page)
    assert marks(first) == [("set", "5")]
    assert second.strip() == "Next."
