"""``python -m experiments.figures [--fast] [--only NAME] [--out FOLDER] [--seed N]``: make the figures of the paper."""

from experiments.figures.command import NAMES, load, main

if __name__ == "__main__":
    raise SystemExit(main([load(name) for name in NAMES]))
