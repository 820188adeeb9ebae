"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.drift_parts import Drift, Drifts, drift

__all__ = ["Domain", "Domains", "Drift", "Drifts", "as_domains", "drift"]
