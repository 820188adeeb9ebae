"""How a graph is declared: the notation of arrows, roles, the standard graph, and who declared it."""

import numpy as np
import pytest
from graph_samples import ROLES, random_graph, short, standard

from causalfm.auditing.continuous import without
from causalfm.errors import GraphError
from causalfm.graph import CausalGraph
from causalfm.scm.packing import graph_header

EXAMPLE = "age -> tumour; site <-> {tumour, age}; site -> {scanner, stain}; {tumour, age, site, scanner, stain} -> Z"


def test_standard_is_the_graph_of_the_design():
    assert standard() == CausalGraph(EXAMPLE, **ROLES)
    assert hash(standard()) == hash(CausalGraph(EXAMPLE, **ROLES))
    assert standard() != standard(covariates=[])
    assert standard().parents("scanner") == ("site",)
    assert standard().technical_ancestors("scanner") == ("site",)
    assert standard().technical_descendants("site") == ("scanner", "stain")
    assert standard().columns == ("tumour", "site", "scanner", "stain", "age", "patient")


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
