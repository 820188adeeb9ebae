"""What was done to embeddings travels with them: ``info["corrections"]`` inside every format that ``write`` makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.results import plain

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "corrections"
KEY = "causalfm_corrections"  # in the schema of a parquet file, in the unstructured part of an AnnData


def written(info: Mapping[str, Any]) -> str | None:
    """Return the records of a cohort as JSON, or None if nothing was done to it."""
    return json.dumps(plain(info[NAME])) if info.get(NAME) else None


def into_schema(table: pa.Table, info: Mapping[str, Any]) -> pa.Table:
    """Return a table with the records in its schema."""
    text = written(info)
    return table if text is None else table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: text})


def read_back(text: str | bytes | None) -> dict[str, Any]:
    """Return what :func:`written` wrote, as it stands in ``info``; nothing was written: nothing comes back."""
    return {} if text is None else {NAME: json.loads(text)}


def of_schema(path: Path) -> dict[str, Any]:
    """Return the records in the schema of a parquet file; call it under :func:`causalfm.tables.reading`."""
    import pyarrow.parquet as pq

    return read_back((pq.read_schema(path).metadata or {}).get(KEY.encode()))


def joined(parts: list[Mapping[str, Any]]) -> list[Any]:
    """Return the records of several parts, each once."""
    out: list[Any] = []
    for part in parts:
        out += [record for record in part.get(NAME, []) if record not in out]
    return out
