"""SHA-256 of data: what ties a report, a model file or a line of a ledger to the rows that they are about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from causalfm.validation import row_blocks, texts

if TYPE_CHECKING:
    import pandas as pd


def fingerprints(X: np.ndarray, columns: Iterable[tuple[str, pd.Series]]) -> tuple[str, str]:
    """Return the fingerprint of the embeddings alone, and of them with the columns, in one pass.

    Parameters
    ----------
    X
        ``(n, d)``; read in blocks of rows.
    columns
        Names and values.

    Returns
    -------
    tuple of str
        Hexadecimal text.
    """
    digest = hashlib.sha256(f"{X.shape}{X.dtype.str}".encode())
    for rows in row_blocks(X):
        digest.update(np.ascontiguousarray(X[rows]).view(np.uint8).data)
    alone = digest.hexdigest()
    for name, column in columns:
        digest.update(str(name).encode())
        for text in texts(column):
            digest.update(text)
    return alone, digest.hexdigest()
