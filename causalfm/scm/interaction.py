"""Biology-by-factor interaction: a technical factor may move the classes differently, shrunken towards one shift."""

from __future__ import annotations

import dataclasses

import numpy as np

from causalfm.scm.additive import Additive
from causalfm.scm.regression import RANK, MeanModel, pseudo_inverse
from causalfm.scm.sampling_error import SamplingError


class Interaction(Additive):
    """Shared noise around a mean with biology x factor effects, shrunken towards the additive mean."""

    coupling = "shared noise around a mean in which biology changes the effects of technical factors"
    crossed = True


def shrink_interactions(
    model: MeanModel, gram: np.ndarray, error: SamplingError, n_main: int
) -> tuple[MeanModel, SamplingError]:
    """Shrink the crossed coefficients as random effects.

    Parameters
    ----------
    model
        Unshrunken least squares.
    gram
        ``(p, p)`` of its regressors.
    error
        Errors of its coefficients.
    n_main
        Regressors that are not shrunken; they come first.

    Returns
    -------
    model : MeanModel
        The ridge solution; additive where nothing but noise is seen.
    error : SamplingError
        Its errors, the bias of shrinkage included.

    Notes
    -----
    Method of moments: what the crossed columns explain beyond the others has the expectation ``noise + tr(S) tau``,
    ``S`` their Gram matrix after the others, ``tau`` the variance of an effect, and ``noise`` the sum over directions
    of the sandwich variances of the effects in units of ``S``: classes within patients are compared within them.
    One ratio, of ``tau`` to the noise per direction, serves all dimensions, so that rotations of the embedding do not
    matter.

    With ``H`` the penalised Gram matrix and ``I / ratio`` the penalty the bias is ``H^-1 b / ratio``, ``b`` the crossed
    effects; as random effects they have variance ``tau``. Without it intervals covered 92 % where interactions were
    weak.
    """
    main, crossed = slice(0, n_main), slice(n_main, None)
    inverse, _, _ = pseudo_inverse(gram[main, main])
    left = gram[crossed, crossed] - gram[crossed, main] @ inverse @ gram[main, crossed]
    eigenvalues, vectors = np.linalg.eigh(left)
    kept = eigenvalues > RANK * max(float(np.diag(gram).max()), 1e-300)
    eigenvalues, directions = eigenvalues[kept], np.zeros((int(kept.sum()), len(gram)))
    directions[:, crossed] = vectors[:, kept].T
    explained = float((eigenvalues @ (directions @ model.coefficients) ** 2).sum())
    noise = eigenvalues @ error.variance(directions)
    ratio = 0.0
    if noise.sum() > 0:
        ratio = max(0.0, explained / float(noise.sum()) - 1.0) * len(directions) / float(eigenvalues.sum())
    cross = gram @ model.coefficients  # equals the sums of regressor times z
    shrunken = np.zeros_like(gram)
    if ratio == 0.0:
        shrunken[main, main] = inverse
    else:
        penalised = gram.copy()
        penalised[crossed, crossed] += np.eye(len(left)) / ratio
        shrunken = pseudo_inverse(penalised)[0]
    found = dataclasses.replace(model, coefficients=shrunken @ cross, inverse=shrunken)
    after = error.after(shrunken @ gram)
    if ratio > 0.0:
        loadings = shrunken[crossed]
        after = after.plus(loadings, np.tile(noise / len(directions) / ratio, (len(loadings), 1)))
    return found, after
