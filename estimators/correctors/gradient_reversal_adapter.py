"""A linear or one-hidden-layer map, trained against an adversary that knows the class of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from causalfm.arguments import check_device, check_positive, check_seed, check_whole
from causalfm.errors import DataError
from causalfm.estimators.correctors.adjusted import Adjusted, partial_products
from causalfm.estimators.correctors.base import Corrector
from causalfm.estimators.correctors.gaussian_maps import linear_shrinkage
from causalfm.estimators.correctors.gradient_reversal import Players, Rows
from causalfm.estimators.correctors.held_out_reading import STRENGTHS, Choice, choose
from causalfm.estimators.correctors.inputs import Batch, coded
from causalfm.lazy_rows import empty_like
from causalfm.level_moments import LevelMoments, Second
from causalfm.validation import row_blocks


class GradientReversalAdapter(Corrector):
    """Move rows so that an adversary, trained along with the map, cannot read the factor from them.

    Parameters
    ----------
    form
        ``"linear"``: a projection against an affine adversary; ``"mlp"``: both have one rectified hidden layer, and the
        projection follows the map's.
    width
        Hidden units; at most the number of dimensions is used.
    strength
        Weight of the reversed gradient, beside mean squared movement and the loss of reading biology; ``"held-out"``:
        the weakest of .1, .3, 1 and 3 whose read-out of the factor on held-out patients is within a standard error of
        the lowest.
    steps
        Most steps of training per strength.
    random_state
        Seed. On one device and version of torch the result repeats.
    device
        Of the training, a torch device; None is the CPU. :meth:`transform` needs no torch.
    on_violation
        Levels that cannot be told from biology: ``"refuse"``, or ``"trim"`` to what can be compared.

    Attributes
    ----------
    levels_, report_
        Levels of the fit; what was fitted, with assumptions and what was chosen.
    choice_
        Strength, step, and how well the factor is read on held-out patients before and after; not saved.

    Notes
    -----
    The game starts at the best answer to a linear adversary, which is known in closed form: :class:`LinearEraser`. From
    random directions it ended with half of the factor left in some cohorts and none in others. The linear form hence
    differs from :class:`LinearEraser` in what it does for biology alone, and is no better: prefer that one. The hidden
    layer may take nonlinear traces too; of 120 patients it learned none that a forest reads (docs/correctors.md). The
    projection after it is in closed form again.

    The adversary sees biology and covariates beside the moved row: what remains for it is the factor given them. A
    quarter of the patients (rows, without ``groups``) is held out. Training stops where read-outs fitted anew stop
    losing the factor there: ridge regression, and for ``"mlp"`` another on rectified random features, whichever finds
    more. Maps under which biology is read worse by more than two standard errors do not count, which is no proof that
    none is lost. The map that is kept is trained as long on all patients. If the factor is lowered by no more than a
    standard error, or there are fewer than 20 patients, nothing is moved, and ``report_`` says so; the read-out that
    it states chose strength and step, and flatters them.

    An adversary that fails proves nothing about others: a stronger read-out may find the factor again. Rows are held in
    memory in float32; no ``partial_fit``.

    References
    ----------
    Ganin et al., Domain-adversarial training of neural networks, JMLR 17 (2016) 1-35; Belrose et al., LEACE, NeurIPS
    2023.
    """

    streams = False
    choice_: Choice

    def __init__(
        self,
        *,
        form: Literal["linear", "mlp"] = "linear",
        width: int = 64,
        strength: float | Literal["held-out"] = "held-out",
        steps: int = 1000,
        random_state: int = 0,
        device: str | None = None,
        on_violation: Literal["refuse", "trim"] = "refuse",
    ) -> None:
        self.form = form
        self.width = width
        self.strength = strength
        self.steps = steps
        self.random_state = random_state
        self.device = device
        self.on_violation = on_violation

    def _check_settings(self) -> None:
        super()._check_settings()
        if self.form not in ("linear", "mlp"):
            raise DataError(f"form={self.form!r}: choose 'linear' or 'mlp'.")
        check_whole(self.width, "width", 1)
        check_whole(self.steps, "steps", 1)
        check_seed(self.random_state)
        if self.strength != "held-out":
            check_positive(self.strength, "strength", "or 'held-out' to choose it on held-out patients")
        check_device(self.device)

    def _second(self) -> Second:
        return "pooled"

    def _study(self, X: np.ndarray, batch: Batch) -> None:
        unit = np.arange(len(X)) if batch.groups is None else coded(batch.groups, "groups", len(X), private=True)[0]
        given = self.regressors_.matrix(batch.columns, len(X))[:, 1:]
        spread = given.std(axis=0)
        given = (given - given.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        biology = next((column.values for column in batch.columns if column.name == "biology"), None)
        centre, whiten, _ = self._frame(self.moments_)
        u = empty_like(X, np.float32)
        for rows in row_blocks(X):
            u[rows] = (X[rows] - centre) @ whiten
        players = Players(self.form == "linear", min(self.width, X.shape[1]), self.steps, self.device)
        strength = None if self.strength == "held-out" else float(self.strength)
        self._weights, self.choice_ = choose(
            Rows(u, batch.codes, given, biology, unit, len(batch.levels)), strength, players, self.random_state
        )

    def _frame(self, moments: LevelMoments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean ``(d,)``, whitening ``(d, d)`` and its inverse, of the covariance of all rows."""
        found = partial_products(moments)
        values, vectors = np.linalg.eigh(linear_shrinkage(found.total, self.n_units_))
        root = np.sqrt(np.maximum(values, 1e-12 * max(float(values[-1]), 1e-300)))
        return found.mean, vectors / root, (vectors * root).T

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        """Undo the whitening: ``h = x + f((x - c) into + bias) back``, then ``h - ((h - c) right - offset) left'``."""
        centre, whiten, back = self._frame(moments)
        found, axes = self._weights, self._weights["axes"]
        out = {"centre": centre, "right": whiten @ axes, "left": back.T @ axes, "offset": found["middle"] @ axes}
        if "bias" in found:
            out |= {"into": whiten @ found["into"], "bias": found["bias"], "back": found["back"] @ back}
        return out

    def _assumptions(self) -> str:
        found, unit = self.choice_, "groups" if self.grouped_ else "rows"
        if not found.patients:
            return f"nothing is moved: there are too few {unit} to hold any out"
        before = f"on {found.patients} {unit} held out, a read-out given biology and covariates correlated"
        before += f" {found.before:.2f} with the factor"
        if not found.strength:
            why = "no map that keeps biology lowered that by more than its standard error"
            return f"nothing is moved: {before}, and {why}"
        among = f"of {STRENGTHS} " if self.strength == "held-out" else ""
        return (
            f"what this adversary cannot read is gone; strength {found.strength:g} {among}at step {found.step}: "
            f"{before}, then {found.after:.2f} (standard error of the difference {found.error:.2f})"
        )

    def _map(self, block: np.ndarray, solution: Mapping[str, np.ndarray]) -> np.ndarray:
        rows = block - solution["centre"]
        if "bias" in solution:
            step = np.maximum(rows @ solution["into"] + solution["bias"], 0.0) @ solution["back"]
            block += step
            rows += step
        block -= (rows @ solution["right"] - solution["offset"]) @ solution["left"].T
        return block
