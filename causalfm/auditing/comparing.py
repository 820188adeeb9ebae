"""Compare encoders on the same rows: one neighbour pass each, the same tables, folds, seeds and k for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from causalfm.arguments import check_seed, check_whole
from causalfm.arrows import names
from causalfm.auditing.boards import measure_boards
from causalfm.auditing.comparison import Board, Comparison
from causalfm.auditing.comparison_metrics import Metric, chosen_metrics
from causalfm.auditing.comparison_words import CURVE, conclusions, headline, open_questions
from causalfm.auditing.running import Progress, provenance, refuse_missing_units
from causalfm.auditing.same_rows import check_encoders, check_same_rows, with_one_table
from causalfm.cohort import Cohort
from causalfm.confidence import DEFAULT_ALPHA, using_alpha
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics import robustness_index
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate, plain

if TYPE_CHECKING:
    from causalfm.embedding_map import EmbeddingMap

MAX_K = 300  # the lists of an encoder then take the memory of 1,000 of its dimensions; published k end at 81
RESERVE = 32
POINTS = 12_000  # on all maps of a page together: it stays under 2 MB
MOST_POINTS, FEWEST_POINTS = 600, 150  # on one panel


@using_alpha(DEFAULT_ALPHA)  # a comparison has no policy: its intervals are 95 %, and its report says so
def compare(
    cohorts: Mapping[str, Cohort],
    graph: CausalGraph,
    *,
    metrics: Sequence[str] | Mapping[str, Metric | Callable[..., Estimate]] | None = None,
    confounder: str | Sequence[str] | None = None,
    k: int | Literal["auto"] = "auto",
    missing: Literal["error", "level", "drop"] = "error",
    progress: Progress | None = None,
    random_state: int = 0,
) -> Comparison:
    """Compare encoders on the same rows by paired contrasts.

    Parameters
    ----------
    cohorts
        Embeddings ``(n, d)`` of each encoder under its name, in the same order of rows, with the same table in the
        columns of the graph. Dimensions may differ.
    graph
        Declared causal graph with roles.
    metrics
        Names of measures, or functions ``(cohort, graph, ...) -> Estimate`` under names of their own
        (:class:`causalfm.auditing.Metric` says what they are given); default all of
        ``causalfm.auditing.METRICS``.
    confounder
        Technical columns to ask about; default all.
    k
        Neighbours, the same for all encoders, as each one's own k would compare neighbourhoods of different size.
        ``"auto"``: for each factor the lower median of the k that the encoders would choose (best vote for the
        biology); the curve over k is kept beside it.
    missing
        What to do with missing values in the graph's columns.
    progress
        Called with (what is being done, steps done, steps in all).
    random_state
        Seed of folds, tables and draws: the same for all encoders.

    Returns
    -------
    Comparison
        One board per measure and factor: estimates, differences with intervals from what each patient adds to both
        (alone, and joint for all pairs of the board), ranks that these leave open. ``to_frame``, ``contrasts``,
        ``to_html``, ``to_markdown``, ``to_json``.

    Raises
    ------
    DataError, GraphError
        Fewer than two encoders; rows, tables or ids that differ; a cohort that does not fit the graph.
    """
    started = time.perf_counter()
    check_encoders(cohorts, graph)
    check_seed(random_state)
    if k != "auto":
        check_whole(k, "k", 1, why="neighbours per row")
    measures = chosen_metrics(metrics)
    factors = list(dict.fromkeys(graph.technical if confounder is None else names(confounder)))
    if not factors:
        raise DataError("confounder names no column: give a technical factor, or leave it out for all.")
    if wrong := [name for name in factors if name not in graph.technical]:
        raise DataError(f"confounder names {wrong[0]!r}, which is no technical factor: {', '.join(graph.technical)}.")
    check_same_rows(cohorts, graph)
    if missing == "level":
        refuse_missing_units(next(iter(cohorts.values())), graph)
    same = with_one_table(cohorts, graph)
    cohorts = {name: cohort.handle_missing(graph.columns, missing) for name, cohort in same.items()}
    graph.check(next(iter(cohorts.values())))
    say = _steps(progress, len(cohorts) * (1 + len(measures)) + 1)
    passes = {name: _search(name, cohort, graph, 1 if k == "auto" else k, say) for name, cohort in cohorts.items()}
    needs_k = any(metric.takes("k") for metric in measures.values())
    ks = {factor: _common_k(cohorts, graph, factor, passes, k) for factor in factors} if needs_k else {}
    boards = measure_boards(cohorts, graph, measures, factors, passes, ks, random_state, say)
    say("maps")
    record = provenance(random_state, time.perf_counter() - started, {})
    return Comparison(
        encoders=tuple(cohorts),
        boards=boards,
        headline=headline(boards, graph),
        concluded=conclusions(boards),
        open=open_questions(boards, graph),
        graph=graph,
        data=_data(cohorts, graph),
        provenance={k: v for k, v in record.items() if k != "timings"},
        maps=_maps(cohorts, graph, boards, random_state),
    )


def _steps(progress: Progress | None, steps: int) -> Callable[[str], None]:
    done = -1

    def say(what: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(what, done, steps)

    return say


def _search(name: str, cohort: Cohort, graph: CausalGraph, least: int, say: Callable[[str], None]) -> Neighbours:
    """Search once for all measures: a quarter of the shortest list of candidates, and a reserve for deletions."""
    say(f"{name}: nearest neighbours")
    groups = cohort.factor(graph.group, private=True)
    shortest = len(cohort) - int(groups.counts().max())
    k = max(least, min(MAX_K, shortest // 4))
    try:
        return knn(cohort.X, k, exclude=groups.codes, reserve=max(0, min(RESERVE, shortest - k)))
    except DataError as error:
        raise DataError(f"encoder {name!r}: {error}") from None


def _common_k(
    cohorts: Mapping[str, Cohort],
    graph: CausalGraph,
    factor: str,
    passes: Mapping[str, Neighbours],
    k: int | Literal["auto"],
) -> dict[str, Any]:
    """Return the common k with how it was chosen, or the reason why there is none."""
    if k != "auto":
        return {"k": k, "choice": "given"}
    try:
        found = {
            name: robustness_index(
                cohort, graph, confounder=factor, neighbours=passes[name], standardised=False, max_k=MAX_K
            )
            for name, cohort in cohorts.items()
        }
    except DataError as error:
        return {"reason": str(error)}
    if reasons := [e.details["reason"] for e in found.values() if "k" not in e.details]:
        return {"reason": reasons[0]}  # the same for every encoder: it is a matter of the design
    own = {name: int(estimate.details["k"]) for name, estimate in found.items()}
    grid = [row["k"] for row in next(iter(found.values())).details["curve"]]
    curve = [
        {"k": j, **{name: estimate.details["curve"][i]["value"] for name, estimate in found.items()}}
        for i, j in enumerate(grid)
    ]
    chosen = sorted(own.values())[(len(own) - 1) // 2]
    choice = "lower median of the k that each encoder would choose (best vote for the biology); taken as fixed"
    return {"k": chosen, "choice": choice, "k of each encoder": own, CURVE: curve}


def _data(cohorts: Mapping[str, Cohort], graph: CausalGraph) -> dict[str, Any]:
    first = next(iter(cohorts.values()))
    encoders = {
        name: {
            "dimensions": cohort.d,
            "dtype": str(cohort.X.dtype),
            "fingerprint": cohort.fingerprint(graph.columns),
            **{f"info_{key}": plain(value) for key, value in cohort.info.items()},
        }
        for name, cohort in cohorts.items()
    }
    units = first.factor(graph.group, private=True).n_levels
    about = {"rows": len(first), "unit": graph.group, "units": units, "columns": list(graph.columns)}
    return {**about, "encoders": encoders}


def _maps(
    cohorts: Mapping[str, Cohort], graph: CausalGraph, boards: Sequence[Board], seed: int
) -> dict[str, EmbeddingMap]:
    """Draw every encoder once, with the robustness indices of the boards in its caption."""
    from causalfm.embedding_map import map_embedding  # it imports from this folder

    panels = len(cohorts) * (1 + len(graph.technical))
    rows = max(FEWEST_POINTS, min(MOST_POINTS, POINTS // panels))
    out = {}
    for name, cohort in cohorts.items():
        facts = {
            f"{b.title.capitalize()}, {b.factor}": b.scores[name] for b in boards if b.metric == "robustness_index"
        }
        out[name] = map_embedding(cohort, graph, max_rows=rows, estimates=facts, random_state=seed)
    return out
