"""Thin adapters of EconML's and DoWhy's estimators for scalar outcomes."""
