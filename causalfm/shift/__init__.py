"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.case_mix_fit import MixtureFit
from causalfm.shift.case_mix_report import CaseMix, case_mix
from causalfm.shift.covariate_shifts import ColumnShift, ColumnShifts, column_shifts
from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.drift_parts import drift
from causalfm.shift.drift_results import Drift, Drifts
from causalfm.shift.support_rows import Support, support

__all__ = [
    "CaseMix",
    "ColumnShift",
    "ColumnShifts",
    "Domain",
    "Domains",
    "Drift",
    "Drifts",
    "MixtureFit",
    "Support",
    "as_domains",
    "case_mix",
    "column_shifts",
    "drift",
    "support",
]
