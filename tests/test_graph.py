"""The causal graph: notation, roles, golden conditioning sets, and three independent oracles for them.

Oracles: DoWhy's back-door check, and linear Gaussian models with random weights on the same graph, in which valid sets
give a partial covariance of zero under the null, and the regression coefficient is the sum over causal paths.
"""

import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from causalfm.auditing.continuous import without
from causalfm.cohort import Cohort
from causalfm.errors import DataError, GraphError, NotIdentifiedError
from causalfm.graph import CausalGraph
from causalfm.scm.packing import graph_header

EXAMPLE = "age -> tumour; site <-> {tumour, age}; site -> {scanner, stain}; {tumour, age, site, scanner, stain} -> Z"
ROLES = {"biology": "tumour", "technical": ["site", "scanner", "stain"], "group": "patient"}
SECRET = "patient-4711"


def standard(**changes):
    return CausalGraph.standard(**{**ROLES, "covariates": ["age"], **changes})


def short(arrows, **changes):
    return CausalGraph(arrows, **{"biology": "tumour", "technical": ["site"], "group": "patient", **changes})


# ---------------------------------------------------------------- golden sets (statistics, section 1)


@pytest.mark.parametrize(
    ("of", "effect", "given", "minimal"),
    [
        ("site", "total", {"tumour", "age"}, {"tumour", "age"}),
        ("site", "direct", {"tumour", "age", "scanner", "stain"}, {"tumour", "age", "scanner", "stain"}),
        ("scanner", "total", {"site", "tumour", "age"}, {"site"}),
        ("scanner", "direct", {"site", "tumour", "age"}, {"site"}),
        ("stain", "total", {"site", "tumour", "age"}, {"site"}),
        (["site", "scanner"], "total", {"tumour", "age"}, {"tumour", "age"}),
        (["site", "scanner"], "direct", {"tumour", "age", "stain"}, {"tumour", "age", "stain"}),
        (["scanner", "stain"], "total", {"site", "tumour", "age"}, {"site"}),
        ("tumour", "total", {"site", "age"}, {"site", "age"}),
    ],
)
def test_golden_sets_on_the_standard_graph(of, effect, given, minimal):
    answer = standard().invariance(of, effect)
    assert set(answer.given) == given
    assert set(answer.minimal) == minimal
    assert answer.valid[0] == answer.given
    assert answer.minimal in answer.valid
    assert answer.recoverable


def test_standard_is_the_graph_of_the_design():
    assert standard() == CausalGraph(EXAMPLE, **ROLES)
    assert hash(standard()) == hash(CausalGraph(EXAMPLE, **ROLES))
    assert standard() != standard(covariates=[])
    assert standard().parents("scanner") == ("site",)
    assert standard().technical_ancestors("scanner") == ("site",)
    assert standard().technical_descendants("site") == ("scanner", "stain")
    assert standard().columns == ("tumour", "site", "scanner", "stain", "age", "patient")


def test_sets_come_in_order_of_preference():
    answer = standard().invariance("scanner")
    assert answer.given == ("site", "tumour", "age")
    assert answer.valid[:4] == (("site", "tumour", "age"), ("site", "tumour"), ("site", "age"), ("site",))
    assert all("stain" in s for s in answer.valid[4:])  # a sibling of the scanner only where nothing else is left
    assert "given {site, tumour, age}" in answer.sentence
    assert answer.to_frame()["preferred"].tolist() == [True] + [False] * 7


def test_only_edges_of_the_factor_and_its_technical_descendants_are_removed():
    assert set(standard().invariance("site").removed) == {("site", "Z"), ("scanner", "Z"), ("stain", "Z")}
    assert standard().invariance("scanner").removed == (("scanner", "Z"),)
    assert standard().invariance("site", "direct").removed == (("site", "Z"),)


def test_a_scanner_without_an_edge_is_invariant_and_not_blamed_for_the_site():
    graph = CausalGraph(
        "site <-> tumour; site -> scanner; {tumour, site} -> Z", **{**ROLES, "technical": ["site", "scanner"]}
    )
    given = graph.invariance("scanner").given
    assert set(given) == {"site", "tumour"}
    model = Linear(graph, np.random.default_rng(0))
    assert abs(model.partial("scanner", given)) < 1e-10
    assert (
        abs(model.partial("scanner", ("tumour",))) > 1e-3
    )  # what deleting every technical edge would call a valid set


def test_causal_direction_gives_the_empty_set():
    graph = short("site -> scanner; {site, scanner} -> Z; site <-> tumour", technical=["site", "scanner"])
    assert graph.invariance("site").given == ()
    assert graph.invariance("site").valid == ((),)
    assert graph.invariance("scanner").given == ("site",)


def test_unmeasured_common_cause_of_site_and_embedding_is_an_error_that_names_the_path():
    graph = short("{site, tumour} -> Z; site <-> {tumour, Z}")
    for ask in (graph.invariance, graph.adjustment_set):
        with pytest.raises(NotIdentifiedError, match=r"'site <-> Z' stays open given tumour") as caught:
            ask("site")
        assert "site <-> {tumour, Z}" in str(caught.value).split("Graph: ")[1]
    with pytest.raises(NotIdentifiedError, match=r"'tumour <-> site <-> Z' stays open given site"):
        graph.adjustment_set("tumour")  # blocking tumour <-> site -> Z opens the collider


def test_open_path_names_every_arrow_and_the_way_out():
    mediated = short("site -> tumour; {site, tumour} -> Z")
    with pytest.raises(NotIdentifiedError, match=r"'site -> tumour -> Z'.*write '<->' instead"):
        mediated.invariance("site")
    hidden = short("site <-> age; age <-> Z; age -> Z; {site, tumour} -> Z; site <-> tumour")
    with pytest.raises(NotIdentifiedError, match=r"'site <-> age <-> Z' stays open given tumour, age"):
        hidden.invariance("site")
    with pytest.raises(NotIdentifiedError, match=r"'age -> tumour -> Z'.*adjustment_set"):
        standard().invariance("age")
    with pytest.raises(NotIdentifiedError, match=r"'age <-> site <-> tumour -> Z' stays open given site"):
        standard().adjustment_set("age")


def test_required_mediators_bring_their_causes_from_the_reserve():
    graph = short(
        "site -> scanner; maker -> scanner; maker <-> Z; {site, tumour} -> Z; site <-> tumour",
        technical=["site", "scanner"],
    )
    assert graph.invariance("site").given == ("tumour",)
    assert set(graph.invariance("site", "direct").given) == {"tumour", "scanner", "maker"}


def test_a_collider_between_unmeasured_causes_stays_out():
    graph = short("site <-> age; age <-> Z; {site, tumour} -> Z; site <-> tumour")
    assert graph.invariance("site").given == ("tumour",)
    assert not graph.is_valid_adjustment("site", ["tumour", "age"])


def test_test_and_effect_prefer_a_set_that_serves_both():
    """The null alone would need nothing (site <-> age -> scanner is cut), the effect needs age."""
    graph = short(
        "site <-> age; age -> scanner; site -> scanner; {site, scanner, tumour} -> Z", technical=["site", "scanner"]
    )
    assert () in graph.invariance("site").valid
    assert graph.invariance("site").given == graph.adjustment_set("site").given == ("tumour", "age")
    assert () not in graph.adjustment_set("site").valid
    sibling = short(
        "site <-> lab; lab -> scanner; site -> scanner; {site, scanner, tumour} -> Z",
        technical=["site", "scanner", "lab"],
    )
    assert ("tumour",) in sibling.invariance("site").valid
    assert sibling.invariance("site").given == sibling.adjustment_set("site").given == ("tumour", "lab")


@pytest.mark.parametrize(
    ("arrows", "given", "recoverable"),
    [
        ("{site, tumour} -> {Z, S}", {"tumour"}, True),  # without selection the set could be empty
        ("{site, tumour} -> Z; {site, Z2} -> S; Z2 <-> Z; site <-> tumour", {"tumour", "Z2"}, True),
        ("{site, tumour} -> Z; site -> S; S <-> Z; site <-> tumour", None, False),
        ("{site, tumour} -> Z; tumour -> S; S <-> Z", {"tumour"}, False),
    ],
)
def test_selection_is_always_conditioned_on(arrows, given, recoverable):
    graph = short(arrows, selected="S")
    if given is None:
        with pytest.raises(NotIdentifiedError, match=r"site -> S <-> Z"):
            graph.invariance("site")
        return
    answer = graph.invariance("site")
    assert set(answer.given) == given
    assert answer.recoverable is recoverable
    assert ("cannot be told" in answer.sentence) is not recoverable
    assert "S" not in graph.columns


def test_selection_removes_the_empty_set():
    assert () in short("{site, tumour} -> Z").invariance("site").valid
    graph = short("{site, tumour} -> {Z, S}", selected="S")
    assert graph.invariance("site").valid == graph.adjustment_set("site").valid == (("tumour",),)
    assert not graph.is_valid_adjustment("site", [])
    assert graph.is_valid_adjustment("site", "tumour")


def test_outcomes_read_off_the_embedding_inherit_its_parents_and_nodes_are_refused():
    assert standard().adjustment_set("site", "tumour_probability") == standard().adjustment_set("site")
    with pytest.raises(GraphError, match="outcome 'age' is a node with causes of its own"):
        standard().adjustment_set("site", "age")


def test_questions_about_unknown_nodes_are_refused():
    graph = standard()
    for bad in ("scaner", "Z", "patient"):
        with pytest.raises(GraphError, match=f"'{bad}' is not a measured node"):
            graph.invariance(bad)
    with pytest.raises(GraphError, match="choose 'total' or 'direct'"):
        graph.invariance("site", "indirect")
    with pytest.raises(GraphError, match="several different ones"):
        graph.invariance(["site", "site"])
    with pytest.raises(GraphError, match="not a node"):
        graph.technical_descendants("scaner")


def test_many_covariates_enter_in_blocks():
    names = [f"c{i}" for i in range(25)]
    graph = standard(covariates=names)
    assert set(graph.invariance("site").given) == {"tumour", *names}
    assert graph.invariance("scanner").minimal == ("site",)


# ---------------------------------------------------------------- oracles


class Linear:
    """Linear Gaussian model on a graph with random weights; ``null`` edges get weight zero."""

    def __init__(self, graph, rng, null=()):
        latents = [f"{a}<->{b}" for a, b in graph.bidirected]
        self.order = [*latents, *graph.nodes]
        edges = [e for e in graph.edges if e not in null]
        edges += [(u, n) for u, pair in zip(latents, graph.bidirected, strict=True) for n in pair]
        self.weights = np.zeros((len(self.order),) * 2)
        for a, b in edges:
            self.weights[self.at(a), self.at(b)] = rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
        self.total = np.linalg.inv(np.eye(len(self.order)) - self.weights)
        self.covariance = self.total.T @ np.diag(rng.uniform(0.5, 1.5, len(self.order))) @ self.total

    def at(self, name):
        return self.order.index(name)

    def regress(self, x, given):
        """Coefficients of Z on x and given."""
        columns = [self.at(n) for n in (*x, *given)]
        inner = self.covariance[np.ix_(columns, columns)]
        return np.linalg.solve(inner, self.covariance[columns, self.at("Z")])[: len(x)]

    def partial(self, x, given):
        return self.regress((x,), given)[0]


def random_graph(rng, selection=False):
    """Nodes in a random or the usual causal order, Z last; unmeasured causes anywhere, rarely on Z."""
    nodes = ["site", "scanner", *rng.permutation(["tumour", "age", "sex"])]
    if rng.random() < 0.5:
        nodes = [str(n) for n in rng.permutation(nodes)]
    edges = [f'"{a}" -> "{b}"' for a, b in itertools.combinations(nodes, 2) if rng.random() < 0.3]
    edges += [f'"{a}" <-> "{b}"' for a, b in itertools.combinations(nodes, 2) if rng.random() < 0.25]
    edges += [f'"{n}" -> Z' for n in nodes if rng.random() < 0.7]
    edges += [f'"{n}" <-> Z' for n in nodes if rng.random() < 0.05]
    edges += ["Z", *nodes]
    if selection:
        edges += ["S", *(f'"{n}" -> S' for n in nodes if rng.random() < 0.4), *(["S <-> Z"] * (rng.random() < 0.2))]
    return short("; ".join(edges), technical=["site", "scanner"], selected="S" if selection else None)


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


# ---------------------------------------------------------------- notation


@pytest.mark.parametrize(
    "arrows",
    [
        "site->Z;tumour->Z;site<->tumour",
        "Z <- {site, tumour}; tumour <-> site",
        "# a comment; with -> arrows\n{site,\n tumour} -> Z  # both\n\nsite <-> tumour;;",
        "tumour <-> site -> Z <- tumour; site -> Z",
    ],
)
def test_notations_of_one_graph_are_equal(arrows):
    graph = short(arrows)
    assert graph == short("{site, tumour} -> Z; site <-> tumour")
    assert set(graph.edges) == {("site", "Z"), ("tumour", "Z")}
    assert len(graph.bidirected) == 1


def test_chains_isolated_nodes_and_quoted_names_survive_a_round_trip():
    label, site = "tumour grade; (WHO) -> #2", "site.größe_1"
    graph = short(f'{site} -> scanner -> Z; "{label}"', biology=label, technical=[site, "scanner"])
    assert graph.nodes == (site, "scanner", "Z", label)
    assert short(str(graph), biology=label, technical=[site, "scanner"]) == graph
    assert CausalGraph.standard(biology=label, technical=[site, "a b"], covariates=["x-y"], group="p").children(
        "x-y"
    ) == (label, "Z")


@pytest.mark.parametrize("seed", range(10))
def test_text_reads_back(seed):
    graph = random_graph(np.random.default_rng(seed))
    assert short(str(graph), technical=["site", "scanner"], covariates=["age", "sex"]) == graph


@pytest.mark.parametrize(
    ("arrows", "message"),
    [
        ("site => Z", "cannot read '=' in the statement 'site => Z'"),
        ("tumour -> Z; age-group -> Z", "cannot read '-' in the statement 'age-group -> Z'"),
        ("site Z", "expected an arrow before 'Z' in the statement 'site Z'"),
        ("site -> ", "found the end in the statement 'site ->'"),
        ("-> Z", "found -> in"),
        ("{site, tumour -> Z", "expected ',' or '}', found ->"),
        ("{site, } -> Z", "expected a column name, found }"),
        ("{} -> Z", "expected a column name, found }"),
        ('"" -> Z', "expected a column name"),
        ("site -> {site, Z}", "from 'site' to itself"),
        ("", "the graph is empty"),
        (None, "must be text in arrow notation, not NoneType"),
        ("site -> tumour -> age -> site; age -> Z", "cycle: "),
    ],
)
def test_text_that_cannot_be_read(arrows, message):
    with pytest.raises(GraphError) as caught:
        short(arrows)
    assert message in str(caught.value)


def test_the_cycle_is_named_once_around():
    with pytest.raises(GraphError) as caught:
        short("site -> tumour -> age -> site; age -> Z")
    cycle = str(caught.value).split("cycle: ")[1].split(".")[0].split(" -> ")
    assert len(cycle) == 4
    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"site", "tumour", "age"}


# ---------------------------------------------------------------- roles


@pytest.mark.parametrize(
    ("arrows", "changes", "message"),
    [
        ("{site, tumour} -> Y", {}, "no node Z"),
        ("site -> Z", {}, "biology names 'tumour', which is not a node"),
        ("{site, tumour} -> Z", {"technical": ["site", "scanner"]}, "technical names 'scanner', which is not a node"),
        ("{site, tumour} -> Z", {"technical": []}, "technical is missing"),
        ("{site, tumour} -> Z", {"group": None}, "group is missing"),
        ("{site, tumour} -> Z", {"biology": "site"}, "'site' is declared as biology and again as technical"),
        ("{site, tumour} -> Z", {"biology": "Z"}, "'Z' is declared as biology and again as the embedding"),
        ("{site, tumour} -> Z", {"covariates": ["site"]}, "'site' is declared as technical and again as covariates"),
        ("{site, tumour, patient} -> Z", {}, "patient is a group, a unit and not a cause"),
        ("{site, tumour, block} -> Z", {"specimen": "block"}, "block is a specimen, a unit and not a cause"),
        ("{site, tumour} -> Z", {"group": ["patient", "patient"]}, "group names a column twice"),
        ("{site, tumour, age} -> Z", {"covariates": []}, "'age' has no role"),
        ("{site, tumour} -> Z -> age", {}, "'Z' is the embedding and causes age"),
        (
            "{site, tumour} -> Z -> scanner",
            {"technical": ["site", "scanner"]},
            "'Z' is the embedding and causes scanner",
        ),
        ("{site, tumour} -> Z; S -> Z", {"selected": "S"}, "'S' is a selection node and causes Z"),
        ("{site, tumour} -> Z", {"selected": "S"}, "selected names 'S', which is not a node"),
        ("{site, tumour} -> Z", {"kinds": {"site": "text"}}, "kinds['site'] = 'text'"),
        ("{site, tumour} -> Z", {"kinds": {"sight": "ordinal"}}, "kinds['sight']"),
    ],
)
def test_roles_that_do_not_fit_print_the_graph(arrows, changes, message):
    with pytest.raises(GraphError) as caught:
        short(arrows, **changes)
    assert message in str(caught.value)
    assert "\nGraph: " in str(caught.value)


def test_the_graph_is_immutable_and_leaves_as_plain_data():
    graph = standard(group=["slide", "patient"], specimen="block", kinds={"age": "continuous"})
    with pytest.raises(AttributeError):
        graph.biology = "other"
    assert (graph.group, graph.groups) == ("patient", ("slide", "patient"))
    assert graph.columns[-3:] == ("block", "slide", "patient")
    body = graph.to_dict()
    keys = ("biology", "technical", "covariates", "specimen", "kinds")
    assert CausalGraph(body["arrows"], group=body["groups"], **{k: body[k] for k in keys}) == graph
    assert ["site", "scanner"] in body["edges"]
    body["kinds"]["age"] = "ordinal"
    assert graph.kinds["age"] == "continuous"


# ---------------------------------------------------------------- the cohort


def table(**changes):
    n = 12
    obs = {
        "tumour": ["luad", "lusc"] * 6,
        "site": np.repeat(["a", "b", "c"], 4),
        "scanner": np.tile([1, 2, 1], 4),
        "stain": pd.Categorical(np.tile(["low", "high"], 6), ["low", "high"], ordered=True),
        "age": np.linspace(40, 80, n),
        "slide": [f"slide-{i}" for i in range(n)],
        "patient": [f"{SECRET}-{i // 2}" for i in range(n)],
    }
    frame = pd.DataFrame({**obs, **changes})
    return Cohort(np.zeros((n, 2), dtype=np.float32), frame)


def test_a_fitting_cohort_passes_and_kinds_are_inferred():
    graph, cohort = (
        standard(group=["slide", "patient"]),
        table(dated=pd.date_range("2020", periods=12), flag=[True, False] * 6),
    )
    graph.check(cohort)
    kinds = {c: graph.kind(c, cohort) for c in ("tumour", "scanner", "stain", "age", "dated", "flag")}
    assert kinds == {
        "tumour": "categorical",
        "scanner": "categorical",
        "stain": "ordinal",
        "age": "continuous",
        "dated": "continuous",
        "flag": "categorical",
    }
    assert graph.kind("count", Cohort(np.zeros((21, 1)), pd.DataFrame({"count": np.arange(21)}))) == "continuous"
    assert graph.kind("count", Cohort(np.zeros((21, 1)), pd.DataFrame({"count": np.arange(21) % 20}))) == "categorical"
    gaps = Cohort(np.zeros((4, 1)), pd.DataFrame({"is_female": [0.0, 1.0, np.nan, 1.0]}))
    assert graph.kind("is_female", gaps) == "categorical"
    assert standard(kinds={"age": "ordinal"}).kind("age", cohort) == "ordinal"
    assert graph.varies_within_group(cohort, "site") == 0
    assert graph.varies_within_group(cohort, "tumour") == 6


@pytest.mark.parametrize(
    ("changes", "roles", "error", "message"),
    [
        ({}, {"covariates": ["sex", "bmi"]}, GraphError, "obs has no column 'sex', 'bmi'. Columns: tumour, site"),
        ({}, {"specimen": "block"}, GraphError, "obs has no column 'block'"),
        (
            {"tumour": ["luad"] * 12},
            {},
            DataError,
            "'tumour' is biology and has one level only ('luad') in all 12 rows",
        ),
        ({"stain": ["x"] * 12}, {}, DataError, "'stain' is a technical factor and has one level only ('x')"),
        ({"tumour": np.linspace(0, 1, 12)}, {}, DataError, "is biology and taken as (12 different numbers) continuous"),
        (
            {},
            {"kinds": {"scanner": "continuous"}},
            DataError,
            "'scanner' is a technical factor and declared continuous",
        ),
        ({}, {"kinds": {"tumour": "multi-label"}}, DataError, "'tumour' is biology and multi-label"),
        ({}, {"kinds": {"age": "multi-label"}}, DataError, "covariate 'age' is multi-label"),
        (
            {"age": ["old"] * 12},
            {"kinds": {"age": "continuous"}},
            DataError,
            "'age' is declared continuous but holds text",
        ),
        ({"age": [np.nan, *range(11)]}, {}, DataError, "column 'age' has 1 missing values of 12 (row 0)"),
        ({"patient": [None, *[SECRET] * 11]}, {}, DataError, "column 'patient' has 1 missing values"),
        (
            {"slide": [f"{SECRET}-{i % 6}" for i in range(12)]},
            {"group": ["slide", "patient"]},
            DataError,
            "6 of 6 levels of 'slide' lie in several levels of 'patient' (rows 0, 1, 2, 3, 4 and 1 more)",
        ),
        ({}, {"group": ["patient", "slide"]}, DataError, "from the finest unit to the coarsest"),
        (
            {"block": [f"{SECRET}-{i // 3}" for i in range(12)]},
            {"specimen": "block"},
            DataError,
            "4 of 4 levels of 'block' lie in several levels of 'patient'",
        ),
        (
            {"site": ["a", "b", *"aabbbbbbba"]},
            {},
            DataError,
            "'site' varies within 2 of 6 levels of the independent unit 'patient' (rows 0, 10)",
        ),
    ],
)
def test_cohorts_that_do_not_fit(changes, roles, error, message):
    with pytest.raises(error) as caught:
        standard(**roles).check(table(**changes))
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_number_codes_of_many_sites_can_be_declared():
    n = 63
    obs = pd.DataFrame({"tumour": ["x", "y", "x"] * 21, "site": np.arange(n) // 3 + 0.5, "patient": np.arange(n)})
    cohort = Cohort(np.zeros((n, 1), dtype=np.float32), obs)
    roles = {"biology": "tumour", "technical": "site", "group": "patient"}
    with pytest.raises(DataError, match=r"pass kinds=\{'site': 'categorical'\}"):
        CausalGraph.standard(**roles).check(cohort)
    CausalGraph.standard(**roles, kinds={"site": "categorical"}).check(cohort)


def test_many_integer_site_codes_are_levels_and_many_integer_ages_are_not():
    obs = pd.DataFrame({"site": np.arange(60) % 30, "tumour": np.arange(60) % 2, "age": np.arange(60) + 20})
    cohort = Cohort(np.zeros((60, 1)), obs.assign(patient=np.arange(60)))
    graph = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")
    graph.check(cohort)
    assert [graph.kind(c, cohort) for c in ("site", "tumour", "age")] == ["categorical", "categorical", "continuous"]


def test_who_declared_the_graph_is_kept_and_changes_nothing_else():
    parts = {"biology": "tumour", "technical": ["site", "scanner"], "group": "patient"}
    named, bare = CausalGraph.standard(**parts, declared_by="B. Osei, pathology"), CausalGraph.standard(**parts)
    assert (named.declared_by, bare.declared_by) == ("B. Osei, pathology", "")
    assert (named.to_dict()["declared_by"], bare.to_dict()["declared_by"]) == ("B. Osei, pathology", "")
    assert named == bare
    assert hash(named) == hash(bare)
    assert without(named, "scanner").declared_by == "B. Osei, pathology"
    assert graph_header(named)["declared_by"] == "B. Osei, pathology"
    assert "declared_by" not in graph_header(bare)  # a file that older versions read as well
    with pytest.raises(GraphError, match="declared_by is no text"):
        CausalGraph.standard(**parts, declared_by=None)
