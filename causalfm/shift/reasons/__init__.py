"""Why accuracy dropped: mechanisms of the graph, other inputs or other labels, sign reversals."""
