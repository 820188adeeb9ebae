"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.back_tests import BackTest
from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.label_budgets import LabelBudget, label_budget
from causalfm.shift.label_free import label_free_performance
from causalfm.shift.label_free_results import LabelFree, LabelFreeEstimate
from causalfm.shift.performance import MeasuredPerformance, measured_performance
from causalfm.shift.subgroups import SubgroupPerformance, subgroup_performance

__all__ = [
    "BackTest",
    "Domain",
    "Domains",
    "LabelBudget",
    "LabelFree",
    "LabelFreeEstimate",
    "MeasuredPerformance",
    "SubgroupPerformance",
    "as_domains",
    "label_budget",
    "label_free_performance",
    "measured_performance",
    "subgroup_performance",
]
