"""Which patients and batches a monitor has met: keyed hashes in bounded memory, no id in clear."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.errors import DataError

LEAST_KEY, MOST_KEY = 16, 64  # bytes; the latter is BLAKE2b's


def hashed(ids: tuple[str, ...], key: bytes) -> np.ndarray:
    """Return ``(m,)`` uint64 keyed hashes (BLAKE2b, 64 bits) of ids."""
    digests = [hashlib.blake2b(text.encode(), key=key, digest_size=8).digest() for text in ids]
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)


@dataclass(frozen=True, eq=False)
class Memory:
    """The last patients met.

    Attributes
    ----------
    hashes
        ``(m,)`` uint64 in the order in which patients came.
    capacity
        How many are kept; the oldest are forgotten.
    forgotten
        How many were.
    """

    hashes: np.ndarray
    capacity: int
    forgotten: int = 0

    def known(self, hashes: np.ndarray) -> np.ndarray:
        """``(k,)`` bool: patients met before."""
        return np.isin(hashes, self.hashes)

    def add(self, hashes: np.ndarray) -> Memory:
        """Return the memory with patients that it did not know."""
        both = np.concatenate([self.hashes, hashes])
        lost = max(0, len(both) - self.capacity)
        return Memory(both[lost:], self.capacity, self.forgotten + lost)


def check_key(key: bytes | None) -> None:
    """Refuse what cannot be a secret."""
    if key is not None and not (isinstance(key, bytes) and LEAST_KEY <= len(key) <= MOST_KEY):
        raise DataError(f"key must be {LEAST_KEY} to {MOST_KEY} bytes, such as secrets.token_bytes(32), or None.")


def right_key(key: bytes | None, header: Mapping[str, Any], name: str) -> bytes:
    """Return the key of a saved monitor: the one given, or the one that it holds.

    Raises
    ------
    DataError
        A key that is missing, not needed, or another one than at the fit.
    """
    check_key(key)
    if (key is None) != (header["key"] is not None):
        what = "needs the key it was fitted with: pass key=" if key is None else "holds its own key: leave key out"
        raise DataError(f"{name!r} {what}.")
    secret = key or bytes.fromhex(header["key"])
    if key_mark(secret) != header["key_check"]:
        raise DataError(f"key is another one than at the fit of {name!r}: patients would not be recognised.")
    return secret


def key_mark(key: bytes) -> str:
    """Return a text that tells keys apart and does not give them away."""
    return hashlib.blake2b(b"causalfm.Monitor", key=key, digest_size=16).hexdigest()
