"""Which columns of a CSV must stay text, because numbers forget how ids were written."""

from __future__ import annotations

import numpy as np
import pandas as pd


def differ_in_kind(columns: list[pd.Series]) -> bool:
    """Whether parts of a column hold numbers here and text or truth values there."""
    return len({_kind(column) for column in columns if column.notna().any()}) > 1


def _kind(column: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(column):
        return "truth values"
    return "numbers" if pd.api.types.is_numeric_dtype(column) else "text"


def loses_digits(columns: list[pd.Series], texts: list[pd.Series]) -> bool:
    """Whether numbers forget how they were written: 007, +7, more digits than a float holds, 1.1 beside 1.10."""
    if any(_kind(column) != "numbers" for column in columns):
        return False
    written = pd.concat([text.dropna().astype(object) for text in texts], ignore_index=True)
    if written.empty:
        return False
    if any(_loses_whole(column, text) for column, text in zip(columns, texts, strict=True)):
        return True
    numbers = columns[0] if len(columns) == 1 else pd.concat([column.astype(object) for column in columns])
    return bool(numbers.nunique() < written.nunique())


def _loses_whole(numbers: pd.Series, text: pd.Series) -> bool:
    there = text.notna()
    written = text[there].astype(object)
    if written.empty or not written.str.fullmatch(r"\s*[+-]?\d+\s*").all():
        return False
    values = numbers[there].to_numpy()
    if values.dtype.kind == "f":
        if (np.abs(values) >= 2**53).any():
            return True
        values = values.astype(np.int64)
    return bool((values.astype(str) != written.to_numpy(dtype=str)).any())
