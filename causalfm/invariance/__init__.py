"""Invariance tests: is the embedding independent of a technical factor, given what it may depend on."""

from causalfm.invariance.decision import invariance_test

__all__ = ["invariance_test"]
