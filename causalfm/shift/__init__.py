"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.attributing import attribution
from causalfm.shift.attribution_result import Attribution, Share
from causalfm.shift.back_tests import BackTest
from causalfm.shift.case_mix_fit import MixtureFit
from causalfm.shift.case_mix_report import CaseMix, case_mix
from causalfm.shift.covariate_shifts import ColumnShift, ColumnShifts, column_shifts
from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.drift_parts import drift
from causalfm.shift.drift_results import Drift, Drifts
from causalfm.shift.label_budgets import LabelBudget, label_budget
from causalfm.shift.label_free import label_free_performance
from causalfm.shift.label_free_results import LabelFree, LabelFreeEstimate
from causalfm.shift.monitor_status import Alarm, MonitorStatus
from causalfm.shift.monitoring import Monitor
from causalfm.shift.performance import MeasuredPerformance, measured_performance
from causalfm.shift.reversals import Reversals, sign_reversals
from causalfm.shift.shared_support import SupportSplit, support_split
from causalfm.shift.subgroups import SubgroupPerformance, subgroup_performance
from causalfm.shift.support_rows import Support, support

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
