"""A linear or one-layer head on frozen embeddings, trained with a penalty."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.arguments import check_choice, check_device, check_positive, check_seed, check_whole
from causalfm.errors import DataError
from causalfm.training.head_inputs import blocks, coded, fingerprint, matrix, standardised
from causalfm.training.head_steps import NAMES, Recipe, Rows, trained_weights

KIND = "causalfm.RobustHead"
MOST = 5.0  # standard deviations


@dataclass(eq=False)
class RobustHead:
    """Classifier of embeddings in the style of scikit-learn; needs torch and numpy only.

    Parameters
    ----------
    penalty
        ``"erm"`` (none) or the name of a penalty: ``"irm"``, ``"vrex"``, ``"group_dro"``, ``"coral"``, ``"mmd"``,
        ``"conditional_mmd"``, ``"hsic"``, ``"conditional_hsic"``, ``"fishr"``, ``"iga"``,
        ``"information_bottleneck"``, ``"spectral_decoupling"``, ``"eqrm"``, ``"rdm"``, ``"dann"``, ``"cdann"``.
    strength
        Factor of the penalty; of the reversed gradient of adversaries. The same number means another thing for another
        penalty: choose it by leaving training sites out. ``"group_dro"`` and ``"eqrm"`` change the risk: there it is
        the step of the weights in units of 0.05, and the quantile in standard deviations of a normal (1: 0.84).
    hidden
        Units of a hidden layer; 0: a linear head.
    decay
        Weight of half the squared weights.
    steps, batch, rate
        Steps of Adam, rows per step (all rows if there are no more), step size.
    random_state
        Seed; torch's own generators are not touched.
    device
        Of the training; None is the CPU.

    Attributes
    ----------
    classes_
        ``(k,)`` labels, sorted.
    n_features_in_
        Dimension of the embeddings.
    state_
        Arrays of the head.
    reason_
        Why this penalty, from :func:`causalfm.training.train_head`.
    record_
        What it was trained on: rows, patients, fingerprint and, from ``train_head``, columns with their levels. No
        row, no patient's name.

    Notes
    -----
    Penalties on features (``coral``, ``mmd``, ``hsic``, ``dann``, the conditional forms, ``information_bottleneck``)
    act on the hidden layer, or, for a linear head, on its centred logits: frozen embeddings cannot change. For the
    first quarter of the steps the penalty does not count (``irm`` and ``vrex``: at most 1), then Adam starts anew.
    Embeddings are standardised with the moments of the fit; a column whose spread is below 1e-7 of its mean counts as
    constant and is not read. One seed gives one head on the CPU; on a GPU sums may
    differ in their last digits.

    The head is a callable ``(n, d) -> (n, classes)`` with ``classes``: pass it as ``model=``. Reading a file back needs
    torch, numpy and safetensors.
    """

    penalty: str = "erm"
    strength: float = 1.0
    hidden: int = 0
    decay: float = 0.01
    steps: int = 400
    batch: int = 512
    rate: float = 0.02
    random_state: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        self.reason_ = ""
        self.record_: dict[str, Any] = {}

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities ``(n, k)``: :meth:`predict_proba`."""
        return self.predict_proba(X)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the columns of the probabilities, as text."""
        self._check_fitted()
        return tuple(map(str, self.classes_.tolist()))

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn, where it is there, that this is a classifier."""
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier", target_tags=TargetTags(required=True), classifier_tags=ClassifierTags()
        )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def set_params(self, **settings: Any) -> RobustHead:
        """Change settings."""
        for name, value in settings.items():
            if name not in self.get_params():
                raise DataError(f"RobustHead has no setting {name!r}: choose from {', '.join(self.get_params())}.")
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        env: np.ndarray | None = None,
        given: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> RobustHead:
        """Train.

        Parameters
        ----------
        X
            ``(n, d)`` finite embeddings.
        y
            ``(n,)`` labels of at least two classes.
        env
            ``(n,)`` environments (hospitals); all penalties but ``"erm"`` need it.
        given
            ``(n,)`` strata of the conditional penalties; default the classes.
        groups
            ``(n,)`` patients: they weigh the same. None: rows do.

        Returns
        -------
        RobustHead
            Itself.

        Raises
        ------
        DataError
            Settings out of range, rows that cannot be read, a single class or environment.
        """
        self._check()
        values = matrix(X)
        self.classes_, label = coded(y, "y", len(values))
        if len(self.classes_) < 2:
            raise DataError("y holds one class: there is nothing to classify.")
        levels, place = coded(np.zeros(len(values), dtype=int) if env is None else env, "env", len(values))
        if self.penalty != "erm" and len(levels) < 2:
            raise DataError(f"penalty={self.penalty!r} compares environments and env holds {len(levels)}: pass more.")
        stratum = label if given is None else coded(given, "given", len(values))[1]
        unit = np.arange(len(values)) if groups is None else coded(groups, "groups", len(values))[1]
        weight = 1.0 / np.bincount(unit)[unit]
        weight /= weight.sum()
        z, middle, scale = standardised(values, weight)
        self.n_features_in_, self.reason_ = values.shape[1], f"penalty={self.penalty!r} was asked for."
        self.record_ = {"n": len(values), "n_groups": int(unit.max()) + 1, "fingerprint": fingerprint(values, label)}
        self.state_ = {"middle": middle, "scale": scale}
        self.state_ |= trained_weights(Rows(z, label, place, stratum, weight), Recipe(**self.get_params()))
        return self

    def logits(self, X: np.ndarray) -> np.ndarray:
        """Return logits ``(n, k)``."""
        self._check_fitted()
        values = matrix(X)
        if values.shape[1] != self.n_features_in_:
            raise DataError(f"X has {values.shape[1]} columns and the head was fitted on {self.n_features_in_}.")
        return np.concatenate([self._read(block) for _, block in blocks(values)])

    def _read(self, block: np.ndarray) -> np.ndarray:
        z = (block - self.state_["middle"]) / self.state_["scale"]
        if self.hidden:
            z = np.maximum(z @ self.state_["into"].T + self.state_["inner"], 0.0)
        return np.asarray(z @ self.state_["weight"].T + self.state_["bias"])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities ``(n, k)`` in the order of ``classes_``."""
        logits = self.logits(X)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))  # softmax; training runs without scipy
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return classes ``(n,)``."""
        best = self.logits(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        """Return the share of right classes."""
        return float((self.predict(X) == np.asarray(y)).mean())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one ``.safetensors`` file, whole or not at all: arrays, settings, classes, record; no row.

        Raises
        ------
        DataError
            Not fitted, another ending, or the file cannot be written.
        """
        from causalfm.model_files import write_model

        self._check_fitted()
        settings = {k: v.item() if isinstance(v, np.generic) else v for k, v in self.get_params().items()}
        header = {"settings": settings, "classes": self.classes_.tolist(), "features": self.n_features_in_}
        write_model(path, header | {"reason": self.reason_, "record": self.record_}, self.state_, kind=KIND)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RobustHead:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            Missing, damaged, edited, written by a newer version, or the file of something else.
        """
        from causalfm.model_files import read_model

        header, tensors = read_model(path, kind=KIND)
        try:
            head = cls(**header["settings"])
            head.classes_, head.n_features_in_ = np.array(header["classes"]), int(header["features"])
            head.reason_, head.record_, head.state_ = header["reason"], header["record"], dict(tensors)
            fits = {name: value.shape for name, value in head.state_.items()} == head._shapes()
        except (KeyError, TypeError, ValueError):
            fits = False
        finite = fits and all(np.isfinite(value).all() for name, value in head.state_.items() if name != "scale")
        if not finite:
            raise DataError(
                "the file holds other settings than RobustHead of this version, or arrays that do not fit them: read "
                f"it with the version that wrote it ({header.get('causalfm')}), or train and save the head again."
            )
        return head

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        d, k, inside = self.n_features_in_, len(self.classes_), {}
        if self.hidden:
            inside = {"into": (self.hidden, d), "inner": (self.hidden,)}
        return {"middle": (d,), "scale": (d,), "weight": (k, self.hidden or d), "bias": (k,), **inside}

    def _check_fitted(self) -> None:
        if not hasattr(self, "state_"):
            raise DataError("the head is not fitted: call fit first.")

    def _check(self) -> None:
        check_choice(self.penalty, "penalty", NAMES)
        check_seed(self.random_state)
        for name, least in (("hidden", 0), ("steps", 1), ("batch", 2)):
            check_whole(getattr(self, name), name, least)
        for name in ("strength", "rate"):
            check_positive(getattr(self, name), name, "a positive number")
        if self.decay != 0:
            check_positive(self.decay, "decay", "0 or a positive number")
        if self.penalty == "eqrm" and self.strength > MOST:
            raise DataError(f"strength={self.strength} of 'eqrm' is beyond every environment: at most {MOST}.")
        check_device(self.device)
