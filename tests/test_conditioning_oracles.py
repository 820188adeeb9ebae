"""Conditioning sets on random graphs, beside DoWhy's back-door check and linear models with random weights.

In linear Gaussian models on the same graph, valid sets give a partial covariance of zero under the null, and the
regression coefficient is the sum over causal paths.
"""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from graph_samples import Linear, random_graph, short, standard

from causalfm.errors import NotIdentifiedError


def subsets(items):
    return [s for k in range(len(items) + 1) for s in itertools.combinations(items, k)]


def answer_or_none(ask, *args):
    try:
        return ask(*args)
    except NotIdentifiedError:
        return None


@pytest.mark.parametrize("seed", range(25))
def test_adjustment_on_random_graphs_agrees_with_dowhy_and_with_linear_models(seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    model = Linear(graph, rng)
    for treatment in ("site", "scanner", "tumour"):
        others = [n for n in graph.measured if n != treatment]
        good = [s for s in subsets(others) if graph.confirm(treatment, s)]
        assert good == [s for s in subsets(others) if graph.is_valid_adjustment(treatment, s)]
        answer = answer_or_none(graph.adjustment_set, treatment)
        assert (answer is None) == (not good)  # complete: nothing identifiable is refused
        if answer is None:
            continue
        assert {frozenset(s) for s in answer.valid} <= {frozenset(s) for s in good}
        assert len(answer.minimal) == min(len(s) for s in answer.valid)
        truth = model.total[model.at(treatment), model.at("Z")]
        for chosen in answer.valid:
            assert model.partial(treatment, chosen) == pytest.approx(truth, abs=1e-8)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("effect", ["total", "direct"])
@pytest.mark.parametrize("selection", [False, True])
def test_invariance_on_random_graphs_agrees_with_linear_models(seed, effect, selection):
    rng = np.random.default_rng(1000 + seed)
    graph = random_graph(rng, selection)
    whole = Linear(graph, rng)
    for of in ("site", "scanner"):
        below = set(graph.technical_descendants(of))
        null = [(n, "Z") for n in {of, *(below if effect == "total" else ())}]
        model = Linear(graph, rng, null)
        need = below if effect == "direct" else set()
        free = [n for n in graph.measured if n != of and (n in need or n not in graph.descendants(of))]
        possible = [s for s in subsets(free) if need <= set(s)]
        good = {frozenset(s) for s in possible if abs(model.partial(of, (*s, *graph.selected))) < 1e-9}
        answer = answer_or_none(graph.invariance, of, effect)
        assert (answer is None) == (not good)
        if answer is None:
            continue
        listed = {frozenset(s) for s in answer.valid}
        assert listed <= good
        assert not [s for s in good - listed if s <= frozenset().union(*listed)]  # of its candidates, all are listed
        seen = abs(whole.partial("S", (of, *answer.given))) if selection else 0.0
        assert answer.recoverable == (seen < 1e-9)
        if effect == "total" and any(graph.is_valid_adjustment(of, s) for s in answer.valid):
            assert graph.adjustment_set(of).given == answer.given


def test_joint_question_agrees_with_a_linear_model():
    graph = standard()
    model = Linear(graph, np.random.default_rng(3), [(t, "Z") for t in graph.technical])
    joint = ("site", "scanner")
    np.testing.assert_allclose(model.regress(joint, graph.invariance(joint).given), 0, atol=1e-10)
    assert np.abs(model.regress(joint, ("age",))).max() > 1e-3


def test_dowhy_confirms_the_goldens_and_rejects_invalid_sets():
    graph = standard()
    for of in ("site", "scanner", "stain", ["site", "scanner"], "tumour"):
        for chosen in graph.invariance(of).valid:
            assert graph.confirm(of, chosen)
    for of, invalid in [
        ("site", ["tumour"]),
        ("site", []),
        ("scanner", ["tumour", "age"]),
        ("site", ["tumour", "age", "stain"]),
    ]:
        assert not graph.confirm(of, invalid)
        assert not graph.is_valid_adjustment(of, invalid)
    selection = short("{site, tumour} -> {Z, S}", selected="S")
    assert selection.confirm("site", selection.adjustment_set("site").given)


def test_asking_dowhy_leaves_no_trace():
    code = (
        "import logging, random, warnings, numpy as np\n"
        "def state():\n"
        "    log = list(logging.root.handlers), logging.root.level\n"
        "    return repr(np.random.get_state()), random.getstate(), list(warnings.filters), log\n"
        "from causalfm.graph import CausalGraph\n"
        "g = CausalGraph.standard(biology='t', technical=['site'], group='p')\n"
        "g.invariance('site')\n"
        "before = state()\n"
        "assert g.confirm('site', ['t'])\n"
        "assert before == state()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
