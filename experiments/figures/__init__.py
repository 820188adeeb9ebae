"""The figures of the paper: one script per claim, each with its numbers, its table and the checks of its claim.

``python -m experiments.figures [--fast] [--only NAME] [--out FOLDER] [--seed N]`` makes all of them, and
``python -m experiments.figures.NAME`` one.
"""
