"""Training against shortcuts: penalties, adversaries, robust heads, a monitor. Needs torch and numpy only."""

from causalfm.training.adversaries import DomainAdversary
from causalfm.training.covariance_gaps import coral
from causalfm.training.domain_risks import group_dro, irm, next_group_weights, vrex
from causalfm.training.gradient_variances import fishr
from causalfm.training.kernel_penalties import conditional_hsic, conditional_mmd, hsic, mmd
from causalfm.training.view_consistency import counterfactual_consistency

__all__ = [
    "DomainAdversary",
    "conditional_hsic",
    "conditional_mmd",
    "coral",
    "counterfactual_consistency",
    "fishr",
    "group_dro",
    "hsic",
    "irm",
    "mmd",
    "next_group_weights",
    "vrex",
]
