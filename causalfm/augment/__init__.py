"""Augmentation for training: technical factors drawn anew, independently of biology. Needs torch and numpy only."""

from causalfm.augment.balanced import balanced_counterfactuals
from causalfm.augment.embedding import CounterfactualAugment
from causalfm.augment.hed_jitter import HEDJitter
from causalfm.augment.intervention_spec import Intervened
from causalfm.augment.interventional import InterventionalAugment
from causalfm.augment.lab_statistics import lab_statistics, reinhard
from causalfm.augment.moved_training import CounterfactualTraining
from causalfm.augment.optical_density import optical_density
from causalfm.augment.radiology import SITE_PRESETS, SitePreset, rescan
from causalfm.augment.scanner_estimate import ScannerEstimate, estimate_scanners
from causalfm.augment.scanner_profile import ScannerProfile
from causalfm.augment.scanner_swap import ScannerSwap
from causalfm.augment.stain_library import StainLibrary
from causalfm.augment.stain_matrices import concentrations, macenko, vahadane
from causalfm.augment.stain_swap import StainSwap
from causalfm.augment.tile_content import CONTENTS, tile_content
from causalfm.augment.white_point import white_point

__all__ = [
    "CONTENTS",
    "SITE_PRESETS",
    "CounterfactualAugment",
    "CounterfactualTraining",
    "HEDJitter",
    "Intervened",
    "InterventionalAugment",
    "ScannerEstimate",
    "ScannerProfile",
    "ScannerSwap",
    "SitePreset",
    "StainLibrary",
    "StainSwap",
    "balanced_counterfactuals",
    "concentrations",
    "estimate_scanners",
    "lab_statistics",
    "macenko",
    "optical_density",
    "reinhard",
    "rescan",
    "tile_content",
    "vahadane",
    "white_point",
]
