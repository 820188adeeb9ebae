"""Attempts to refute an effect: placebos, negative controls, subsets and halves."""
