"""The sentences of a headline."""

import causalfm as cfm
from causalfm.auditing.findings import Finding
from causalfm.auditing.headline import headline

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")


def finding(question, factor, low=1.2, **details):
    return Finding(question, "?", factor, "fail", ".", value=1.5, low=low, high=1.8, details=details)


def test_no_sentence_begins_with_the_name_of_a_column():
    told = headline(
        [
            finding("effect", "site"),
            finding("effect", "scanner", low=0.8),
            finding("biology", "tumour"),
            finding("performance", "site", **{"worst level": "Westmoor"}),
        ],
        GRAPH,
    )
    assert told.split(". ") == [
        "The factor site dominates these embeddings; its levels lie 1.5 times as far apart as classes of tumour",
        "The factor scanner exceeds the policy's margin for the mean distance of its levels; its levels lie 1.5 times "
        "as far apart as classes of tumour",
        "The classes of tumour are not carried as the policy asks",
        "The prediction of tumour is worse at site Westmoor than the policy allows.",
    ]
