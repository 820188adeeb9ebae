"""Files of a Zenodo record, with the sizes and checksums that Zenodo gives."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from causalfm.datasets.fetching import RemoteFile
from causalfm.datasets.web_answers import read_text
from causalfm.errors import DataError

API = "https://zenodo.org/api"
_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}")


def record_files(record: int, names: Collection[str] | None = None, *, api: str = API) -> list[RemoteFile]:
    """Ask Zenodo for the files of a record.

    Parameters
    ----------
    record
        Its number: one version, which Zenodo does not change after publication.
    names
        Files wanted. None: all.
    api
        Address of the service.

    Returns
    -------
    list of RemoteFile
        Sorted by name, with the MD5 that Zenodo publishes.

    Raises
    ------
    DataError
        No answer, an answer of another form, a file that the record does not have or has no checksum.
    """
    try:
        listed = json.loads(read_text(f"{api}/records/{record}"))["files"]
        found = [RemoteFile(str(f["key"]), str(f["links"]["self"]), int(f["size"]), str(f["checksum"])) for f in listed]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"Zenodo answers for record {record} in a form that is not known: see the card.") from None
    if odd := [f.name for f in found if not _CHECKSUM.fullmatch(f.checksum or "")]:
        raise DataError(f"Zenodo gives no MD5 for {', '.join(odd)} of record {record}: nothing is fetched unchecked.")
    have = {f.name for f in found}
    if unknown := sorted(set(names or ()) - have):
        raise DataError(
            f"record {record} of Zenodo has no file {', '.join(unknown)}. Files: {', '.join(sorted(have))}."
        )
    return sorted((f for f in found if names is None or f.name in names), key=lambda f: f.name)
