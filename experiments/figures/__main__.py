"""``python -m experiments.figures [--fast] [--only NAME] [--out FOLDER] [--seed N]``: make the figures of the paper."""

from experiments.figures.command import load_all, main

if __name__ == "__main__":
    raise SystemExit(main(load_all()))
