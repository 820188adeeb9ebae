"""Metadata that lies beside images in a tar: ``<key>.json``, ``<key>.cls``, ``<key>.txt``. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from causalfm.errors import DataError
from causalfm.formats.slide_tables import file_positions

SIDECARS = (".json", ".cls", ".txt")
SIDECAR_BYTES = 2**20


def sidecar_table(names: Sequence[str], contents: Iterable[tuple[str, bytes]], where: str) -> pd.DataFrame:
    """Return what the sidecars say of each image.

    Parameters
    ----------
    names
        Of the images.
    contents
        Names and bytes of the sidecars. A JSON object gives a column per key, lists and objects in it as JSON text;
        ``.cls`` gives ``cls``, whole numbers if all are; ``.txt`` gives ``txt``.
    where
        What to call the archive.

    Returns
    -------
    pd.DataFrame
        One row per image, numbered; no columns where there are no sidecars. What an image lacks is missing.

    Raises
    ------
    DataError
        Sidecars of no image, or of several; text that is no UTF-8, JSON that is no object.
    """
    place: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        place.setdefault(_key(name), []).append(i)
    rows: list[dict[str, Any]] = [{} for _ in names]
    astray: list[int] = []
    shared: list[int] = []
    damaged: list[int] = []
    for at, (name, content) in enumerate(contents):
        images = place.get(_key(name), [])
        if len(images) != 1:
            (shared if images else astray).append(at)
            continue
        try:
            rows[images[0]].update(_read(name, content))
        except (ValueError, RecursionError):
            damaged.append(at)
    for found, what in (
        (astray, "belong to no image"),
        (shared, "belong to several images (the key is the name up to its first dot)"),
        (damaged, "are no UTF-8 text, or no JSON object"),
    ):
        if found:
            raise DataError(
                f"{where}: {len(found)} metadata members (.json, .cls, .txt) {what} ({file_positions(found)}, counted "
                "among them): mend them, or take them out and pass a table with obs=."
            )
    frame = pd.DataFrame(rows, index=pd.RangeIndex(len(names)))
    if "image" in frame:
        frame = frame.rename(columns={"image": "image_said"})
    return _whole(frame)


def _key(name: str) -> str:
    folder, mark, last = name.rpartition("/")
    return folder + mark + last.split(".", 1)[0]


def _read(name: str, content: bytes) -> dict[str, Any]:
    text = content.decode("utf-8-sig")
    if not name.lower().endswith(".json"):
        kind = name.lower().rpartition(".")[2]
        return {kind: text.strip()}
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return {key: json.dumps(v) if isinstance(v, (dict, list)) else v for key, v in value.items()}


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    if (
        "cls" in frame
        and frame["cls"].notna().all()
        and frame["cls"].astype(str).str.fullmatch(r"0|-?[1-9]\d{0,17}").all()
    ):
        frame["cls"] = frame["cls"].astype("int64")
    return frame
