"""One comparison of three encoders: scores at one k, frames, conclusions, the page and the figure."""

import json
import re
from dataclasses import replace

import comparison_samples
import numpy as np
import pandas as pd
import pytest
from browser import chromium, visit
from comparison_samples import GRAPH, INDEX, copies, estimate, mean_influence
from markupsafe import escape
from report_samples import HOSTILE

import causalfm as cfm
from causalfm.auditing import METRICS, Metric
from causalfm.auditing.boards import compare_scores
from causalfm.auditing.comparison_words import headline
from causalfm.auditing.documents import check_schema
from causalfm.auditing.formatting import bounds
from causalfm.errors import DataError
from causalfm.metrics import robustness_index
from causalfm.results import Estimate

encoders = comparison_samples.encoders  # a fixture


@pytest.fixture(scope="module")
def compared(encoders) -> cfm.Comparison:
    return cfm.compare(encoders, GRAPH)


# --- boards ----------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_measures_at_one_k(encoders, compared) -> None:
    board = compared.board("robustness_index", "site")
    own = board.details["k of each encoder"]
    k = board.details["k"]
    assert k == sorted(own.values())[1]
    assert own == {
        n: robustness_index(c, GRAPH, standardised=False, max_k=300).details["k"] for n, c in encoders.items()
    }
    for name, cohort in encoders.items():
        alone = robustness_index(cohort, GRAPH, k=k, standardised=False)
        assert board.scores[name].to_dict()["value"] == alone.value
        assert (board.scores[name].low, board.scores[name].high) == (alone.low, alone.high)
    curve = pd.DataFrame(board.details["robustness index over k"]).set_index("k")
    assert curve.loc[k, "plain"] == board.scores["plain"].value
    given = cfm.compare(encoders, GRAPH, metrics=INDEX, k=3)
    assert given.board("robustness_index").scores["plain"].details["k"] == 3


def test_one_search_for_each_encoder(encoders, monkeypatch) -> None:
    from causalfm.auditing import comparing

    searched = []
    monkeypatch.setattr(comparing, "knn", lambda X, *a, **k: searched.append(X) or cfm.knn(X, *a, **k))
    monkeypatch.setattr("causalfm.metrics.lists.knn", lambda *a, **k: pytest.fail("searched again"))
    cfm.compare(encoders, GRAPH, metrics=INDEX)
    assert [X is c.X for X, c in zip(searched, encoders.values(), strict=True)] == [True] * 3


def test_equal_encoders_have_no_interval_and_share_their_ranks(compared) -> None:
    board = compared.board("robustness_index")
    same = next(c for c in board.contrasts if {c.a, c.b} == {"plain", "plain, wider"})
    assert same.difference == 0
    assert np.isnan([same.low, same.joint_high, same.p_value]).all()
    assert not same.told_apart
    places = {s.encoder: s for s in board.standings}
    assert places["centred"].may_be_best
    assert (places["plain"].rank_low, places["plain"].rank_high) == (2, 3)
    assert places["plain"].shares[1] == pytest.approx(0.5, abs=0.02)


def test_frames_hold_every_measure_factor_and_encoder(compared) -> None:
    frame = compared.to_frame()
    assert len(frame) == 3 * len(compared.boards) == 3 * len(METRICS)
    assert set(frame["metric"]) == set(METRICS)
    assert frame.loc[frame["metric"] == "biology_readout", "factor"].unique().tolist() == ["tumour"]
    best = frame[(frame["metric"] == "robustness_index") & frame["may_be_best"].astype(bool)]
    assert best["encoder"].tolist() == ["centred"]
    contrasts = compared.contrasts()
    of_index = contrasts[contrasts["metric"] == "robustness_index"]
    assert len(of_index) == 3
    first = of_index.iloc[0]
    scores = compared.board("robustness_index").scores
    assert first["difference"] == pytest.approx(scores[first["a"]].value - scores[first["b"]].value)
    with pytest.raises(KeyError, match="no board 'magic'"):
        compared.board("magic")


def test_the_same_run_twice_is_the_same(encoders) -> None:
    first, second = (cfm.compare(encoders, GRAPH, metrics=INDEX).to_frame() for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_measures_of_ones_own_and_several_factors(encoders) -> None:
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    asked = []

    def norm(cohort, graph, *, confounder, random_state):
        asked.append((confounder, random_state))
        sizes = np.linalg.norm(cohort.X, axis=1)
        codes = cohort.factor("patient").codes
        means = np.bincount(codes, sizes) / np.bincount(codes)
        return replace(estimate(means.mean(), (means - means.mean()) / len(means)), n=len(cohort))

    def width(cohort, graph):
        return estimate(float(cohort.d), None)

    def refuses(cohort, graph, *, k):
        raise DataError("too thin for this")

    own = {"norm": norm, "width": Metric("width of the vectors", width), "refuses": refuses}
    found = cfm.compare(encoders, graph, metrics=own, random_state=5)
    assert [(b.metric, b.factor) for b in found.boards] == [
        ("norm", "site"), ("norm", "scanner"), ("width", "tumour"), ("refuses", "tumour")
    ]  # fmt: skip
    assert asked == [("site", 5), ("scanner", 5)] * 3
    assert len(found.board("norm").contrasts) == 3
    assert found.board("width").reason == "the measure does not say what each unit adds to it"
    assert found.board("refuses").reason == "too thin for this"
    one = cfm.compare(encoders, graph, metrics=INDEX, confounder="scanner")
    assert [b.factor for b in one.boards] == ["scanner"]


def test_a_design_without_a_common_k_says_so() -> None:
    obs = pd.DataFrame({"patient": list("abcd"), "tumour": list("xyxy"), "site": list("uuvv")})
    tiny = {name: c[:4].replace(obs=obs) for name, c in copies(2, 24).items()}
    found = cfm.compare(tiny, GRAPH, metrics={"mine": lambda cohort, graph, *, confounder, k: 1 / 0})
    assert "no common k" in found.board("mine").reason


# --- conclusions -----------------------------------------------------------------------------------------------------


def test_conclusions_come_from_the_numbers(compared) -> None:
    text = " ".join((*compared.headline, *compared.concluded, *compared.open))
    assert "site: centred is shown to be the best by" in text
    board = compared.board("robustness_index")
    assert f"chance {board.scores['plain'].chance:.3g}" in text
    assert "below chance: plain and plain, wider" in text
    assert "alone they would choose plain" in text
    noise = {name: c.replace(X=np.random.default_rng(i).standard_normal(c.X.shape)) for i, (name, c) in
             enumerate(copies(1, 40).items())}  # fmt: skip
    nothing = cfm.compare(noise, GRAPH, metrics=[*INDEX, "biology_readout"])
    assert "No encoder is shown to carry tumour beyond chance" in " ".join(nothing.headline)
    assert "no encoder is shown to be the best by the robustness index: copy" in nothing.headline[0]


def board_of(metric: str, factor: str, values: dict[str, tuple[float, float, float]], chance: float = 0.5):
    """A board whose contrasts are those of 30 patients with independent errors."""
    scores = {}
    for i, (name, (value, low, high)) in enumerate(values.items()):
        influence = mean_influence(np.random.default_rng(i).standard_normal(30) / 10) if np.isfinite(value) else None
        details = {} if np.isfinite(value) else {"reason": "cannot tell: too few"}
        scores[name] = Estimate(metric, value, low, high, chance, 60, 30, "patient", details, influence)
    return compare_scores(metric, Metric(metric, len), factor, scores, {})


def test_prices_and_weak_encoders_are_what_the_boards_show() -> None:
    nan = float("nan")
    site = board_of("index", "site", {"a": (0.9, 0.8, 1.0), "b": (0.2, 0.1, 0.3), "c": (0.2, 0.1, 0.3)})
    scanner = board_of("index", "scanner", {"a": (0.9, 0.8, 1.0), "b": (0.2, 0.1, 0.3), "c": (0.2, 0.1, 0.3)})
    worse = board_of("biology", "tumour", {"a": (0.6, 0.51, 0.7), "b": (0.9, 0.8, 0.95), "c": (nan, nan, nan)})
    text = " ".join(headline((site, scanner, worse), GRAPH))
    assert "a is the best on site and scanner, but shown to be worse than another in the biology" in text
    untold = board_of("biology", "tumour", {"a": (nan, nan, nan), "b": (0.9, 0.8, 0.95), "c": (0.7, 0.6, 0.8)})
    text = " ".join(headline((site, untold), GRAPH))
    assert "but shown to be worse" not in text  # a has no number there: nothing is shown of it
    assert "a is not shown to carry tumour beyond chance" in text


# --- page and figure -------------------------------------------------------------------------------------------------


def test_json_is_strict_and_holds_no_map(compared) -> None:
    body = json.loads(compared.to_json())
    assert body["schema_version"] == "1.0"
    check_schema(body, "comparison-1.0", "the comparison", "")
    written, made = body["boards"][0]["contrasts"][0], compared.boards[0].contrasts[0]
    assert (written["difference"], written["joint_low"]) == (made.difference, made.joint_low)
    assert "maps" not in body
    assert "influence" not in compared.to_json()
    assert body["provenance"]["seed"] == 0
    assert set(body["data"]["encoders"]) == set(compared.encoders)


def test_page_and_markdown_hold_every_number(compared, tmp_path) -> None:
    page = compared.to_html(tmp_path / "comparison.html")
    assert (tmp_path / "comparison.html").read_text(encoding="utf-8") == page
    markdown = compared.to_markdown()
    for sentence in (*compared.headline, *compared.open):
        assert escape(sentence.split("(")[0].strip()) in page
    for text in (page, markdown):
        assert "What cannot be concluded" in text
        assert "centred is better" in text
        for board in compared.boards:
            assert all(bounds(e.value, e.low, e.high, e.chance) in text for e in board.scores.values())
    assert page.count("<svg") == len(METRICS) + 3 * 2
    assert "<script" not in page
    assert len(page) < 2_000_000


def test_hostile_names_stay_text(encoders) -> None:
    plain = encoders["plain"]
    obs = plain.obs.rename(columns={"site": HOSTILE[0], "tumour": HOSTILE[5]})
    obs[HOSTILE[0]] = obs[HOSTILE[0]].map(dict(zip(sorted(obs[HOSTILE[0]].unique()), HOSTILE[1:3], strict=True)))
    graph = cfm.CausalGraph.standard(biology=HOSTILE[5], technical=[HOSTILE[0]], group="patient")
    cohorts = {HOSTILE[1]: plain.replace(obs=obs), HOSTILE[4]: encoders["centred"].replace(obs=obs)}
    found = cfm.compare(cohorts, graph, metrics=INDEX)
    page = found.to_html()
    assert "<script" not in page
    assert "<img" not in page
    rows = [len(re.findall(r"(?<!\\)\|", line)) for line in found.to_markdown().splitlines() if line.startswith("|")]
    assert rows == [3] * 5 + [6] * 3 + [4] * 4  # scores, one contrast, ranks: no name adds a cell or ends a row


def test_the_figure_has_a_panel_for_every_board(compared) -> None:
    ax = cfm.plot_comparison(compared)
    assert len(ax.child_axes) == len(compared.boards)
    texts = [t.get_text() for t in ax.child_axes[0].texts]
    assert texts[::2] == list(compared.encoders)
    filled = [line for line in ax.child_axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in filled] == [compared.board("robustness_index").scores["centred"].value]


def test_the_page_in_a_browser(compared, tmp_path) -> None:
    page = tmp_path / "comparison.html"
    replace(compared, maps={"plain": compared.maps["plain"]}).to_html(page)
    with chromium() as browser:
        for width, scheme in [(1280, "light"), (400, "dark")]:
            with visit(browser, page, width=width, scheme=scheme) as seen:
                assert seen.overflow() == []
                if width == 400:
                    assert seen.violations() == []
                assert seen.trouble == []
                # a phone shows cards: nothing of a number is cut off
                cut = "[...document.querySelectorAll('.wide td')].filter(e => e.scrollWidth > e.clientWidth + 1)"
                assert seen.page.evaluate(f"{cut}.length") == 0
