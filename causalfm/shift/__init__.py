"""Before a model goes to a new hospital: what changed, what it costs, why, and watching it afterwards."""

from causalfm.shift.attributing import attribution
from causalfm.shift.attribution_result import Attribution, Share
from causalfm.shift.domains import Domain, Domains, as_domains
from causalfm.shift.reversals import Reversals, sign_reversals
from causalfm.shift.shared_support import SupportSplit, support_split

__all__ = [
    "Attribution",
    "Domain",
    "Domains",
    "Reversals",
    "Share",
    "SupportSplit",
    "as_domains",
    "attribution",
    "sign_reversals",
    "support_split",
]
