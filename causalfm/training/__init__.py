"""Training against shortcuts: penalties, adversaries, robust heads, a monitor. Needs torch and numpy only."""

from causalfm.training.adversaries import DomainAdversary
from causalfm.training.covariance_gaps import coral
from causalfm.training.domain_risks import group_dro, irm, next_group_weights, vrex
from causalfm.training.epoch_monitor import EpochRobustness, RobustnessMonitor
from causalfm.training.head_training import train_head
from causalfm.training.kernel_penalties import conditional_hsic, conditional_mmd, hsic, mmd
from causalfm.training.layer_gradients import fishr, iga
from causalfm.training.lightning_hook import lightning_callback
from causalfm.training.penalty_choice import PenaltyChoice, penalty_for
from causalfm.training.risk_distributions import eqrm, rdm
from causalfm.training.robust_head import RobustHead
from causalfm.training.shrinkage import information_bottleneck, spectral_decoupling
from causalfm.training.view_consistency import counterfactual_consistency

__all__ = [
    "DomainAdversary",
    "EpochRobustness",
    "PenaltyChoice",
    "RobustHead",
    "RobustnessMonitor",
    "conditional_hsic",
    "conditional_mmd",
    "coral",
    "counterfactual_consistency",
    "eqrm",
    "fishr",
    "group_dro",
    "hsic",
    "iga",
    "information_bottleneck",
    "irm",
    "lightning_callback",
    "mmd",
    "next_group_weights",
    "penalty_for",
    "rdm",
    "spectral_decoupling",
    "train_head",
    "vrex",
]
