"""What to condition on: golden sets, the error where there is none, and selection (statistics, section 1)."""

import numpy as np
import pytest
from graph_samples import ROLES, Linear, short, standard

from causalfm.errors import GraphError, NotIdentifiedError
from causalfm.graph import CausalGraph


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
