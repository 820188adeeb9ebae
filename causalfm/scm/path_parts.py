"""An observed gap between two levels of a factor, split into case mix and what each technical path carries."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm.arguments import check_seed, check_type, did_you_mean
from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort
from causalfm.errors import CausalFMError, DataError
from causalfm.graph_checks import check_inputs, graph_error
from causalfm.results import CAVEAT
from causalfm.scm.additive import Additive
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.scm.fitted import fit_model
from causalfm.scm.gap_split import partition, split_gap
from causalfm.scm.pair_maps import refuse_pairs
from causalfm.scm.path_rows import GapPaths, assemble
from causalfm.scm.refits import FOLDS, deal, quantile, without_each
from causalfm.scm.scores import scorer_of


def gap_paths(
    scm: EmbeddingSCM,
    cohort: Cohort,
    levels: tuple[str, str],
    *,
    of: str | None = None,
    model: Any = None,
    n_folds: int = FOLDS,
    random_state: int = 0,
) -> GapPaths:
    """Split the observed gap between two levels into patients who differ and what each path carries.

    Parameters
    ----------
    scm
        Fitted on ``cohort``.
    cohort
        The cohort of the fit.
    levels
        The gap is the mean of the first less the mean of the second.
    of
        Categorical node; the graph's first technical factor by default.
    model
        Downstream model: ``(n, d) -> (n, classes)``, a score ``(n, d) -> (n,)``, or a fitted estimator with
        ``predict_proba`` or ``decision_function``. The gap in its mean scores is split likewise.
    n_folds
        The model of the embedding is fitted again without each fold of patients; the downstream model stays.
    random_state
        Seed of the folds.

    Returns
    -------
    GapPaths
        The part of a path: the gap that vanishes if its first arrow carried the same level on both sides, averaged over
        the orders of switching arrows and over the patients of both levels. What is left if all carried the same is
        case mix. Paths that the design cannot tell apart are one part, with the reason.

    Raises
    ------
    DataError
        A model that is not fitted on this cohort, levels it does not have, fewer than three patients at one; a
        downstream model without scores.
    GraphError
        A factor that is no categorical cause of ``Z``.

    Notes
    -----
    Assumptions: those of the model of the embedding. Scores of a curved ``model`` need its residuals to be carried over
    rightly in distribution, not row by row: no coupling. Intervals: delete-a-fold jackknife of patients, t with the
    smaller of folds and patients of the smaller level, less one; they hold for these levels and new patients.

    References
    ----------
    Shapley, in Contributions to the Theory of Games II (1953) 307-317; Fieller, J. R. Statist. Soc. B 16 (1954) 175.
    """
    check_type(scm, EmbeddingSCM, "scm", "make one with EmbeddingSCM(graph).fit(cohort)")
    check_inputs(cohort, scm.graph)
    check_seed(random_state)
    fitted, graph = scm.fitted, scm.graph
    refuse_pairs(fitted, "a gap is split by means, which pairs do not change")
    factor, pair = _asked(scm, of, levels)
    if cohort.d != fitted.mean.coefficients.shape[1] or cohort.fingerprint(graph.columns) != fitted.fingerprint:
        raise DataError(
            "the gap is split on the cohort of the fit, and this is another: pass that one, or fit on this one."
        )
    names = fitted.known(factor) or ()
    counts = [fitted.patients[fitted.joint[:, fitted.columns.index(factor)] == names.index(p)].sum() for p in pair]
    if min(counts) < 3 - 1e-6:
        raise DataError(f"{factor} {pair[int(np.argmin(counts))]} holds fewer than 3 {graph.group}s: merge it.")
    found = partition(fitted, graph, factor, pair, scm.assume)
    by = None if model is None else scorer_of(model, cohort.X, decisions=False)
    vectors, scores = split_gap(fitted, graph, cohort, found, by)
    units = cohort.factor(graph.group, private=True)
    folds = deal(units, cohort.factor(factor).codes, n_folds, random_state)

    mechanism = scm._mechanism if by is not None or scm._mechanism.crossed else Additive()  # noise moves scores only

    def again(part: Cohort) -> np.ndarray:
        refitted = fit_model(part, graph, mechanism, rows_only=True)
        return np.concatenate(split_gap(refitted, graph, part, found, by), axis=None)

    try:
        off, reason = without_each(cohort, folds, again), ""
    except CausalFMError as error:
        off, reason = np.full((2, vectors.size + scores.size), np.nan), f"no interval: {error}"
    t = quantile(int(folds.max()) + 1, min(counts))
    details = {
        "target": f"patients of {pair[0]} and of {pair[1]}",
        "weights": f"rows equal within a {graph.group}, {graph.group}s equal",
        "interval_for": "these levels, new patients",
        "intervals": reason or f"jackknife over {int(folds.max()) + 1} folds of {graph.group}s",
        "mechanism": scm.mechanism,
        "caveat": CAVEAT,
    }
    outcomes = () if by is None else ("score",) if by.single else by.classes
    size = float(np.abs(fitted.mean.coefficients).max())
    rest = (len(cohort), fitted.n_groups, size, details)
    return assemble(graph, found, outcomes, (vectors, scores), (off, t), rest)


def _asked(scm: EmbeddingSCM, of: str | None, levels: Any) -> tuple[str, tuple[str, str]]:
    """Return the factor and the levels, if the model knows them."""
    graph = scm.graph
    factor = graph.technical[0] if of is None else of
    names = scm.fitted.known(factor) if isinstance(factor, str) else None
    if names is None or EMBEDDING not in graph.descendants(factor):
        raise graph_error(
            graph,
            f"of={of!r} is no categorical cause of Z: choose among {', '.join(scm.fitted.columns)}."
            f"{did_you_mean(of, scm.fitted.columns)}",
        )
    given = tuple(str(v) for v in levels) if isinstance(levels, (tuple, list)) else ()
    if len(given) != 2 or given[0] == given[1] or not set(given) <= set(names):
        raise DataError(f"levels={levels!r}: give two different levels of {factor!r}, such as {names[:2]}.")
    return factor, (given[0], given[1])
