"""Damaged files: a DataError or the right data; never another exception, a hang, or rows that are silently gone.

Profile without a random seed: every run tries the same damage. What each format can notice is in docs/formats.md.
"""

import random
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.io import read, write
from causalfm.tables import read_table


def steady(examples):
    checks = list(HealthCheck)
    return settings(derandomize=True, deadline=None, database=None, suppress_health_check=checks, max_examples=examples)


N, D = 40, 6
SUMMED = {"npz", "parquet", "zarr", "eva"}  # their checksums cover the embeddings: no flip goes unseen
COHORT = Cohort(
    np.random.default_rng(0).normal(size=(N, D)).astype("float32"),
    pd.DataFrame(
        {
            "site": list("aabb") * 10,
            "stage": pd.Categorical(list("hl") * 20),
            "age": np.arange(N) * 1.5,
            "count": pd.array([1, None] * 20, dtype="Int64"),
        },
        index=[f"p{i}" for i in range(N)],
    ),
)


def write_slides(folder, **layout):
    folder.mkdir()
    for i, rows in enumerate((slice(0, 25), slice(25, N))):
        X = COHORT.X[rows]
        with h5py.File(folder / f"{i}.h5", "w") as file:
            file.create_dataset("features", data=X, **layout).attrs["encoder"] = "uni"
            file.create_dataset("coords", data=np.arange(2 * len(X)).reshape(-1, 2)).attrs["patch_size"] = 256
    return folder


def write_eva(folder):
    folder.mkdir()
    for i in range(4):
        torch.save(list(torch.tensor(COHORT.X[10 * i : 10 * i + 10])), folder / f"{i}.pt")
    rows = {"origin": [f"{i}.png" for i in range(4)], "embeddings": [f"{i}.pt" for i in range(4)], "target": 0}
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


MAKERS = {
    "npz": lambda folder: write(COHORT, folder / "c.npz"),
    "npy": lambda folder: write(COHORT, folder / "c.npy"),
    "parquet": lambda folder: write(COHORT, folder / "c.parquet"),
    "h5ad": lambda folder: write(COHORT, folder / "c.h5ad"),
    "zarr": lambda folder: write(COHORT, folder / "c.zarr"),
    "slides": lambda folder: write_slides(folder / "f"),
    "chunked slides": lambda folder: write_slides(folder / "f", chunks=(1, D), maxshape=(None, D)),
    "eva": lambda folder: write_eva(folder / "f"),
}


@pytest.fixture(scope="module")
def made():
    """Each format once: its path, its files, what it reads as."""
    with tempfile.TemporaryDirectory() as name:
        out = {}
        for fmt, maker in MAKERS.items():
            folder = Path(name) / fmt
            folder.mkdir()
            path = maker(folder)
            files = [p for p in sorted(path.rglob("*") if path.is_dir() else [path]) if p.is_file()]
            back = read(path)
            files = [p for p in files if p.suffix != ".csv"]
            out[fmt] = (path, files, np.array(back.X), back.obs)
        yield out


spots = st.integers(0, 2**32 - 1).map(lambda seed: random.Random(seed).random())  # spread; floats() crowd at the ends
flips = st.lists(st.tuples(spots, st.integers(0, 7)), min_size=1, max_size=3, unique=True)


def damaged(content, damage):
    if isinstance(damage, float):
        return content[: int(damage * len(content))]
    out = bytearray(content)
    for place, bit in damage:
        out[int(place * len(out))] ^= 1 << bit
    return bytes(out)


@pytest.mark.parametrize("fmt", MAKERS)
@steady(80)
@given(which=spots, damage=spots | flips)
def test_damage_is_noticed_or_harmless(made, fmt, which, damage):
    path, files, X, obs = made[fmt]
    file = files[int(which * len(files))]
    content = file.read_bytes()
    copy = file.with_name(file.name + ".kept")
    shutil.move(file, copy)  # a new file for every try: the last one may still be mapped
    try:
        file.write_bytes(damaged(content, damage))
        back = read(path)
    except DataError:
        return
    finally:
        shutil.move(copy, file)
    assert back.X.shape == X.shape
    assert back.X.dtype == X.dtype
    assert len(back.obs) == N
    if fmt in SUMMED or isinstance(damage, float):
        np.testing.assert_array_equal(back.X, X)
    if isinstance(damage, float) or fmt in ("npz", "zarr"):
        pd.testing.assert_frame_equal(back.obs, obs)
    if fmt == "npy":
        assert (back.X != X).sum() <= len(damage)


@steady(50)
@given(damage=spots | flips)
def test_a_damaged_csv_keeps_its_rows(damage):
    with tempfile.TemporaryDirectory() as name:
        content = COHORT.obs.to_csv(index_label="id").encode()
        (Path(name) / "t.csv").write_bytes(damaged(content, damage))
        np.save(Path(name) / "x.npy", COHORT.X)
        try:
            back = read(Path(name) / "x.npy", Path(name) / "t.csv")
        except DataError:
            return
        assert len(back.obs) == N
        assert len(back.obs.columns) == 5


def test_a_broken_text_heap_does_not_hang(tmp_path):
    # HDF5 2.0.0 never comes back from these bits; they sit in the sizes of the heap that holds the encoder's name.
    path = write_slides(tmp_path / "f") / "0.h5"
    content = path.read_bytes()
    heap = content.find(b"GCOL")
    for place, bit in ((heap + 24, 7), (heap + 25, 1), (heap + 25, 3), (heap + 49, 2)):
        path.write_bytes(damaged(content, [((place + 0.5) / len(content), bit)]))
        with pytest.raises(DataError, match=r"slide file 0 of 2 cannot be read \(ValueError\)"):
            read(tmp_path / "f")


@pytest.mark.parametrize("fmt", ["npy", "npz"])
def test_a_header_that_asks_for_less(made, fmt, tmp_path):
    path, _, _, obs = made[fmt]
    content = path.read_bytes()
    assert content.count(b"(40, 6)") == 1
    (tmp_path / path.name).write_bytes(content.replace(b"(40, 6)", b"(40, 4)"))  # one bit
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / path.name, obs)


names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
    st.sampled_from(
        [
            "NA",
            "null",
            "nan",
            "",
            " a",
            "a ",
            "a,b",
            'say "x"',
            "two\nlines",
            "a\r\nb",
            "שלום",
            "🔬",
            "007",
            "7",
            "1e5",
            "1.1",
            "1.10",
            "10E4",
            "7.0",
        ]
    ),
)


@pytest.mark.parametrize("fmt", ["npz", "parquet", "h5ad", "zarr"])
@steady(8)
@given(levels=st.lists(names, min_size=3, max_size=3), ids=st.lists(names, min_size=3, max_size=3, unique=True))
def test_text_comes_back_as_it_was(fmt, levels, ids):
    cohort = Cohort(np.eye(3), pd.DataFrame({"site": pd.Series(levels, dtype=object).to_numpy()}, index=ids))
    with tempfile.TemporaryDirectory() as name:
        back = read(write(cohort, Path(name) / f"c.{fmt}"))
    assert back.obs["site"].tolist() == levels
    assert back.obs.index.tolist() == ids


MISSING = {"", "NA", "null", "nan"}


@steady(50)
@given(levels=st.lists(names, min_size=3, max_size=3))
def test_text_in_a_csv_comes_back_or_is_missing(levels):
    missing = set(pd.io.common.STR_NA_VALUES) if hasattr(pd.io.common, "STR_NA_VALUES") else MISSING
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "t.csv"
        pd.DataFrame({"row": [0, 1, 2], "site": levels}).to_csv(path, index=False)
        site = read_table(path)["site"]
    for given_text, value in zip(levels, site, strict=True):
        if pd.isna(value):
            assert given_text in missing | MISSING
        elif isinstance(value, str):
            assert value == given_text
        else:  # every field is a number: the same number
            assert float(value) == float(given_text)
    there = [text for text, value in zip(levels, site, strict=True) if not pd.isna(value)]
    assert site.nunique() == len(set(there))  # no two ids became one
