"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.monitor_status import Alarm, MonitorStatus
from causalfm.shift.monitoring import Monitor

__all__ = ["Alarm", "Domain", "Domains", "Monitor", "MonitorStatus", "as_domains"]
