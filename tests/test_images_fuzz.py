"""Damaged files of every kind: an image, or an error of the family, and nothing else; bombs within a fixed memory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_samples import RULES, pixels, png, saved, tarred, zipped
from PIL import Image

from causalfm.errors import CausalFMError
from causalfm.extraction.sources import open_images
from causalfm.extraction.sources.decoding import UnreadableError, decode

QUICK = settings(
    max_examples=60, deadline=5000, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
PICTURE = Image.fromarray(pixels((32, 24)))
KINDS = {
    "PNG": saved(PICTURE),
    "JPEG": saved(PICTURE, "JPEG"),
    "TIFF": saved(PICTURE, "TIFF", compression="tiff_lzw"),
    "BMP": saved(PICTURE, "BMP"),
    "WEBP": saved(PICTURE, "WEBP"),
}
DAMAGE = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4)
CUT = st.floats(0, 1)


def damaged(content, changes, cut):
    out = bytearray(content)
    for where, value in changes:
        out[int(where * len(out))] = value
    return bytes(out[: round(cut * len(out))]) if cut < 0.7 else bytes(out)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it then refuses
@pytest.mark.parametrize("kind", KINDS)
@QUICK
@given(changes=DAMAGE, cut=CUT)
def test_damaged_images_are_read_or_refused(kind, changes, cut):
    try:
        image = decode(damaged(KINDS[kind], changes, cut), RULES)
    except UnreadableError:
        return
    assert image.mode == "RGB"


@pytest.mark.filterwarnings("ignore")
@QUICK
@given(content=st.binary(max_size=400), head=st.sampled_from([b"", *(k[:20] for k in KINDS.values())]))
def test_arbitrary_bytes_are_read_or_refused(content, head):
    with pytest.raises(UnreadableError):
        decode(head + content, RULES)


def archive(kind, folder):
    members = {"a/0.png": png(0), "a/1.png": png(1), "a/1.json": b'{"v": 1}', "a/2.jpg": KINDS["JPEG"]}
    if kind == "h5":
        with h5py.File(folder / "a.h5", "w", libver="v110") as file:
            file.create_dataset("imgs", data=np.stack([pixels(seed=i) for i in range(4)]), chunks=(2, 10, 12, 3))
        return folder / "a.h5"
    if kind == "stored.zip":
        return zipped(folder / "a.zip", members, zipfile.ZIP_STORED)
    return (zipped if kind == "zip" else tarred)(folder / f"a.{kind}", members)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["zip", "stored.zip", "tar", "h5"])
@QUICK
@given(changes=DAMAGE, cut=CUT)
def test_damaged_archives_are_read_or_refused(kind, tmp_path_factory, changes, cut):
    folder = tmp_path_factory.mktemp("fuzz")
    path = archive(kind, folder)
    path.write_bytes(damaged(path.read_bytes(), changes, cut))
    try:
        source = open_images(path)
    except CausalFMError:
        return
    for i in range(len(source)):
        try:
            assert source.read(i).mode == "RGB"
        except CausalFMError:
            continue


BOMBS = """
import resource, sys, zipfile, tarfile, io, struct, zlib
from pathlib import Path
sys.path.insert(0, "tests")
from image_samples import *
from causalfm.errors import CausalFMError
from causalfm.extraction.sources import open_images
import PIL.Image, PIL.PngImagePlugin, PIL.TiffImagePlugin, PIL.WebPImagePlugin, PIL.JpegImagePlugin, PIL.BmpImagePlugin
folder = Path(sys.argv[1])
big = [raw_png(w, h, 8, 2, bytes(10**6)) for w, h in ((60_000, 60_000), (2**31 - 1, 1), (2**16, 2**16))]
big.append(saved(Image.new("RGB", (4, 4)), "BMP")[:18] + struct.pack("<ii", 10**6, 10**6) + bytes(100))
paths = [zipped(folder / "a.zip", {f"{i}.png": content for i, content in enumerate(big)})]
paths.append(zipped(folder / "b.zip", {"bomb.png": bytes(2**27)}))
lie = tarfile.TarInfo("a.png"); lie.size = 2**40
(folder / "c.tar").write_bytes(lie.tobuf() + bytes(1024)); paths.append(folder / "c.tar")
pax = tarfile.TarInfo("x"); pax.type = tarfile.XHDTYPE; pax.size = 2**33
(folder / "d.tar").write_bytes(pax.tobuf() + bytes(1024)); paths.append(folder / "d.tar")
limit = 2**20 * 350 + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
answers = 0
for path in paths:
    try:
        source = open_images(path)
    except CausalFMError as error:
        answers += 1; continue
    for i in range(len(source)):
        try:
            source.read(i); print("read", path, i)
        except CausalFMError as error:
            answers += 1
            assert "memory" not in str(error), error
print("answers", answers)
"""


def test_bombs_are_answered_in_little_memory(tmp_path):
    """350 MiB over what the interpreter has; the bombs ask for up to 1 TiB."""
    command = [sys.executable, "-W", "ignore", "-c", BOMBS, str(tmp_path)]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ, cwd=Path(__file__).parents[1]
    )
    assert run.stdout == "answers 7\n", run.stdout + run.stderr
