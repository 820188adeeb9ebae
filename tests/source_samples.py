"""Six images as a folder, a zip and a tar, and the refusal of a source, which names no file."""

import pandas as pd
import pytest
from image_samples import folder_of, png, tarred, zipped

from causalfm.errors import DataError
from causalfm.extraction.sources import open_images

FILES = {f"{kind}/{i}.png": png(seed) for seed, (kind, i) in enumerate((k, i) for k in "ba" for i in range(3))}
SENTINEL = "PAT-4711"


def make(tmp_path, kind, files=FILES):
    if kind == "folder":
        return folder_of(tmp_path / "images", files)
    return (zipped if kind == "zip" else tarred)(tmp_path / f"images.{kind}", files)


def refused(images, match, error=DataError, **options):
    with pytest.raises(error, match=match) as caught:
        open_images(images, **options)
    assert SENTINEL not in str(caught.value)
    return str(caught.value)


def table(**columns):
    return pd.DataFrame(columns)
