"""The page on real embeddings is its tables, and the tables are what the code gives."""

from pathlib import Path

import pandas as pd
import pytest

from experiments.invariance_on_real_data import METHODS, SPLITS, answer, designs, merged, page

DOCS = Path(__file__).parents[1] / "docs"
ANSWERS, PLACEBOS = (pd.read_csv(DOCS / f"invariance_{name}.csv") for name in ("answers", "placebos"))


def test_the_page_is_written_from_its_tables() -> None:
    assert page(ANSWERS, PLACEBOS) == (DOCS / "invariance_on_real_data.md").read_text(encoding="utf-8")
    names = [name for name, *_ in designs(Path())]
    assert ANSWERS["design"].tolist() == [name for name in names for _ in METHODS]
    assert set(PLACEBOS["design"]) == set(names)
    patients = PLACEBOS[PLACEBOS["unit"] != "row"]
    assert (patients["splits"] == SPLITS).all()
    assert (patients["verdict"] == "pass").all()
    mean = ANSWERS[ANSWERS["method"] == "mean"]
    assert (mean["size_low"] < 0.07).all()


def test_designs_run_again_replace_their_rows(tmp_path: Path) -> None:
    order = ["a", "b"]
    one = merged(tmp_path / "t.csv", pd.DataFrame({"design": ["b"], "p": [0.1]}), order)
    one.to_csv(tmp_path / "t.csv", index=False)
    two = merged(tmp_path / "t.csv", pd.DataFrame({"design": ["a"], "p": [0.2]}), order)
    two.to_csv(tmp_path / "t.csv", index=False)
    last = merged(tmp_path / "t.csv", pd.DataFrame({"design": ["b"], "p": [0.3]}), order)
    assert last.to_dict("list") == {"design": ["a", "b"], "p": [0.2, 0.3]}


def test_one_row_of_the_table_comes_out_again(data_dir) -> None:
    name = "AMi-Br: color"
    ((load, graph),) = [(load, graph) for found, load, graph in designs(data_dir) if found == name]
    again = answer(name, load(), graph, "mean")
    (row,) = ANSWERS[(ANSWERS["design"] == name) & (ANSWERS["method"] == "mean")].to_dict("records")
    assert (again["patients"], again["p"]) == (row["patients"], row["p"])
    assert again["size"] == pytest.approx(row["size"], abs=0.011)  # one or two null cohorts on another processor
