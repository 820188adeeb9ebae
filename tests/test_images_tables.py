"""Tables beside images: manifests that name the files, and tables that are joined by name."""

import numpy as np
import pandas as pd
import pytest
from image_samples import folder_of, pixels, png, zipped
from source_samples import FILES, SENTINEL, make, refused, table

from causalfm.extraction.sources import open_images


def test_a_manifest_keeps_its_order_and_its_columns(tmp_path):
    folder_of(tmp_path / "images", FILES)
    outside = folder_of(tmp_path / "other", {"x.png": png(9)}) / "x.png"
    frame = table(path=["images/b/1.png", str(outside), "images/a/0.png"], site=["A", "B", "A"])
    (tmp_path / "m.csv").write_text(frame.to_csv(index=False))
    frame.to_parquet(tmp_path / "m.parquet")
    for manifest, options in (
        (tmp_path / "m.csv", {}),
        (tmp_path / "m.parquet", {}),
        (frame.set_axis([5, 6, 7]), {"root": tmp_path}),
        (frame.rename(columns={"path": "p"}), {"root": tmp_path, "key": "p"}),
    ):
        source = open_images(manifest, **options)
        assert [source.read(i).tobytes() for i in range(3)] == [pixels(seed=s).tobytes() for s in (1, 9, 3)]
        assert source.obs["site"].tolist() == ["A", "B", "A"]
        assert "paths_outside" not in source.info
    up = open_images(table(path=["../other/x.png"]), root=tmp_path / "images")
    assert up.info["paths_outside"] == 1
    assert up.read(0).tobytes() == pixels(seed=9).tobytes()


def test_a_manifest_names_all_faulty_rows_at_once(tmp_path):
    folder_of(tmp_path, FILES)
    good = "a/0.png"
    for column, match in (
        ([good, f"{SENTINEL}.png", "a/1.png", f"{SENTINEL}2.png"], r"2 of 4 paths lead to no file \(rows 1, 3\)"),
        ([good, None], r"1 missing values of 2 \(row 1\)"),
        ([good, np.nan, ""], r"1 missing values"),
        ([good, "a/1.png", "./a/0.png"], r"2 files that another row names too \(rows 0, 2\)"),
        (["s3://bucket/a.png"], r"are not fetched"),
        (["a"], "lead to no file"),
    ):
        refused(table(path=column), match, root=tmp_path)
    refused(table(path=[good]), "say with root=")
    refused(table(path=[good], file=[good]), "2 columns that could hold paths", root=tmp_path)
    refused(table(site=[good]), "no columns that could hold paths", root=tmp_path)
    refused(table(site=[good]), "no column 'x'", root=tmp_path, key="x")
    refused(table(path=[]), "no rows", root=tmp_path)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("named", [str, lambda n: n.rpartition(".")[0]])
def test_a_table_is_joined_by_name_in_the_order_of_the_images(tmp_path, kind, named):
    frame = table(tile=[named(n) for n in FILES], site=list("AABBCC")).sample(frac=1, random_state=0)
    source = open_images(make(tmp_path, kind), obs=frame)
    by_name = dict(zip(FILES, "AABBCC", strict=True))
    assert source.obs["site"].tolist() == [by_name[n] for n in source.names]
    assert source.obs["image"].tolist() == list(source.names)
    indexed = open_images(make(tmp_path, kind), obs=frame.set_index("tile"))
    assert indexed.obs["site"].tolist() == source.obs["site"].tolist()
    assert indexed.obs.index.tolist() == [named(n) for n in source.names]


def test_a_table_may_name_the_last_part_of_the_path_where_that_is_unique(tmp_path):
    files = {f"{'ab'[i % 2]}/{i}.png": png(i) for i in range(4)}
    path = zipped(tmp_path / "a.zip", files)
    source = open_images(path, obs=table(file=[f"{i}.png" for i in range(4)], v=range(4)))
    assert source.obs["v"].tolist() == [0, 2, 1, 3]
    refused(make(tmp_path, "zip"), "have no|no column", obs=table(file=[f"{i}.png" for i in range(6)]))


def test_tables_that_do_not_fit_are_refused(tmp_path):
    path = make(tmp_path, "zip")
    names = list(FILES)
    refused(path, r"1 of 6 rows have no image \(row 5\); 1 of 6 images", obs=table(n=[*names[:5], SENTINEL]))
    refused(path, "2 rows name the image of another row", obs=table(n=[*names, names[0]]))
    refused(path, "no column of the table", obs=table(n=range(6)))
    refused(path, "in different ways", obs=table(n=names, m=names[::-1]))
    refused(path, "other values: image", obs=table(n=names, image=[*names[:5], "z"]))
    refused(np.zeros((2, 4, 4, 3), np.uint8), "2 images, which have no names", obs=table(a=[1]))


def test_real_tiles_of_three_scanners_find_their_rows(data_dir):
    metadata = pd.read_csv(data_dir / "amibr_midog21_patches.csv")
    source = open_images(
        sorted(data_dir.glob("amibr_midog21_patches_*.zip")), obs=metadata.sample(frac=1, random_state=1)
    )
    assert len(source) == 360
    assert [n.rpartition("/")[2] for n in source.names] == source.obs["file"].tolist()
    assert [n.partition("/")[0] for n in source.names] == source.obs["label"].tolist()  # the folders say it again
    scanners = source.obs["scanner"].iloc[[0, 120, 240]].tolist()
    assert scanners == ["Aperio CS2", "Hamamatsu S360", "Hamamatsu XR"]
    assert source.read(359).size == (128, 128)
    assert source.info["parts"] == 3
