"""Invariance tests: is the embedding independent of a technical factor, given what it may depend on.

Methods of :func:`invariance_test`: ``mean`` (shifts of means), ``gcm`` (the largest linear dependence), ``c2st`` (a
classifier), ``mmd`` and ``energy`` (distributions), ``hsic`` and ``dcorr`` (distributions, levels weighed by a kernel).
"""

from causalfm.invariance.decision import invariance_test
from causalfm.invariance.dowhy_falsification import dowhy_falsification
from causalfm.invariance.equivalence import equivalence_test
from causalfm.invariance.falsification import falsify_graph
from causalfm.invariance.placebos import placebo
from causalfm.invariance.predictions import prediction_invariance
from causalfm.invariance.self_checks import SelfCheck, self_check
from causalfm.invariance.several import TestFamily, invariance_tests

__all__ = [
    "SelfCheck",
    "TestFamily",
    "dowhy_falsification",
    "equivalence_test",
    "falsify_graph",
    "invariance_test",
    "invariance_tests",
    "placebo",
    "prediction_invariance",
    "self_check",
]
