"""What kind of column it is: levels, ordered levels or numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from causalfm.errors import DataError

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph, Kind

MAX_INTEGER_LEVELS = 20


def infer_kind(column: pd.Series, *, factor: bool = False) -> Kind:
    """Guess the kind of a column: see :meth:`causalfm.CausalGraph.kind`.

    Parameters
    ----------
    column
        The values.
    factor
        The column is declared as biology or as a technical factor: integers are codes, however many.

    Returns
    -------
    str
        ``"categorical"``, ``"ordinal"`` or ``"continuous"``.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "ordinal" if column.cat.ordered else "categorical"
    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_any_real_numeric_dtype(column.dtype):
        return "continuous" if pd.api.types.is_datetime64_any_dtype(column.dtype) else "categorical"
    limit = MAX_INTEGER_LEVELS if pd.api.types.is_integer_dtype(column.dtype) else 2  # a 0/1 column with gaps is float
    few = column.nunique() <= limit or (factor and limit > 2)
    return "categorical" if few else "continuous"


def refuse_float_codes(graph: CausalGraph, cohort: Cohort, name: str) -> None:
    """Refuse few whole numbers stored as floats: codes of levels (missing values make pandas do so), or amounts.

    Parameters
    ----------
    graph, cohort
        Declared graph and table.
    name
        A technical factor whose kind is continuous. A value for nearly every unit is no code.

    Raises
    ------
    DataError
        Both readings are possible and none is declared.
    """
    column = cohort.column(name)
    if name in graph.kinds or not pd.api.types.is_float_dtype(column.dtype):
        return
    values = column.nunique()
    units = cohort.factor(graph.group, private=True).n_levels
    if 2 * values <= units and (cohort.numeric(name) % 1.0 == 0.0).all():
        raise DataError(
            f"column {name!r} is a technical factor with {values} different values in {units} {graph.group}s, whole "
            "numbers stored as floats. They may be codes of levels or amounts, and would be taken as amounts: pass "
            f"kinds={{{name!r}: 'categorical'}} or kinds={{{name!r}: 'continuous'}}."
        )


def refuse_decimal_commas(graph: CausalGraph, name: str, levels: Sequence[str]) -> None:
    """Refuse text that is numbers with a decimal comma: every value would be a level of its own.

    Parameters
    ----------
    graph
        Declared graph.
    name, levels
        A covariate that is taken as categorical, and its levels.

    Raises
    ------
    DataError
        All levels read as such numbers, and no kind is declared.
    """
    if name in graph.kinds or not any("," in level for level in levels):
        return
    if all(re.fullmatch(r"\s*[+-]?\d+(,\d+)?\s*", level) for level in levels):
        raise DataError(
            f"covariate {name!r} holds {len(levels)} numbers with a decimal comma, which would be taken as levels: "
            f"write a point, for instance obs[{name!r}].str.replace(',', '.').astype(float), or pass "
            f"kinds={{{name!r}: 'categorical'}}."
        )
