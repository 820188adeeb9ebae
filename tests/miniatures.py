"""A few images of each public data set in the layout, names and file types of the real one; pixels are noise."""

import gzip
import io
import json

import numpy as np
import pandas as pd
from PIL import Image

from causalfm.datasets.chest_findings import FINDINGS


def pixels(seed, side=32):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded(seed, kind="PNG", side=32):
    out = io.BytesIO()
    Image.fromarray(pixels(seed, side)).save(out, kind)
    return out.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def patches_of_pathorob():
    """Slides and patches as the repository's metadata names them."""
    rows = []
    for centre, slides in {
        "RUMC": ("test_035", "normal_027"),
        "UMCU": ("patient_060_node_1", "patient_060_node_3"),
    }.items():
        for slide, label in zip(slides, ("normal", "tumor"), strict=True):
            rows += [("ID", slide, str(34317 + i), label, centre) for i in range(3)]
    return pd.DataFrame(rows, columns=["subset", "slide_id", "patch_id", "biological_class", "medical_center"])


def pathorob(folder, name="camelyon", table=None, groups=5):
    """``NAME/data/train-*.parquet`` of the hub, images as structs of bytes and path, in small row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = patches_of_pathorob() if table is None else table
    images = [{"bytes": encoded(i), "path": None} for i in range(len(table))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrow = pa.Table.from_pandas(table, preserve_index=False).append_column("image", pa.array(images, kind))
    (folder / name / "data").mkdir(parents=True)
    for i in range(2):
        rows = arrow.slice(i * len(table) // 2, len(table) // 2)
        pq.write_table(rows, folder / name / "data" / f"train-0000{i}-of-00002.parquet", row_group_size=groups)
    return folder


def camelyon17(folder, n=6):
    """``metadata.csv`` with its unnamed first column, and a PNG for each row."""
    lines = [",patient,node,x_coord,y_coord,tumor,slide,center,split"]
    for i in range(n):
        patient, centre = ("004", 0) if i < 2 else ("020", 1) if i < 4 else ("051", 2)
        lines.append(f"{i},{patient},4,{3328 + i},21792,{i % 2},{centre * 10},{centre},{i % 2}")
        stem = f"patient_{patient}_node_4"
        write(folder / "patches" / stem / f"patch_{stem}_x_{3328 + i}_y_21792.png", encoded(i))
    write(folder / "metadata.csv", "\n".join(lines) + "\n")
    return folder


def scorpion(folder, slides=2, samples=2):
    for slide in range(1, slides + 1):
        for sample in range(1, samples + 1):
            for i, scanner in enumerate(("AT2", "DP200", "GT450", "P1000", "Philips")):
                place = folder / "SCORPION_dataset" / f"slide_{slide}" / f"sample_{sample}" / f"{scanner}.jpg"
                write(place, encoded(i, "JPEG"))
    return folder


TILES = ("tile_16_3_40", "tile_16_20_7", "tile_16_3_41")
CONDITIONS = ("GMH_S60", "GMH_AT2", "GIV_S60")


def plism(folder, conditions=CONDITIONS, tiles=TILES):
    import h5py

    for c, condition in enumerate(conditions):
        with h5py.File(folder / f"{condition}_to_GMH_S60.tif.h5", "w") as file:
            for t, tile in enumerate(tiles):
                file[tile] = pixels(100 * c + t)
    return folder


def plism_features(folder, conditions=CONDITIONS, tiles=TILES, d=4):
    for c, condition in enumerate(conditions):
        rows = [[*map(int, tile.split("_")[1:]), *[10 * c + t] * d] for t, tile in enumerate(tiles)]
        place = folder / f"{condition}_to_GMH_S60.tif"
        place.mkdir(parents=True)
        np.save(place / "features.npy", np.asarray(rows, dtype=np.float32))
    return folder


def midogpp(folder, side=100):
    """Two regions, a table with semicolons and both spellings of one scanner, boxes as corners."""
    table = ["Slide;Dataset;Tumor;Scanner;Origin;Species"]
    rows = [
        (1, "train;human breast cancer;Hamammatsu XR;UMC Utrecht;Human"),
        (350, "test;human neuroendocrine tumor;Hamamatsu XR;UMC Utrecht;Human"),
    ]
    table += [f"{case};{rest}" for case, rest in rows]
    write(folder / "datasets_xvalidation.csv", "\n".join(table) + "\n")
    boxes = [(1, 1, [10, 20, 60, 70]), (1, 2, [60.5, 0, 110.5, 50]), (350, 1, [-20, 60, 30, 110])]
    database = {
        "licenses": [{"id": 1, "name": "CC0"}],
        "images": [
            {"license": 1, "file_name": f"{i:03d}.tiff", "id": i, "width": side, "height": side} for i, _ in rows
        ]
        + [{"license": 1, "file_name": "151.tiff", "id": 151, "width": side, "height": side}],
        "categories": [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "not mitotic figure"}],
        "annotations": [
            {"bbox": box, "category_id": category, "image_id": image, "labels": [2, 1, 1], "id": k}
            for k, (image, category, box) in enumerate(boxes, 1)
        ],
    }
    write(folder / "MIDOG++.json", json.dumps(database))
    for case, _ in rows:
        write(folder / f"{case:03d}.tiff", encoded(case, "TIFF", side))
    return folder


def tcga_ut(folder):
    slides = {
        "Lung_adenocarcinoma": ("TCGA-05-4244-01Z-00-DX1", "TCGA-44-2655-01Z-00-DX1"),
        "Lung_squamous_cell_carcinoma": ("TCGA-18-3406-01Z-00-DX1", "TCGA-33-4532-01Z-00-DX1"),
    }
    for cancer, names in slides.items():
        for k, slide in enumerate(names):
            for patch in ("0_0_521", "0_1_521"):
                write(folder / cancer / "0" / slide / f"{patch}.jpg", encoded(k, "JPEG"))
                write(folder / cancer / "1" / slide / f"{patch}.jpg", encoded(k, "JPEG"))
    return folder


def abide(folder, n=6, regions=5, layout="Outputs/cpac/nofilt_noglobal/rois_cc200"):
    rng = np.random.default_rng(0)
    lines = [",Unnamed: 0,SUB_ID,X,subject,SITE_ID,FILE_ID,DX_GROUP,DSM_IV_TR,AGE_AT_SCAN,SEX,func_mean_fd"]
    lines.append("0,1,50002,1,50002,PITT,no_filename,1,1,16.77,1,")
    for i in range(n):
        site = ("PITT", "NYU")[i % 2]
        name = f"{'Pitt' if site == 'PITT' else site}_{51000 + i:07d}"
        who = f"{i + 1},{i + 2},{51000 + i},{i},{51000 + i}"
        lines.append(f"{who},{site},{name},{1 + i // 3 % 2},1,{12 + i}.5,{1 + i % 2},0.{i}")
        series = rng.standard_normal((20, regions))
        body = "\t".join(f"#{j + 1}" for j in range(regions)) + "\n"
        body += "\n".join("\t".join(f"{v:.6f}" for v in row) for row in series)
        write(folder / layout / f"{name}_rois_cc200.1D", body + "\n")
    write(folder / "Phenotypic_V1_0b_preprocessed1.csv", "\n".join(lines) + "\n")
    return folder


def mimic_cxr(folder):
    head = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns"
    rows, labels = [f"{head},StudyDate,StudyTime"], [f"subject_id,study_id,{','.join(FINDINGS)}"]
    split = ["dicom_id,study_id,subject_id,split"]
    for i, view in enumerate(("PA", "AP", "LATERAL", "AP")):
        subject, study, image = 10000032 + i, 50414267 + i, f"02aa804e-bde0afdd-{i}"
        rows.append(f"{image},{subject},{study},CHEST (PA AND LAT),{view},3056,2544,21800506,213014.531")
        write(folder / "files" / "p10" / f"p{subject}" / f"s{study}" / f"{image}.jpg", encoded(i, "JPEG"))
        split.append(f"{image},{study},{subject},train")
        if i < 3:
            values = ["1.0", "0.0", "-1.0", *[""] * (len(FINDINGS) - 3)]
            labels.append(f"{subject},{study},{','.join(values)}")
    for name, lines in (("metadata", rows), ("chexpert", labels), ("split", split)):
        write(folder / f"mimic-cxr-2.0.0-{name}.csv.gz", gzip.compress(("\n".join(lines) + "\n").encode()))
    return folder


def chexpert(folder):
    order = ["No Finding", *[f for f in FINDINGS if f != "No Finding"]]
    lines = [f"Path,Sex,Age,Frontal/Lateral,AP/PA,{','.join(order)}"]
    for i, (name, side, view) in enumerate((("view1_frontal", "Frontal", "AP"), ("view2_lateral", "Lateral", ""))):
        place = f"train/patient0000{i + 1}/study1/{name}.jpg"
        values = ["1.0", *[""] * 12, "-1.0"]
        lines.append(f"CheXpert-v1.0-small/{place},Female,68,{side},{view},{','.join(values)}")
        write(folder / place, encoded(i, "JPEG"))
    write(folder / "train.csv", "\n".join(lines) + "\n")
    return folder
