"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.domains import Domain, Domains, as_domains

__all__ = ["Domain", "Domains", "as_domains"]
