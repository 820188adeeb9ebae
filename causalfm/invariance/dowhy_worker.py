"""Run DoWhy's falsification of a graph on a table from standard input; started by ``dowhy_falsification`` only."""

from __future__ import annotations

import json
import sys
from typing import Any


def judge(task: dict[str, Any]) -> dict[str, Any]:
    """Return DoWhy's verdict on a graph.

    Parameters
    ----------
    task
        ``columns`` (name to values; codes of categories are strings), ``edges``, ``n_permutations``, ``random_state``.

    Returns
    -------
    dict
        Local Markov conditions tested and violated, the share of node permutations that violate no larger share of
        theirs, the share that implies the same conditions, and what DoWhy concludes; ``falsified`` is None where the
        graph implies nothing.
    """
    import networkx as nx
    import pandas as pd
    from dowhy.gcm.falsify import FalsifyConst, falsify_graph
    from dowhy.gcm.util.general import set_random_seed

    set_random_seed(task["random_state"])
    dag = nx.DiGraph()
    dag.add_nodes_from(task["columns"])
    dag.add_edges_from(task["edges"])
    found = falsify_graph(
        dag, pd.DataFrame(task["columns"]), n_permutations=task["n_permutations"], show_progress_bar=False, n_jobs=1
    )
    markov, same = (found.summary.get(key, {}) for key in (FalsifyConst.VALIDATE_LMC, FalsifyConst.VALIDATE_TPA))
    return {
        "tests": markov.get(FalsifyConst.N_TESTS, 0),
        "violations": markov.get(FalsifyConst.GIVEN_VIOLATIONS, 0),
        "p_value": markov.get(FalsifyConst.P_VALUE),
        "p_same": same.get(FalsifyConst.P_VALUE),
        "falsified": found.falsified,
        "falsifiable": found.falsifiable,
    }


if __name__ == "__main__":
    answer = judge(json.load(sys.stdin))
    print(json.dumps({key: None if value is None else float(value) for key, value in answer.items()}))
