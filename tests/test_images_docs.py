"""docs/images.md against the code: every row of its table of answers is tried, its lists are the lists."""

from pathlib import Path

import numpy as np
import pytest
from image_samples import RULES, pixels, png, png16, raw_png, saved
from PIL import Image

from causalfm.extraction.sources.decoding import FORMATS, Decoding, UnreadableError, decode
from causalfm.extraction.sources.file_names import IMAGES, OTHER_IMAGES
from causalfm.extraction.sources.manifests import COLUMNS
from causalfm.extraction.sources.tiles import CHROMA

PAGE = (Path(__file__).parents[1] / "docs" / "images.md").read_text("utf-8")
PICTURE = Image.fromarray(pixels((32, 24)))
PROFILE = b"not a profile that anybody looks at"


def oriented():
    exif = Image.Exif()
    exif[274] = 6
    return saved(PICTURE, exif=exif)


def frames():
    return saved(PICTURE, save_all=True, append_images=[PICTURE.rotate(180)])


SAMPLES = {
    "JPEG, PNG, TIFF, BMP, WebP": [saved(PICTURE, kind) for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP")],
    "GIF, JPEG 2000, AVIF, SVG, EPS, PDF, DICOM": [
        *(saved(PICTURE, kind) for kind in ("GIF", "JPEG2000", "AVIF", "EPS", "PDF")),
        b"<svg/>",
        bytes(128) + b"DICM",
    ],
    "1 x 1 px": [saved(Image.new("RGB", (1, 1)))],
    "60,000 x 2 px": [saved(Image.new("RGB", (60_000, 2)))],
    "more than `max_pixels` (2**26)": [raw_png(2**13, 2**13 + 1, 8, 2, b"\0")],
    "truncated, damaged, empty": [png()[:-20], png()[:30], b"", png().replace(b"IDAT", b"IDAX")],
    "grey, 1-bit, palette": [saved(PICTURE.convert(mode)) for mode in ("L", "1", "P")],
    "CMYK": [saved(PICTURE.convert("CMYK"), kind) for kind in ("JPEG", "TIFF")],
    "RGBA, grey with alpha, palette with transparency": [
        *(saved(PICTURE.convert(mode)) for mode in ("RGBA", "LA")),
        saved(PICTURE.convert("P"), transparency=3),
    ],
    "16 bits per channel": [png16(np.full((4, 4), 999, np.uint16)), png16(np.full((4, 4, 3), 999, np.uint16))],
    "32 bits, floating, signed, white as zero in 16 bits": [
        saved(Image.fromarray(np.zeros((4, 4), kind)), "TIFF") for kind in (np.float32, np.int32)
    ],
    "EXIF orientation": [oriented()],
    "ICC colour profile": [saved(PICTURE, icc_profile=PROFILE)],
    "several frames or pages": [frames()],
}


def rows():
    table = PAGE.split("<!-- answers -->")[1].split("<!-- end -->")[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_row_has_a_sample():
    by_file = "more than `max_bytes` (2**28)"  # tests/test_images_archives.py: it needs a file, not bytes
    assert {row[0] for row in rows()} - {by_file} == set(SAMPLES)
    assert Decoding().max_bytes == 2**28
    assert Decoding().max_pixels == 2**26


@pytest.mark.parametrize(("image", "answer", "_"), rows())
def test_the_answer_is_the_one_of_the_page(image, answer, _):
    for content in SAMPLES.get(image, []):
        if answer == "read":
            assert decode(content, RULES).mode == "RGB"
        else:
            assert answer == "refused"
            with pytest.raises(UnreadableError):
                decode(content, RULES)


def test_lists_are_the_lists_of_the_code():
    assert f"end in {', '.join(IMAGES)}." in PAGE
    assert ", ".join(f"`{name}`" for name in COLUMNS) in PAGE
    assert f"differ by {CHROMA} grey levels" in " ".join(PAGE.split())
    assert not set(IMAGES) & set(OTHER_IMAGES)
    assert [kind.upper() for kind in rows()[0][0].split(", ")] == list(FORMATS)
