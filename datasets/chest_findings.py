"""What MIMIC-CXR-JPG and CheXpert share: fourteen findings from reports, and the roles of their columns."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from causalfm.arguments import check_choice
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
LEVELS = {1: "positive", 0: "negative", -1: "uncertain"}
NOT_MENTIONED = "not mentioned"


def findings_graph(finding: str, *, covariates: tuple[str, ...] = (), hospitals: bool = False) -> CausalGraph:
    """Return the roles of chest radiographs.

    Parameters
    ----------
    finding
        One of :data:`FINDINGS`, the biology.
    covariates
        Measured causes of the finding, such as age and sex.
    hospitals
        Whether the rows are of both hospitals, put together with ``pandas.concat``: the hospital is the site then, and
        the view a technical factor that it influences. Else the view alone is technical.
    """
    check_choice(finding, "finding", FINDINGS)
    technical = ["hospital", "view"] if hospitals else ["view"]
    return CausalGraph.standard(biology=finding, technical=technical, covariates=covariates, group="patient")


def in_words(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the findings as levels: positive, negative, uncertain, not mentioned. Nothing is merged or filled.

    Raises
    ------
    DataError
        A value beside 1, 0, -1 and empty.
    """
    out = {}
    for finding in FINDINGS:
        values = pd.to_numeric(table[finding], errors="coerce")
        words = values.map(LEVELS).where(table[finding].notna(), NOT_MENTIONED)
        if words.isna().any():
            where = words.index[words.isna()].tolist()
            raise DataError(f"{name}: column {finding!r} has values beside 1, 0, -1 and empty ({positions(where)}).")
        out[finding] = words.astype(object)
    return pd.DataFrame(out, index=table.index)


def only_frontal(table: pd.DataFrame, view: str, frontal: bool) -> pd.DataFrame:
    """Keep the frontal views AP and PA, or all rows."""
    return table[table[view].isin(["AP", "PA"])].reset_index(drop=True) if frontal else table


def refuse_absent(paths: pd.Series, of: str) -> None:
    """Refuse a list of images of which none is there: the folder is another one than the tables."""
    first = [Path(path) for path in paths[:100]]
    if first and not any(path.is_file() for path in first):
        raise DataError(f"none of the first {len(first)} images of {of} is there: pass the folder that holds them.")
