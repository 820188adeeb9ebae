"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.attributing import attribution
from causalfm.shift.attribution_result import Attribution, Share
from causalfm.shift.covariate_shifts import ColumnShift, ColumnShifts, column_shifts
from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.drift_parts import drift
from causalfm.shift.drift_results import Drift, Drifts
from causalfm.shift.monitor_status import Alarm, MonitorStatus
from causalfm.shift.monitoring import Monitor
from causalfm.shift.reversals import Reversals, sign_reversals
from causalfm.shift.shared_support import SupportSplit, support_split
from causalfm.shift.support_rows import Support, support

__all__ = [
    "Alarm",
    "Attribution",
    "ColumnShift",
    "ColumnShifts",
    "Domain",
    "Domains",
    "Drift",
    "Drifts",
    "Monitor",
    "MonitorStatus",
    "Reversals",
    "Share",
    "Support",
    "SupportSplit",
    "as_domains",
    "attribution",
    "column_shifts",
    "drift",
    "sign_reversals",
    "support",
    "support_split",
]
