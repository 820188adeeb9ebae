"""What every number of an audit must come with."""

import math

from causalfm.auditing import Audit


def check_estimands(audit: Audit) -> None:
    """A number has a name, a unit, a population, rows and independent units."""
    numbers = [f for f in audit.findings if math.isfinite(f.value)]
    assert numbers
    for f in numbers:
        bare = [name for name in ("quantity", "unit", "target", "n", "n_groups") if not getattr(f, name)]
        assert not bare, (f.question, f.factor, bare)
        assert f.n >= f.n_groups or f.question == "overlap", (f.question, f.n, f.n_groups)
    assert all(f.unit and f.sentence for f in audit.findings)
