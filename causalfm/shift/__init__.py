"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.covariate_shifts import ColumnShift, ColumnShifts, column_shifts
from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.drift_parts import drift
from causalfm.shift.drift_results import Drift, Drifts
from causalfm.shift.monitor_status import Alarm, MonitorStatus
from causalfm.shift.monitoring import Monitor
from causalfm.shift.support_rows import Support, support

__all__ = [
    "Alarm",
    "ColumnShift",
    "ColumnShifts",
    "Domain",
    "Domains",
    "Drift",
    "Drifts",
    "Monitor",
    "MonitorStatus",
    "Support",
    "as_domains",
    "column_shifts",
    "drift",
    "support",
]
