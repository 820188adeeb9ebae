"""Refuters for the estimators of other packages: DoWhy's own, and for EconML's the same three, group by group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.estimators.peers import dowhy_adapters, econml_adapters
from causalfm.estimators.peers.peer_effects import run_peer
from causalfm.estimators.peers.scalar_errors import ScalarContrast
from causalfm.estimators.peers.scalar_samples import ScalarSample
from causalfm.estimators.refuting.refutation import (
    KEPT,
    MIDDLE,
    Refutation,
    RefutationRow,
    collect,
    rate_verdict,
    rate_words,
    stability_verdict,
)
from causalfm.results import Verdict

if TYPE_CHECKING:
    from causalfm.estimators.effect_result import Effect

DONE = {
    "placebo factor": "levels permuted, {n} times",
    "random common cause": "adjusted for random numbers as well, {n} times",
    "data subset": f"{KEPT:.0%} kept, {{n}} times",
}
UNLIKELY = 0.05  # p-value of a refuter of DoWhy up to which its answer is another than the estimate


def peer_refutation(effect: Effect, n_draws: int, random_state: int) -> Refutation:
    """Refute the largest contrast of another package's estimate.

    Parameters
    ----------
    effect
        A result of :func:`causalfm.effect` with an estimator of EconML or DoWhy.
    n_draws, random_state
        Repetitions and seed.

    Returns
    -------
    Refutation
        ``before`` and ``after`` are differences in units of the outcome.
    """
    call = effect._call
    sample, arguments = call["sample"], {**call["arguments"], "random_state": random_state}
    if effect.estimator.startswith(econml_adapters.PREFIX):
        attempts = _refit(sample, call["graph"], arguments, n_draws, random_state)
    else:
        used = sample.aggregated() if arguments["clusters"] == "aggregate" else sample
        told = dowhy_adapters.dowhy_refutations(
            used, call["graph"], estimator=effect.estimator, n_simulations=n_draws, random_state=random_state
        )
        attempts = [_of_dowhy(row, n_draws) for row in told]
    return collect(effect.treatment, effect.outcome, effect.estimator, attempts)


def _of_dowhy(row: dict[str, Any], n_draws: int) -> RefutationRow:
    before, after, p = row["before"], row["after"], row["p_value"]
    still = np.isnan(p) and abs(after - before) <= 1e-9 * max(abs(before), 1e-9)
    verdict: Verdict = "pass" if still or p > UNLIKELY else "cannot tell" if np.isnan(p) else "fail"
    to = "zero" if row["name"] == "placebo factor" else f"{before:.3g}"
    said = {"pass": "agrees with", "fail": "does not agree with", "cannot tell": "cannot be set against"}[verdict]
    sentence = f"{row['level']} against {row['reference']}: DoWhy's {row['name']} gives {after:.3g}, which {said} {to}."
    nan = float("nan")
    done = f"DoWhy, {row['level']} against {row['reference']}: {DONE[row['name']].format(n=n_draws)}"
    return RefutationRow(row["name"], done, before, after, nan, nan, verdict, sentence, {"p_value": p})


def _refit(
    sample: ScalarSample, graph: Any, arguments: dict[str, Any], n_draws: int, random_state: int
) -> list[RefutationRow]:
    """Run EconML again on samples changed group by group."""
    rng = np.random.default_rng(random_state)
    base = {**arguments, "heterogeneity": ()}

    def first(changed: ScalarSample) -> ScalarContrast:
        rows = [c for c in run_peer(changed, graph, base).contrasts if not c.among]
        return max(rows, key=lambda c: (c.level == chosen, abs(c.value)))

    chosen = ""
    estimate = first(sample)
    chosen = estimate.level
    changes: dict[str, Callable[[], ScalarSample]] = {
        "placebo factor": lambda: _placebo(sample, rng),
        "random common cause": lambda: _random_cause(sample, rng),
        "data subset": lambda: _subset(sample, rng),
    }
    out = []
    for name, change in changes.items():
        draws = [first(change()) for _ in range(n_draws)]
        values = np.array([c.value for c in draws])
        done = f"{estimate.level} against {estimate.reference}, whole {sample.unit}s: {DONE[name].format(n=n_draws)}"
        low, high = np.quantile(values, MIDDLE).tolist()
        if name == "placebo factor":
            rejected = sum(c.low > 0 or c.high < 0 for c in draws)
            verdict: Verdict = rate_verdict(rejected, n_draws)
            why = "" if verdict == "pass" else f": its errors are too small, choose clusters= by {sample.unit}"
            sentence = f"Asked about a factor without effect, it finds one in {rate_words(rejected, n_draws)}{why}."
        else:
            outside = float(((values < estimate.low) | (values > estimate.high)).mean())
            verdict = stability_verdict(outside)
            sentence = (
                f"{estimate.value:.3g} becomes {low:.3g} to {high:.3g} and leaves its interval ({estimate.low:.3g} to "
                f"{estimate.high:.3g}) in {outside:.0%} of the draws."
            )
        out.append(RefutationRow(name, done, estimate.value, float(values.mean()), low, high, verdict, sentence))
    return out


def _placebo(sample: ScalarSample, rng: np.random.Generator) -> ScalarSample:
    """Permute the treatment over whole groups."""
    _, first, codes = np.unique(sample.groups, return_index=True, return_inverse=True)
    values = sample.frame[sample.treatment].to_numpy()[first]
    moved = values[rng.permutation(len(values))][codes]
    return dataclasses.replace(sample, frame=sample.frame.assign(**{sample.treatment: moved}))


def _random_cause(sample: ScalarSample, rng: np.random.Generator) -> ScalarSample:
    """Add a random number per group to the columns adjusted for."""
    codes = np.unique(sample.groups, return_inverse=True)[1]
    values = rng.standard_normal(int(codes.max()) + 1)[codes]
    frame = sample.frame.assign(**{"random cause": values})
    return dataclasses.replace(sample, frame=frame, given=(*sample.given, "random cause"))


def _subset(sample: ScalarSample, rng: np.random.Generator) -> ScalarSample:
    """Keep a share of the groups of each level."""
    units, first, codes = np.unique(sample.groups, return_index=True, return_inverse=True)
    strata = sample.frame[sample.treatment].to_numpy()[first] if sample.levels else np.zeros(len(units))
    kept = np.zeros(len(units), dtype=bool)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        kept[members[: max(int(KEPT * len(members)), 3)]] = True
    return sample.take(np.flatnonzero(kept[codes]))
