"""The questions that evidence can answer, and how each is asked: what was not asked is told as well."""

from __future__ import annotations

from typing import NamedTuple

AUDIT = "causalfm audit asks it."
HEAD = "causalfm audit --head or --predictions asks it of a model."
SHIFT = "causalfm shift asks it of a deployment."
LABELS = "causalfm shift asks it of a deployment whose labels are known, at least for some patients."


class Item(NamedTuple):
    """A question in words, how it comes to be asked, and whether it is asked of every technical factor."""

    title: str
    how: str
    each_factor: bool = False


ITEMS = {
    "graph": Item(
        "Does the table contradict the declared graph?",
        "causalfm audit tests the independences that the graph implies, and says among its assumptions what was "
        "tested; it adds a finding only where the table contradicts one.",
    ),
    "overlap": Item("Can the levels of a technical factor be compared within the biology?", AUDIT, True),
    "invariance": Item("Is the embedding invariant to a technical factor?", AUDIT, True),
    "effect": Item("How far does a technical factor move the embedding, compared with the biology?", AUDIT, True),
    "shortcut": Item("Is the model right because of a technical factor?", HEAD, True),
    "predictions": Item("Do the model's scores depend on a technical factor?", HEAD, True),
    "decisions": Item(
        "Would the model decide otherwise at another level of a technical factor?",
        "causalfm audit --head asks it: the model has to be run on moved embeddings.",
        True,
    ),
    "why": Item("Which mechanism does a drop of accuracy belong to?", LABELS),
    "split": Item("Does the model see other inputs, or do the same inputs mean something else?", LABELS),
    "reversal": Item("Does a pooled drop hold within classes, sites and technical levels?", LABELS),
    "neighbourhood": Item("Do neighbours share the biology or a technical factor?", AUDIT, True),
    "readout": Item("Can a probe read a technical factor beyond the case mix?", AUDIT, True),
    "biology": Item("Does the embedding carry the biology?", AUDIT),
    "comparison": Item("Which encoder carries the biology rather than technical factors?", "causalfm compare asks it."),
    "drift": Item("Are a new site's embeddings further away than another site's would be?", SHIFT),
    "columns": Item("Are covariates and technical columns of a new site distributed as in the reference?", SHIFT),
    "support": Item("Does a new site lie where the reference has patients?", SHIFT),
    "case mix": Item("How frequent are the classes at a new site?", SHIFT),
    "performance": Item("How accurate is the model, or a probe, at every site, for every class and subgroup?", AUDIT),
    "levels left out": Item("What does a probe lose at a level that was not in training?", AUDIT),
    "cost": Item("How much accuracy does the model lose at a new site?", LABELS),
    "expected cost": Item("How much accuracy is the model expected to lose, without labels?", SHIFT),
    "subgroups": Item(
        "Is the model as good for every protected subgroup?",
        "Name the columns under subgroups in the policy, then audit.",
    ),
    "calibration": Item("Do probabilities mean the same at every site?", AUDIT),
}
