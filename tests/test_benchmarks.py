"""The book of benchmarks: what it measures, records, judges and prints."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from benchmark_records import ABOUT, frozen

from experiments.benchmarks import __main__ as command
from experiments.benchmarks.book import FAMILIES, MODULES, chosen, entries, entry_of
from experiments.benchmarks.claim import Claim, Gauge, Growth, Trial
from experiments.benchmarks.exponents import exponent
from experiments.benchmarks.judging import shortfalls, unexplained
from experiments.benchmarks.measuring import Disagreement, in_turn, measure
from experiments.benchmarks.page import page, write_page
from experiments.benchmarks.records import append, load, of_run

ROOT = Path(__file__).parents[1]
ENTRIES = entries()
CLAIMS = [entry for entry in ENTRIES if isinstance(entry, Claim)]
NAMED = {entry.name: entry for entry in ENTRIES}


# --- the book ---------------------------------------------------------------------------------------------------------


def test_names_are_unique_and_every_claim_says_what_it_is_held_against() -> None:
    assert len(NAMED) == len(ENTRIES)
    assert all(entry_of(entry.name) is entry for entry in ENTRIES)
    shown = {part for parts in FAMILIES.values() for part in parts}
    assert {claim.name.split(".")[0] for claim in CLAIMS} == shown == set(MODULES) - {"machine", "growth"}
    for claim in CLAIMS:
        assert claim.limit, claim.name
        assert bool(claim.peer) != bool(claim.no_peer), f"{claim.name}: a peer, or the reason why there is none"
        assert bool(claim.peer) == bool(claim.differs) == (claim.tolerance > 0), f"{claim.name}: answers are compared"
        assert not claim.needs or claim.absent, claim.name
        assert set(claim.sizes) == set(claim.fast), claim.name


def test_peers_of_the_issue_are_there() -> None:
    peers = {"croma", "hyppo", "econml", "dowhy", "neuroCombat", "concept-erasure", "torch-staintools", "torch"}
    assert peers <= {claim.peer for claim in CLAIMS}


def test_growth_is_over_four_sizes_and_a_factor_of_eight() -> None:
    growths = [entry for entry in ENTRIES if isinstance(entry, Growth)]
    assert {growth.along for growth in growths} == {"n", "d", "sites"}
    for growth in growths:
        assert len(growth.values) >= 4, growth.name
        assert growth.values[-1] >= 8 * growth.values[0], growth.name
        assert len(growth.fast_values) >= 4, growth.name
        assert (growth.wanted is not None) == (growth.along == "n"), growth.name


def test_names_choose_whole_parts_only() -> None:
    assert [entry.name for entry in chosen(["scm.gcm"])] == ["scm.gcm"]
    assert {entry.name.split(".")[0] for entry in chosen(["scm", "effects"])} == {"scm", "effects"}
    assert chosen([]) == ENTRIES
    with pytest.raises(ValueError, match="'neighbour' names nothing"):
        chosen(["neighbour"])


# --- measuring --------------------------------------------------------------------------------------------------------


def test_calls_take_turns_and_start_with_another_each_round() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in ("ours", "limit", "peer")}
    spent = in_turn(calls, 3, most={"peer": 2})
    assert order == ["ours", "limit", "peer", "limit", "peer", "ours", "ours", "limit"]
    assert {name: len(costs) for name, costs in spent.items()} == {"ours": 3, "limit": 3, "peer": 2}


def claim_of(trial: Trial, **given) -> Claim:
    settings = {"peer": "peer", "differs": "numbers", "tolerance": 0.1, "repeats": 1}
    return Claim("a.b", "a task", lambda folder: trial, {}, {}, "nothing", **{**settings, **given})


def test_a_claim_has_times_memory_and_ratios(tmp_path: Path) -> None:
    held = 64 * 2**20
    twice = lambda: np.add(np.ones(held // 8), 0.05, out=np.ones(held // 8))  # noqa: E731
    trial = Trial(lambda: np.ones(held // 8), lambda: np.ones(held // 80), twice)
    found = measure(claim_of(trial, repeats=2), tmp_path, fast=False)
    assert found["apart"] == pytest.approx(0.05)
    assert found["ours"]["mib"] == pytest.approx(64, abs=6)
    assert found["limit"]["mib"] == pytest.approx(6, abs=4)
    assert found["peer"]["mib"] == pytest.approx(128, abs=6)
    for ratio in (found["over_limit"], found["peer_over_ours"]):
        assert ratio["wall"] == sorted(ratio["wall"])
        assert min(ratio["wall"]) > 0


def test_another_answer_is_no_time_to_report(tmp_path: Path) -> None:
    with pytest.raises(Disagreement, match=r"numbers: 1 apart, 0.1 allowed"):
        measure(claim_of(Trial(lambda: 1.0, lambda: None, lambda: 2.0)), tmp_path, fast=False)
    with pytest.raises(Disagreement, match="nan apart"):
        measure(claim_of(Trial(lambda: 1.0, lambda: None, lambda: np.nan)), tmp_path, fast=False)
    with pytest.raises(ValueError, match="shapes"):
        measure(claim_of(Trial(lambda: np.ones(2), lambda: None, lambda: 1.0)), tmp_path, fast=False)


def test_what_comes_before_a_call_comes_before_each(tmp_path: Path) -> None:
    log: list[str] = []
    trial = Trial(lambda: log.append("ours"), lambda: log.append("limit"), before=lambda: log.append("before"))
    measure(claim_of(trial, peer="", repeats=2), tmp_path, fast=False)
    assert log[::2] == ["before"] * 6
    assert sorted(log[1::2]) == ["limit"] * 3 + ["ours"] * 3  # one of each to warm up


@pytest.mark.parametrize(("power", "factor"), [(1.0, 3e-6), (2.0, 1e-9), (0.0, 0.5)])
def test_exponent_of_exact_powers(power: float, factor: float) -> None:
    sizes = (1000, 2000, 4000, 8000)
    slope, error = exponent(sizes, [factor * n**power for n in sizes])
    assert slope == pytest.approx(power, abs=1e-12)
    assert error == pytest.approx(0.0, abs=1e-7)


def test_exponent_and_its_error_are_those_of_statsmodels() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    sizes = np.array([1000, 2000, 4000, 8000, 16_000])
    seconds = 1e-6 * sizes**1.05 * np.exp(0.1 * rng.standard_normal(5))
    fit = sm.OLS(np.log(seconds), sm.add_constant(np.log(sizes))).fit()
    assert exponent(sizes, seconds) == pytest.approx((fit.params[1], fit.bse[1]))


@pytest.mark.parametrize(("sizes", "seconds"), [((1, 2), (1, 2)), ((1, 2, 3), (1, 0, 1)), ((1, 2, 3), (1, 2))])
def test_exponent_of_too_little(sizes, seconds) -> None:
    with pytest.raises(ValueError, match="three sizes"):
        exponent(sizes, seconds)


def test_fixed_costs_flatten_an_exponent() -> None:
    sizes = (1000, 2000, 4000, 8000)
    assert exponent(sizes, [1.0 + 1e-3 * n for n in sizes])[0] < 0.95


# --- records ----------------------------------------------------------------------------------------------------------


def test_half_a_line_of_a_killed_run_is_passed_over_and_ended(tmp_path: Path) -> None:
    path = tmp_path / "records" / "r.jsonl"
    append(path, {"name": "a", "run": "1", "value": 1})
    with path.open("ab") as file:
        file.write(b'{"name": "b", "run": "1", "val')
    assert [record["name"] for record in load(path)] == ["a"]
    append(path, {"name": "c", "run": "1"})
    append(path, {"name": "a", "run": "2", "value": 2})
    assert [record["name"] for record in load(path)] == ["a", "c", "a"]
    assert of_run(load(path), "1")["a"]["value"] == 1


# --- the command ------------------------------------------------------------------------------------------------------


def run(tmp_path: Path, *more: str) -> dict:
    path = tmp_path / "r.jsonl"
    command.main(["--fast", "--repeats", "1", "--threads", "1", "--records", str(path), *more])
    return {record["name"]: record for record in load(path)}


def test_two_tiny_claims_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("correctors.combat", "neighbours.gpu")
    found = run(tmp_path, "--only", *names, "--docs", str(tmp_path / "docs"))
    assert found["correctors.combat"]["status"] == "done"
    assert found["correctors.combat"]["apart"] < 1e-4
    assert found["correctors.combat"]["threads"] == 1
    import torch

    if not torch.cuda.is_available():
        assert found["neighbours.gpu"]["status"] == "not run"
    text = (tmp_path / "docs" / "benchmarks.md").read_text("utf-8")
    assert "`correctors.combat`" in text
    kept = json.loads((tmp_path / "docs" / "benchmarks.json").read_text("utf-8"))
    assert {record["name"] for record in kept["records"]} == set(names)
    capsys.readouterr()
    run(tmp_path, "--only", "correctors.combat")
    assert "correctors.combat: done before" in capsys.readouterr().out
    assert sum(record["name"] == "correctors.combat" for record in load(tmp_path / "r.jsonl")) == 1


def test_one_that_hangs_is_killed_and_the_rest_goes_on(tmp_path: Path) -> None:
    found = run(tmp_path, "--only", "machine.float32", "neighbours.gpu", "--timeout", "0.05")
    assert found["machine.float32"]["status"] == "killed"
    assert found["machine.float32"]["reason"] == "not done after 0.05 s"
    assert "neighbours.gpu" in found


def test_one_that_dies_or_fails_is_recorded_and_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.benchmarks import runner

    entry, path, codes = NAMED["machine.float32"], tmp_path / "r.jsonl", [-9, 1, 0]

    def started(command: list[str], **given):
        code = codes.pop(0)
        if code == 0:
            Path(command[command.index("--child-out") + 1]).write_text('{"rate": [1, 1, 1], "unit": "x"}', "utf-8")
        return type("Done", (), {"returncode": code, "stderr": "Traceback\nMemoryError: no more\n"})()

    monkeypatch.setattr(runner.subprocess, "run", started)
    for status, reason in (("killed", "SIGKILL"), ("failed", "MemoryError: no more"), ("done", None)):
        found = runner.run_all([entry], path, "run", threads=1, say=lambda _: None)
        assert (found[entry.name]["status"], found[entry.name].get("reason")) == (status, reason)
    runner.run_all([entry], path, "run", threads=1, say=lambda _: None)
    assert len(load(path)) == 3  # done is done
    codes.append(-9)
    runner.run_all([entry], path, "of another machine", threads=1, say=lambda _: None)
    codes.append(-9)
    runner.run_all([entry], path, "run", threads=1, repeats=9, say=lambda _: None)
    assert len(load(path)) == 5


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "nonsense"])
    assert "'nonsense' names nothing in the book" in capsys.readouterr().err


# --- what falls short -------------------------------------------------------------------------------------------------


def of(name: str) -> tuple:
    return NAMED[name], {record["name"]: record for record in frozen()}[name]


def test_slower_than_the_peer_or_above_twice_the_limit_needs_a_reason() -> None:
    entry, record = of("scm.gcm")
    assert shortfalls(entry, record) == []
    entry = dataclasses.replace(entry, why="")
    record["over_limit"]["wall"] = [1.0, 2.01, 3.0]
    assert shortfalls(entry, record) == ["2.01 times its limit"]
    record["peer_over_ours"]["wall"] = [0.1, 0.5, 3.0]
    assert shortfalls(entry, record) == ["2.01 times its limit", "2 times the time of dowhy"]
    assert unexplained(entry, record) == shortfalls(entry, record)
    assert unexplained(dataclasses.replace(entry, why="Because."), record) == []


def test_growth_other_than_wanted_and_failures_need_a_reason() -> None:
    entry, record = of("growth.rows.moments")
    assert shortfalls(entry, record) == []
    for value in (0.94, 1.11):
        assert shortfalls(entry, {**record, "exponent": value}) == [f"exponent {value}, wanted 0.95 to 1.1"]
    assert shortfalls(dataclasses.replace(entry, wanted=None), {**record, "exponent": 3.0}) == []
    failed = {**record, "status": "failed", "reason": "MemoryError"}
    assert unexplained(dataclasses.replace(entry, why="Because."), failed) == ["failed: MemoryError"]
    entry, record = of("neighbours.gpu")
    assert record["status"] == "not run"
    assert unexplained(entry, record) == []


# --- the page ---------------------------------------------------------------------------------------------------------


def test_page_of_frozen_records() -> None:
    text = page({"about": ABOUT, "records": frozen()})
    row = next(line for line in text.splitlines() if line.startswith("| `scm.gcm`"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1:] == [
        "n 20,000, d 64, sites 8",
        "0.2 (0.19 to 0.21)",
        "dowhy: 4 (3.9 to 4.1)",
        "0.15 (0.1 to 0.16)",
        "**20** (19 to 21)",
        "**1.33** (1.2 to 1.9)",
        "**1.4** (1.3 to 1.5)",
        "12, 1,234",
    ]
    assert "| processor of a test (x86-64), 2 cores |" in text.replace("machine | ", "")
    assert "`growth.rows.moments`: sums per patient | rows |" in text
    assert "1.02 ± 0.01" in text
    assert "0.15*, 1.3" in text  # the smallest took too little time
    assert "neighbours.gpu` not run: this machine has no CUDA device." in text
    assert "machine.float32" in text.split("## Not measured in this run")[1]
    assert "Not explained" not in text


def test_page_shows_no_paths_and_what_is_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = tuple(entry if isinstance(entry, Gauge) else dataclasses.replace(entry, why="") for entry in ENTRIES)
    records = frozen()
    records[1]["exponent"] = 1.5
    with monkeypatch.context() as changed:
        changed.setattr("experiments.benchmarks.page.entries", lambda: silent)
        text = page({"about": ABOUT, "records": records})
    assert "`growth.rows.moments`. **Exponent 1.50, wanted 0.95 to 1.1.** **Not explained.**" in text
    by_name = {record["name"]: record for record in records}
    by_name["neighbours.gpu"].update(status="failed", reason="No such file: '/home/someone/secret/x.npy'")
    by_name["scm.gcm"]["over_limit"]["wall"] = [9.0, 9.0, 9.0]
    text = page({"about": ABOUT, "records": records})
    assert "someone" not in text
    assert "neighbours.gpu` failed: No such file: '...'" in text
    assert f"**9 times its limit.** {NAMED['scm.gcm'].why}" in text


def test_page_is_written_with_its_facts(tmp_path: Path) -> None:
    facts = {"about": ABOUT, "records": frozen()}
    write_page(facts, tmp_path)
    assert json.loads((tmp_path / "benchmarks.json").read_text("utf-8")) == facts
    assert (tmp_path / "benchmarks.md").read_text("utf-8") == page(facts)


# --- the committed page -----------------------------------------------------------------------------------------------


def committed() -> dict:
    return dict(json.loads((ROOT / "docs" / "benchmarks.json").read_text("utf-8")))


def test_committed_page_is_that_of_its_facts() -> None:
    expected = page(committed())
    assert (ROOT / "docs" / "benchmarks.md").read_text("utf-8") == expected, (
        "the words changed: python -m experiments.benchmarks --page writes the page anew from its facts"
    )


def test_everything_on_the_committed_page_that_falls_short_is_explained() -> None:
    records = committed()["records"]
    assert {record["name"] for record in records} == set(NAMED), "measured: the whole book"
    missing = {record["name"]: unexplained(NAMED[record["name"]], record) for record in records}
    assert {name: short for name, short in missing.items() if short} == {}


def test_explanations_have_no_numbers_typed_by_hand() -> None:
    for entry in ENTRIES:
        if isinstance(entry, Gauge):
            continue
        assert not re.search(r"\d+(\.\d+)? (s|ms|times|GiB|MiB|%)\b", entry.why), entry.name
        assert not entry.why or entry.why.endswith("."), entry.name
