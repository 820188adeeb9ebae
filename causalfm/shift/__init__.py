"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.changes.case_mix_fit import MixtureFit
from causalfm.shift.changes.case_mix_report import CaseMix, case_mix
from causalfm.shift.changes.covariate_shifts import ColumnShift, ColumnShifts, column_shifts
from causalfm.shift.changes.drift_parts import drift
from causalfm.shift.changes.drift_results import Drift, Drifts
from causalfm.shift.changes.support_rows import Support, support
from causalfm.shift.costs.back_tests import BackTest
from causalfm.shift.costs.label_budgets import LabelBudget, label_budget
from causalfm.shift.costs.label_free import label_free_performance
from causalfm.shift.costs.label_free_results import LabelFree, LabelFreeEstimate
from causalfm.shift.costs.performance import MeasuredPerformance, measured_performance
from causalfm.shift.costs.subgroup_gaps import SubgroupPerformance
from causalfm.shift.costs.subgroups import subgroup_performance
from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.reasons.attributing import attribution
from causalfm.shift.reasons.attribution_result import Attribution, Share
from causalfm.shift.reasons.reversals import Reversals, sign_reversals
from causalfm.shift.reasons.shared_support import SupportSplit, support_split
from causalfm.shift.watching.monitor_status import Alarm, MonitorStatus
from causalfm.shift.watching.monitoring import Monitor

__all__ = [
    "Alarm",
    "Attribution",
    "BackTest",
    "CaseMix",
    "ColumnShift",
    "ColumnShifts",
    "Domain",
    "Domains",
    "Drift",
    "Drifts",
    "LabelBudget",
    "LabelFree",
    "LabelFreeEstimate",
    "MeasuredPerformance",
    "MixtureFit",
    "Monitor",
    "MonitorStatus",
    "Reversals",
    "Share",
    "SubgroupPerformance",
    "Support",
    "SupportSplit",
    "as_domains",
    "attribution",
    "case_mix",
    "column_shifts",
    "drift",
    "label_budget",
    "label_free_performance",
    "measured_performance",
    "sign_reversals",
    "subgroup_performance",
    "support",
    "support_split",
]
