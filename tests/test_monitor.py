"""The monitor: p-values, bets, what it compares, and how often it is wrong."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import binom, kstest

from causalfm import Cohort
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from causalfm.shift import Monitor
from causalfm.shift.watching.conformal_ranks import CHUNK, LEVELS, grid_levels, sequential_p, uniforms
from causalfm.shift.watching.martingales import N_BETS, UP, _log_bets, bet, new_wealth
from causalfm.shift.watching.monitor_memory import Memory
from causalfm.shift.watching.monitor_panels import Panel
from experiments.monitoring import clean_streams, delays, page

SENTINEL = "SENTINEL-PATIENT"


def ranked_by_hand(past, cells, levels, u):
    """The definition, one unit after the other."""
    out, seen = [], list(past)
    for cell, level, noise in zip(cells, levels, u, strict=True):
        seen.append((cell, level))
        own = [other for where, other in seen if where == cell]
        out.append((sum(o > level for o in own) + noise * sum(o == level for o in own)) / len(own))
    return np.array(out)


def test_p_values_are_the_definition_over_cells_ties_chunks_and_batches():
    rng = np.random.default_rng(0)
    n, m = 40, CHUNK + 60
    cells, levels, u = rng.integers(0, 3, n + m), rng.integers(0, 9, (n + m, 2)), uniforms(rng, (m, 2))
    counts = np.zeros((3, 2, LEVELS), dtype=np.int64)
    np.add.at(counts, (cells[:n, None], np.arange(2), levels[:n]), 1)
    first, between = sequential_p(counts, cells[n : n + 30], levels[n : n + 30], u[:30])
    rest, after = sequential_p(between, cells[n + 30 :], levels[n + 30 :], u[30:])
    for t in range(2):
        past = list(zip(cells[:n], levels[:n, t], strict=True))
        by_hand = ranked_by_hand(past, cells[n:], levels[n:, t], u[:, t])
        np.testing.assert_allclose(np.concatenate([first, rest])[:, t], by_hand, rtol=1e-12)
    assert counts.sum() == 2 * n
    assert after.sum() == 2 * (n + m)


def test_ranks_are_exactly_uniform_and_independent_over_all_orders():
    """Three calibration units and three of the stream, in all 720 orders of six scores."""
    found = np.zeros((4, 5, 6))
    for order in itertools.permutations(range(6)):
        counts = np.zeros((1, 1, LEVELS), dtype=np.int64)
        counts[0, 0, list(order[:3])] = 1
        p, _ = sequential_p(counts, np.zeros(3, np.int64), np.array(order[3:])[:, None], np.full((3, 1), 0.5))
        found[tuple(int(value * (4 + k)) for k, value in enumerate(p[:, 0]))] += 1
    np.testing.assert_array_equal(found, 6.0)


def test_ranks_of_two_numbers_of_the_same_patients_are_not_independent_of_their_joint_past():
    """Why martingales of several tracks are not averaged: each is one in its own filtration only."""
    agreeing = []
    for order in itertools.permutations([(1, 2), (2, 3), (3, 1)]):
        counts = np.zeros((1, 2, LEVELS), dtype=np.int64)
        p, _ = sequential_p(counts, np.zeros(3, np.int64), np.array(order), np.full((3, 2), 0.5))
        if p[1, 0] == p[1, 1]:
            agreeing.append(p[2, 1])
    assert len(agreeing) == 2
    assert set(agreeing) == {2.5 / 3}  # uniform would be 1/6, 1/2 and 5/6 alike


def test_smoothed_p_values_of_scores_with_many_ties_are_uniform():
    rng, found = np.random.default_rng(1), []
    for _ in range(300):
        counts = np.bincount(rng.binomial(3, 0.3, 20), minlength=LEVELS)[None, None]
        p, _ = sequential_p(counts, np.zeros(8, np.int64), rng.binomial(3, 0.3, (8, 1)), uniforms(rng, (8, 1)))
        found.append(p[:, 0])
    found = np.array(found)
    assert kstest(found.ravel(), "uniform").pvalue > 0.001
    assert np.abs(np.corrcoef(found.T)[np.triu_indices(8, 1)]).max() < 0.25


def test_levels_keep_the_order_and_take_what_is_infinite():
    values = np.array([-np.inf, -1e9, -2.0, 0.0, 0.02, 3.0, 1e9, np.inf])[:, None]
    levels = grid_levels(values, np.zeros(1), np.ones(1))[:, 0]
    assert (np.diff(levels) >= 0).all()
    assert levels[0] == levels[1] == 0
    assert levels[-1] == levels[-2] == LEVELS - 1
    assert len(set(levels[1:-1])) == 6


@pytest.mark.parametrize("k", range(N_BETS))
def test_every_bet_is_fair(k):
    edges = [0.0, 1e-12, 1e-8, 1e-4, 0.03, 0.5, 0.97, 1 - 1e-4, 1 - 1e-8, 1 - 1e-12]
    total = sum(quad(lambda p: np.exp(_log_bets(np.array(p))[k]), a, b)[0] for a, b in itertools.pairwise(edges))
    assert total == pytest.approx(1.0, abs=5e-3)  # p below 1e-12 left out
    if UP[k]:
        low, high = (_log_bets(np.array(p))[k] for p in (0.001, 0.999))
        assert low > 0
        assert low > high


def test_wealth_is_the_mixture_over_bets_and_waking_times_and_dates_the_change():
    rng = np.random.default_rng(2)
    batches = [rng.random((4, 2)) for _ in range(6)] + [0.05 * rng.random((4, 2)) for _ in range(4)]
    wealth = new_wealth(np.array([False, True]))
    for number, p in enumerate(batches, 1):
        wealth = bet(wealth, p, number)
    reserve = 1.0 / (1.0 + np.log1p(np.arange(11)))
    by_batch = np.array([_log_bets(p).sum(axis=0) for p in batches])  # (batches, T, bets)
    won = np.array([np.exp(by_batch[start:].sum(axis=0)) for start in range(10)])
    expected = np.einsum("s,tk,stk->t", -np.diff(reserve), np.exp(wealth.prior), won) + reserve[-1]
    np.testing.assert_allclose(np.exp(wealth.log_value()), expected)
    assert np.exp(wealth.prior).sum(axis=1) == pytest.approx([1.0, 1.0])
    assert (np.exp(wealth.prior[1]) > 0).tolist() == UP.tolist()
    assert wealth.change().tolist() == [7, 7]
    gain = np.concatenate([_log_bets(p) for p in batches])  # rows in time
    from_each = np.cumsum(gain[::-1], axis=0)[::-1]
    np.testing.assert_allclose(wealth.rise, np.maximum(from_each.max(axis=0), 0.0), atol=1e-9)
    assert (wealth.peak >= wealth.log_value()).all()


def clean_panel(rng, n):
    counts = np.zeros((1, 1, LEVELS), dtype=np.int64)
    np.add.at(counts, (0, 0, grid_levels(rng.standard_normal((n, 1)), np.zeros(1), np.ones(1))[:, 0]), 1)
    return Panel(("embedding",), ("x",), np.zeros((1, 1)), np.zeros(1), np.ones(1), counts, np.array([np.log(20.0)]))


def test_files_that_are_sorted_by_a_finding_raise_no_alarm():
    """Patients of a day are compared in an order drawn at random; in the order of the files nearly all would alarm."""
    alarms = {True: 0, False: 0}
    for seed in range(60):
        for sort in alarms:
            rng = np.random.default_rng(seed)
            watch = clean_panel(rng, 200).start(Memory(np.empty(0, np.uint64), 1))
            wealth, counts = watch.wealth, watch.counts
            for number in range(1, 6):
                values = np.sort(rng.standard_normal((40, 1)), axis=0)
                levels = grid_levels(values, np.zeros(1), np.ones(1))
                if sort:
                    watch = watch.rank(np.zeros(40, np.int64), levels, rng, number)
                else:
                    p, counts = sequential_p(counts, np.zeros(40, np.int64), levels, uniforms(rng, levels.shape))
                    wealth = bet(wealth, p, number)
            alarms[sort] += (watch.wealth if sort else wealth).peak[0] >= np.log(20.0)
    assert alarms[True] <= binom.ppf(0.999, 60, 0.05)
    assert alarms[False] > 40


def test_false_alarms_of_clean_streams_are_as_rare_as_promised_and_other_rules_are_not():
    design = clean_streams.Design()
    found = [clean_streams.study(design, 31_000 + i, others=i < 12) for i in range(70)]
    monitor = np.array([one["monitor"] for one in found])
    assert (monitor <= 0.05).sum() <= binom.ppf(0.999, 70, 0.05)
    for rule in ("fixed calibration sample", "every row a unit"):
        assert np.mean([one[rule] <= 0.05 for one in found[:12]]) > 0.25


@pytest.mark.parametrize(("name", "benign"), [("age", "older"), ("scanner", "scanners")])
def test_a_change_that_is_declared_benign_raises_no_alarm(name, benign):
    changed = {"older": 1.5, "scanners": 0.5} if benign == "older" else {"older": 0.0, "scanners": 0.95}
    given = clean_streams.Design(**changed, given=name)
    bare = clean_streams.Design(**changed)
    alarms = [
        [clean_streams.study(design, 32_000 + i, others=False)["monitor"] <= 0.05 for i in range(20)]
        for design in (given, bare)
    ]
    assert sum(alarms[0]) <= binom.ppf(0.999, 20, 0.05)
    assert sum(alarms[1]) >= 12


@pytest.mark.parametrize(
    ("kind", "size", "stream"),
    [("concept", 1.5, "errors"), ("new_support", 1.0, "embedding"), ("case_mix", 1.6, "scores")],
)
def test_a_planted_change_is_noticed_named_and_dated(kind, size, stream):
    found = [delays.one(kind, size, 33_000 + 3 * i) for i in range(3)]
    assert not any(one.early for one in found)
    assert sum(one.stream == stream for one in found) >= 2
    assert np.median([one.delay for one in found]) <= 100
    assert np.median([abs(one.since) for one in found]) <= 1


@pytest.fixture(scope="module")
def hospital():
    _, _, graph, truth = planted_shift("nothing", 0.0, n_groups=12, new_groups=1)
    reference, stream = (truth.draw("deployment", n, 3, seed) for n, seed in ((120, 1), (120, 2)))
    obs = stream.obs.assign(patient=SENTINEL + stream.obs["patient"])
    return graph, reference, stream.replace(obs=obs)


def days(cohort, n=6):
    codes = np.unique(cohort.obs["patient"], return_inverse=True)[1]
    return [cohort[codes * n // (codes.max() + 1) == k] for k in range(n)]


def model(X):
    p = 1.0 / (1.0 + np.exp(-X[:, 0]))
    return np.stack([1.0 - p, p], axis=1)


def test_returning_patients_are_not_compared_again(hospital):
    graph, reference, stream = hospital
    monitor = Monitor.fit(reference, graph, random_state=1)
    first, second, *_ = days(stream)
    assert (monitor.update(first).patients, monitor.status().returned) == (20, 0)
    both = Cohort(np.concatenate([first.X[:30], second.X]), pd.concat([first.obs[:30], second.obs]))
    status = monitor.update(both)
    assert (status.patients, status.returned, status.batch) == (40, 10, 2)
    again = monitor.update(reference[:90])
    assert (again.patients, again.returned) == (40, 30)
    assert monitor.update(both).repeated
    assert monitor.status().batch == 3


def test_labels_that_come_late_are_used_once(hospital):
    graph, reference, stream = hospital
    monitor = Monitor.fit(reference, graph, model=model)
    first, second, *_ = days(stream)
    bare = first.replace(obs=first.obs.drop(columns="tumour"))
    assert (monitor.update(bare).patients, monitor.status().labelled) == (20, 0)
    half = first.obs["tumour"].where(np.arange(len(first)) < 30)
    assert (monitor.update(first.replace(obs=first.obs.assign(tumour=half))).labelled) == 10
    status = monitor.update(first)
    assert (status.patients, status.labelled, status.returned) == (20, 20, 20)
    assert {row["stream"] for row in status.rows()} == {"embedding", "scores", "errors"}
    whole = Monitor.fit(reference, graph, model=model)
    whole.update(first)
    assert whole.status().labelled == 20
    assert monitor.update(second).labelled == 40


def test_score_columns_are_watched_as_a_model_is(hospital):
    graph, reference, stream = hospital
    one, two = Monitor.fit(reference, graph, model=model), None
    columns = {"class0": "p0", "class1": "p1"}
    tables = [c.replace(obs=c.obs.assign(p0=model(c.X)[:, 0], p1=model(c.X)[:, 1])) for c in (reference, stream)]
    two = Monitor.fit(tables[0], graph, scores=columns)
    assert one.update(stream).rows() == two.update(tables[1]).rows()


def test_patients_without_a_like_in_the_reference_are_counted_and_not_compared(hospital):
    graph, reference, stream = hospital
    monitor = Monitor.fit(reference, graph, given=["age", "scanner"])
    obs = stream.obs.copy()
    obs.iloc[:30, obs.columns.get_loc("scanner")] = "C"
    obs.iloc[30:33, obs.columns.get_loc("age")] = 500.0
    obs.iloc[33, obs.columns.get_loc("scanner")] = "A" if obs["scanner"].iloc[33] == "B" else "B"
    ordinary = Monitor.fit(reference, graph, given=["age", "scanner"]).update(stream)
    status = monitor.update(stream.replace(obs=obs))
    assert status.outside == ordinary.outside + 12
    assert status.patients + status.outside == 120
    assert f"Not compared: {status.outside} patients with values of scanner or age" in status.sentence
    assert "alike in scanner and age" in status.guarantee


def test_the_alarm_stays_until_it_is_taken_back(hospital):
    graph, reference, stream = hospital
    monitor = Monitor.fit(reference, graph)
    parts = days(stream)
    assert monitor.update(parts[0], name="monday").verdict == "cannot tell"
    assert "early" in monitor.status().sentence
    for k, part in enumerate(parts[1:3]):
        status = monitor.update(part.replace(X=part.X + 4.0), name=f"day {k}")
    assert status.verdict == "fail"
    assert (status.alarm.stream, status.alarm.since, status.alarm.since_name) == ("embedding", 2, "day 0")
    assert status.alarm.odds >= 10 / 0.01
    later = monitor.update(parts[3])
    assert later.alarm == status.alarm
    assert "at most 1 %" in later.sentence
    cleared = monitor.reset()
    assert (cleared.verdict, cleared.alarm, cleared.patients) == ("cannot tell", None, 0)
    assert "there were 1" in cleared.guarantee
    assert monitor.update(parts[0]).repeated
    status = monitor.update(parts[4])
    assert status.patients == 20
    assert status.alarm is None
    assert monitor.update(parts[5].replace(X=parts[5].X + 4.0)).verdict == "fail"


def test_enough_quiet_patients_pass(hospital):
    graph, reference, stream = hospital
    monitor = Monitor.fit(reference, graph, noticeable=1.5)
    status = monitor.update(stream)
    assert status.verdict == "pass"
    assert "No alarm does not show that nothing changed" in status.sentence


def test_one_row_at_random_does_not_mind_more_rows(hospital):
    graph, reference, stream = hospital
    first = stream.obs.groupby("patient").cumcount().to_numpy() == 0
    monitors = [Monitor.fit(reference, graph, unit=unit, noticeable=4.0) for unit in ("row", "mean")]
    found = [monitor.update(stream[first]).to_frame().set_index("track")["largest"] for monitor in monitors]
    away = "distance off the directions"
    assert found[0][away] < 2.0  # one row each in the stream, three in the reference
    assert found[1][away] > 3.0


def test_memory_does_not_grow_with_the_stream(hospital):
    graph, reference, stream = hospital
    monitor = Monitor.fit(reference, graph, capacity=150)
    for part in days(stream):
        status = monitor.update(part)
    assert status.forgotten == 90
    assert "90 patients seen before are forgotten: none of them may come again" in status.guarantee
    assert [len(watch.memory.hashes) for watch in monitor._state.watches] == [150]
    assert monitor._state.watches[0].counts.shape == monitor._plan.panels[0].counts.shape


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"alpha": 1.5}, "probability"),
        ({"alpha": 0.0}, "above 0"),
        ({"unit": "median"}, "'mean', 'row'"),
        ({"given": "patient"}, "names units"),
        ({"given": "nowhere"}, "no column 'nowhere'"),
        ({"given": "crowd"}, "Merge rare levels"),
        ({"model": model, "scores": {}}, "not both"),
        ({"scores": {"class0": "p0"}}, "one column for each class"),
        ({"scores": {"class0": "age", "class1": "age"}}, "no probabilities in 360 rows of the reference"),
        ({"key": b"short"}, "16 to 64 bytes"),
        ({"capacity": 0}, "at least 1"),
        ({"noticeable": -1.0}, "above 0"),
        ({"random_state": -1}, "random_state"),
    ],
)
def test_what_cannot_be_fitted_is_refused(hospital, change, match):
    graph, reference, _ = hospital
    crowd = [f"level{i % 40}" for i in reference.obs["patient"].str[3:].astype(int)]
    with pytest.raises(DataError, match=match):
        Monitor.fit(reference.replace(obs=reference.obs.assign(crowd=crowd)), graph, **change)


def test_small_references_and_missing_labels_are_refused(hospital):
    graph, reference, _ = hospital
    with pytest.raises(DataError, match="39 patients and 40 are the least"):
        Monitor.fit(reference[:117], graph)
    labels = reference.obs["tumour"].where(np.arange(len(reference)) > 0)
    incomplete = reference.replace(obs=reference.obs.assign(tumour=labels))
    with pytest.raises(DataError, match="absent or incomplete"):
        Monitor.fit(incomplete, graph, model=model)
    assert Monitor.fit(incomplete, graph).status().verdict == "cannot tell"


def test_bad_batches_are_refused_and_leave_the_state(hospital):
    graph, reference, stream = hospital
    monitor = Monitor.fit(reference, graph, model=model, given="age")
    monitor.update(days(stream)[0])
    before = monitor.status().to_dict()
    bad = {
        "dimensions": stream.replace(X=stream.X[:, :5]),
        "no column 'patient'": stream.replace(obs=stream.obs.drop(columns="patient")),
        "has 1 missing values": stream.replace(
            obs=stream.obs.assign(age=stream.obs["age"].where(stream.obs.index != stream.obs.index[3]))
        ),
        "does not know: other": stream.replace(obs=stream.obs.assign(tumour="other")),
    }
    for match, batch in bad.items():
        with pytest.raises(DataError, match=match) as caught:
            monitor.update(batch)
        assert SENTINEL not in str(caught.value)
    with pytest.raises(DataError, match="must be a Cohort"):
        monitor.update(stream.X)
    assert monitor.status().to_dict() == before


def test_site_directions_are_those_in_which_hospitals_differ():
    _, _, graph, truth = planted_shift("nothing", 0.0, n_groups=12, new_groups=1, site_spread=3.0)
    reference = truth.draw("reference", 240, 2, 1)
    monitor = Monitor.fit(reference, graph, noticeable=4.0)
    view = monitor._plan.view
    sites = np.array([reference.X[reference.obs["site"] == s].mean(axis=0) for s in sorted(set(reference.obs["site"]))])
    sites -= sites.mean(axis=0)
    inside = sites @ view.directions[:, : view.n_site]
    assert view.n_site == 4
    assert (inside**2).sum() / (sites**2).sum() > 0.8
    np.testing.assert_allclose(view.directions.T @ view.directions, np.eye(8), atol=1e-10)


def test_p_values_and_martingales_beside_those_of_crepes():
    """The same ranks; after a long quiet time our bets lose less than a jumper's, and miss no more than sleepers do."""
    martingales = pytest.importorskip("crepes.martingales")
    rng = np.random.default_rng(4)
    levels = rng.integers(0, 300, 900)
    thetas = np.random.RandomState(7).rand(900)
    counts = np.zeros((1, 1, LEVELS), dtype=np.int64)
    p, _ = sequential_p(counts, np.zeros(900, np.int64), levels[:, None], thetas[:, None])
    np.testing.assert_allclose(p[:, 0], martingales.semi_online_p_values(levels, seed=7), rtol=1e-12)
    delays = {"ours": [], "SimpleJumper": [], "SleeperStayer": []}
    for _ in range(6):
        scores = np.concatenate([rng.standard_normal(2000), 0.75 + rng.standard_normal(400)])
        p = martingales.semi_online_p_values(scores)[500:]
        wealth, ours = new_wealth(np.array([False])), []
        for k, part in enumerate(p.reshape(-1, 10)):
            wealth = bet(wealth, part[:, None], k + 1)
            ours += 10 * [np.exp(wealth.peak[0])]
        delays["ours"].append(first_above(ours))
        for name in ("SimpleJumper", "SleeperStayer"):
            delays[name].append(first_above(getattr(martingales, name)().apply(p)))
    middle = {name: np.median(found) for name, found in delays.items()}
    assert middle["ours"] < 0.75 * middle["SimpleJumper"]
    assert middle["ours"] < 1.15 * middle["SleeperStayer"]


def test_the_page_is_made_from_its_table_and_the_promise_was_kept():
    docs = Path(__file__).parents[1] / "docs"
    table = pd.read_csv(docs / "monitoring.csv")
    text = (docs / "monitoring.md").read_text(encoding="utf-8")
    assert page.section(table) in text
    clean = table[table["part"] == "clean"].set_index(["design", "rule"])
    kept = clean[clean["promised"] == True]  # noqa: E712 - read from text beside empty cells
    assert len(kept) == sum(design.promised for design in clean_streams.DESIGNS.values())
    assert (kept["streams"] == 2000).all()
    for column, alpha in (("alarms_05", 0.05), ("alarms_01", 0.01)):
        assert (kept[column] <= binom.ppf(0.999, 2000, alpha)).all()
    quoted = [
        clean.loc[("nothing changes, 4 rows each", rule), ["alarms_05", "streams"]]
        for rule in ("fixed calibration sample", "monitor")
    ]
    words = " ".join((docs / "adr" / "0021-monitoring.md").read_text(encoding="utf-8").split())
    assert "{:.0f} of {:,.0f} clean streams".format(*quoted[0]) in words
    assert "{:.0f} of {:,.0f} with ranks among all before".format(*quoted[1]) in words


def first_above(values):
    """Patients after the change until odds of 100 to 1."""
    return int(np.argmax(np.append(values, np.inf) >= 100)) - 1500
