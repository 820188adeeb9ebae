"""DANN and CDANN: a network that reads the environment, against which features are trained by gradient reversal."""

from __future__ import annotations

import torch

from causalfm.arguments import check_positive, check_whole
from causalfm.errors import DataError
from causalfm.gradient_reversal import reversed_gradient
from causalfm.training.batches import full_precision


class DomainAdversary(torch.nn.Module):
    """A read-out of the environment whose gradient reaches the features reversed.

    Parameters
    ----------
    n_features
        Columns of the features.
    n_environments
        Environments; codes run from 0.
    n_classes
        None: DANN, features independent of the environment. A number: CDANN, independent within the classes, of which
        the adversary has an embedding, and which weigh the same.
    width
        Units of the hidden layer.
    strength
        What the reversed gradient is multiplied by.

    Notes
    -----
    Called like a penalty. The value is the adversary's cross-entropy: add it to the loss as it is, and give
    ``parameters()`` to the optimiser: one step trains both sides, the adversary to read, the features not to be read.
    DomainBed takes turns instead, and may penalise the adversary's gradient (weight 0 by default). ``strength`` is not
    the factor before the loss, which would slow the adversary too.

    References
    ----------
    Ganin et al., JMLR 17 (2016); Li et al., ECCV 2018 (conditional).
    """

    def __init__(
        self,
        n_features: int,
        n_environments: int,
        *,
        n_classes: int | None = None,
        width: int = 64,
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        for value, name, least in ((n_features, "n_features", 1), (n_environments, "n_environments", 2)):
            check_whole(value, name, least, why="the adversary reads environments from features")
        check_whole(width, "width", 1, why="units of the hidden layer")
        check_positive(strength, "strength", "the factor of the reversed gradient")
        self.strength = strength
        self.classes = None if n_classes is None else torch.nn.Embedding(n_classes, n_features)
        self.reader = torch.nn.Sequential(
            torch.nn.Linear(n_features, width), torch.nn.ReLU(), torch.nn.Linear(width, n_environments)
        )
        self.n_environments = n_environments

    def forward(
        self,
        features: torch.Tensor,
        logits: torch.Tensor | None,
        y: torch.Tensor | None,
        env: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the adversary's cross-entropy.

        Parameters
        ----------
        features
            ``(n, n_features)`` floating.
        logits
            Not read.
        y
            ``(n,)`` integer codes, read by CDANN.
        env
            ``(n,)`` integer codes below ``n_environments``.
        weights
            ``(n,)`` at least 0, or None.

        Returns
        -------
        torch.Tensor
            Scalar; the mean over rows, or over classes of the mean within.

        Raises
        ------
        DataError
            A batch that cannot be read, codes out of range.
        """
        conditional = self.classes is not None
        needs = ("features", "env", *(("y",) if conditional else ()))
        with full_precision(needs, features, logits, y, env, weights) as batch:
            if int(batch.levels.min()) < 0 or int(batch.levels.max()) >= self.n_environments:
                raise DataError(f"env has codes beyond 0 to {self.n_environments - 1}: pass positions.")
            z = reversed_gradient(batch.features, self.strength)
            if self.classes is None:
                losses = self._losses(z, batch.levels[batch.env])
                return (losses * batch.weight).sum() / batch.weight.sum()
            if int(batch.y.min()) < 0 or int(batch.y.max()) >= self.classes.num_embeddings:
                raise DataError(f"y has codes beyond 0 to {self.classes.num_embeddings - 1}: pass positions.")
            losses = self._losses(z + self.classes(batch.y), batch.levels[batch.env])
            _, code = torch.unique(batch.y, return_inverse=True)
            mass = batch.weight.new_zeros(int(code.max()) + 1).index_add(0, code, batch.weight)
            return (losses * batch.weight / mass[code]).sum() / len(mass)

    def _losses(self, z: torch.Tensor, env: torch.Tensor) -> torch.Tensor:
        dtype = next(self.reader.parameters()).dtype
        read = self.reader(z.to(dtype))
        return torch.nn.functional.cross_entropy(
            read.float() if read.dtype.itemsize < 4 else read, env, reduction="none"
        )
