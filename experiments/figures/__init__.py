"""The figures of the paper: one script per claim, each with its numbers, its table and the checks of its claim.

``python -m experiments.figures [--fast] [--only NAME] [--out FOLDER] [--seed N]`` makes all of them, and
``python -m experiments.figures.NAME [--fast] [--out FOLDER] [--seed N]`` one. With ``--redraw`` nothing is computed:
claims are tried and pictures drawn anew from the numbers of the last run.

A script holds ``TITLE``, ``DATA``, the functions ``compute``, ``table``, ``claim``, ``checks`` and ``draw``, as
:class:`~experiments.figures.paper.PaperFigure` says, ``SEED`` where it is not 0, and nothing else; its name stands in
``command.NAMES``. Files, options, seeds, environment and exit codes are the same for all.
"""
