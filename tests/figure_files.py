"""What the files of a figure of the paper must be, whatever it shows."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from PIL import Image

FILES = {"result.json", "table.csv", "table.tex", "figure.pdf", "figure.svg", "figure.png"}
WIDTHS = (3.50, 7.20)  # inches, one and two columns of a journal
SMALLEST = 5.0  # points of type that a journal prints


def check_files(folder: Path) -> dict:
    """Hold every file of a figure to its format, and return ``result.json``."""
    assert {path.name for path in folder.iterdir()} == FILES
    about = json.loads((folder / "result.json").read_text("utf-8"), parse_constant=refuse)
    assert about["figure"] == folder.name
    assert about["holds"] == all(check["holds"] for check in about["checks"])
    assert len(about["checks"]) >= 2
    assert len(about["claim"].split()) > 8
    assert about["numbers"]["source"]
    assert about["numbers"]["sizes"]
    assert {"commit", "code", "date", "python", "versions"} <= set(about["environment"])
    assert about["environment"]["versions"]["numpy"]
    table = pd.read_csv(folder / "table.csv")
    assert len(table)
    check_tex((folder / "table.tex").read_text("utf-8"), len(table))
    check_picture(folder)
    return about


def refuse(value: str) -> None:
    raise AssertionError(f"{value} in result.json")


def check_tex(text: str, rows: int) -> None:
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == rows + 1
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    cells = len(re.findall(r"(?<!\\)&", lines[0]))
    assert all(len(re.findall(r"(?<!\\)&", line)) == cells for line in lines)
    assert not re.search(r"(?<!\\)[%#$_]", "".join(lines))


def check_picture(folder: Path) -> None:
    pdf = (folder / "figure.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    start = int(re.search(rb"startxref\s+(\d+)\s+%%EOF\s*$", pdf).group(1))
    assert pdf[start:].startswith(b"xref")
    assert b"/CreationDate" not in pdf
    assert b"/Type3" not in pdf.replace(b" ", b"")
    svg = (folder / "figure.svg").read_text("utf-8")
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("}svg")
    assert not root.findall(".//{http://purl.org/dc/elements/1.1/}date")
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: [^;\"]*?([\d.]+)px", svg)]
    assert sizes
    assert min(sizes) >= SMALLEST
    width, height = (float(root.attrib[side].removesuffix("pt")) / 72.0 for side in ("width", "height"))
    assert min(abs(width - known) for known in WIDTHS) < 0.01
    assert height < 9.0
    with Image.open(folder / "figure.png") as png:
        png.load()
        assert abs(png.width - 300 * width) <= 2
    if shutil.which("pdfinfo"):
        said = subprocess.run(["pdfinfo", folder / "figure.pdf"], capture_output=True, text=True, check=True).stdout
        assert re.search(r"Pages:\s+1\n", said)


def check_text(drawn) -> None:
    """Hold every word of a drawn figure to the page: none cut off, none on another, on a mark or on a line."""
    drawn.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in words_of(drawn)]
    page = drawn.bbox
    for words, box in boxes:
        assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, f"{words!r} is cut off"
        assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, f"{words!r} is cut off"
    for (words, a), (others, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), f"{words!r} lies on {others!r}"
    bare = [(text.get_text(), text.get_window_extent()) for text in words_of(drawn) if text.get_bbox_patch() is None]
    for ax in drawn.axes:
        for line in ax.lines:
            at = line.get_transform().transform_path(line.get_path())
            marked = at.vertices if line.get_marker() not in ("", " ", "None", None) else []
            for words, box in bare:
                assert line.get_linestyle() == "None" or not at.intersects_bbox(box, filled=False), (
                    f"a line on {words!r}"
                )
                assert not any(box.contains(*point) for point in marked), f"a mark on {words!r}"


def words_of(drawn) -> list:
    """Return the text that is drawn: matplotlib keeps ticks beyond the limits of an axis, and draws none of them."""
    from matplotlib.axis import Tick
    from matplotlib.text import Text

    ticks = {id(label) for tick in drawn.findobj(Tick) for label in (tick.label1, tick.label2)}
    found = [text for text in drawn.findobj(Text) if id(text) not in ticks]
    for ax in drawn.axes:
        for axis, limits, at in ((ax.xaxis, ax.get_xlim(), 0), (ax.yaxis, ax.get_ylim(), 1)):
            labels = axis.get_ticklabels()
            found += [one for one in labels if min(limits) <= one.get_position()[at] <= max(limits)]
    return [text for text in found if text.get_visible() and text.get_text().strip()]
