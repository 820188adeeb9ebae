"""One image: what is read, by which rule, and what is refused."""

import io
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from image_samples import RULES, chunk, pixels, png, png16, raw_png, saved
from PIL import Image, ImageFile

from causalfm.errors import DataError, ImageError
from causalfm.extraction.sources import open_images
from causalfm.extraction.sources.decoding import Decoding, UnreadableError, decode

RGB = pixels()
PICTURE = Image.fromarray(RGB)
HIGH = Decoding(sixteen_bit="high byte")


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def refused(content, match, rules=RULES):
    with pytest.raises(UnreadableError, match=match):
        decode(content, rules)


@pytest.mark.parametrize(
    "content",
    [
        png(),
        saved(PICTURE, "BMP"),
        saved(PICTURE, "TIFF"),
        saved(PICTURE, "TIFF", compression="tiff_lzw"),
        saved(PICTURE, "WEBP", lossless=True),
        tiff(RGB, photometric="rgb", byteorder=">"),
    ],
)
def test_lossless_formats_give_their_pixels_by_content(content):
    image = decode(content, RULES)
    np.testing.assert_array_equal(np.asarray(image), RGB)
    assert image.mode == "RGB"
    assert image.info == {}


def test_one_pixel_is_an_image():
    assert decode(saved(Image.new("RGB", (1, 1), (1, 2, 3))), RULES).getpixel((0, 0)) == (1, 2, 3)


def test_grey_binary_and_palette_are_the_colours_they_stand_for():
    grey = RGB[..., 0]
    np.testing.assert_array_equal(np.asarray(decode(saved(Image.fromarray(grey)), RULES)), np.dstack([grey] * 3))
    binary = Image.fromarray(grey > 127)
    expected = np.dstack([np.where(grey > 127, 255, 0)] * 3)
    np.testing.assert_array_equal(np.asarray(decode(saved(binary), RULES)), expected)
    np.testing.assert_array_equal(np.asarray(decode(saved(binary, "TIFF"), RULES)), expected)
    white_is_zero = tiff(grey, photometric="miniswhite")
    np.testing.assert_array_equal(np.asarray(decode(white_is_zero, RULES)), 255 - np.dstack([grey] * 3))
    palette = PICTURE.quantize(16)
    image = decode(saved(palette), RULES)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(palette.convert("RGB")))
    assert image.info == {"mode": "P"}


def test_transparent_pixels_show_white_and_opaque_alpha_changes_nothing():
    alpha = np.full(RGB.shape[:2], 255, dtype=np.uint8)
    opaque = decode(saved(Image.fromarray(np.dstack([RGB, alpha]))), RULES)
    np.testing.assert_array_equal(np.asarray(opaque), RGB)
    assert "alpha" not in opaque.info
    alpha[:5], alpha[5] = 0, 128
    image = decode(saved(Image.fromarray(np.dstack([RGB, alpha]))), RULES)
    expected = np.round(RGB + (255.0 - RGB) * (1 - alpha[..., None] / 255))
    np.testing.assert_allclose(np.asarray(image), expected, atol=1)
    assert (np.asarray(image)[:5] == 255).all()
    assert image.info == {"mode": "RGBA", "alpha": "onto white"}


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_transparency_of_other_modes_shows_white(mode):
    if mode == "LA":
        content = saved(Image.new("LA", (4, 4), (0, 0)))
    elif mode == "P":
        image = Image.new("P", (4, 4), 1)
        image.putpalette([9, 9, 9, 0, 0, 0])
        content = saved(image, transparency=b"\xff\x00")
    else:
        content = saved(Image.new(mode, (4, 4), 0), transparency=0 if mode == "L" else (0, 0, 0))
    assert (np.asarray(decode(content, RULES)) == 255).all()


def test_inverted_cmyk_of_a_jpeg_is_put_right():
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    content = saved(cyan, "JPEG", quality=100)
    assert b"Adobe" in content
    np.testing.assert_allclose(np.asarray(decode(content, RULES))[8, 8], (0, 255, 255), atol=3)
    np.testing.assert_array_equal(np.asarray(decode(saved(cyan, "TIFF"), RULES))[8, 8], (0, 255, 255))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied_once(kind, orientation):
    base = Image.new("RGB", (16, 8), (0, 0, 0))
    base.paste((255, 255, 255), (0, 0, 8, 4))  # white upper left corner
    exif = Image.Exif()
    exif[274] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    image = decode(saved(base, kind, exif=exif, **options), RULES)
    turns = {1: (), 2: (0,), 3: (3,), 4: (1,), 5: (5,), 6: (4,), 7: (6,), 8: (2,)}  # of Image.Transpose
    expected = base
    for turn in turns[orientation]:
        expected = expected.transpose(Image.Transpose(turn))
    assert image.size == expected.size
    np.testing.assert_allclose(np.asarray(image, dtype=int), np.asarray(expected), atol=4)
    if orientation > 1:
        assert image.info == {"orientation": orientation}


def test_a_colour_profile_is_not_applied_but_noted():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = decode(saved(PICTURE, icc_profile=profile), RULES)
    np.testing.assert_array_equal(np.asarray(image), RGB)
    assert image.info == {"icc_profile": True}


VALUES = np.array([[0, 255, 256], [257, 32768, 65535]], dtype=np.uint16)
COLOURS = np.dstack([VALUES, VALUES[::-1], VALUES])


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (png16(VALUES), VALUES),
        (png16(COLOURS), COLOURS),
        (tiff(VALUES, photometric="minisblack"), VALUES),
        (tiff(VALUES, photometric="minisblack", byteorder=">"), VALUES),
        (tiff(COLOURS, photometric="rgb"), COLOURS),
        (tiff(COLOURS, photometric="rgb", byteorder=">"), COLOURS),
        (tiff(COLOURS, photometric="rgb", compression="zlib"), COLOURS),
    ],
)
def test_sixteen_bits_are_refused_or_give_their_high_byte(content, values):
    refused(content, r"16 bits per channel.*sixteen_bit='high byte'")
    expected = (values // 256).astype(np.uint8)
    expected = expected if values.ndim == 3 else np.dstack([expected] * 3)
    image = decode(content, HIGH)
    np.testing.assert_array_equal(np.asarray(image), expected)
    assert image.info["sixteen_bit"] == "high byte"


@pytest.mark.parametrize(
    "content",
    [
        tiff(VALUES.astype(np.float32)),
        tiff(VALUES.astype(np.int16)),
        tiff(VALUES.astype(np.uint32)),
        tiff(VALUES, photometric="miniswhite"),
    ],
)
def test_values_without_one_reading_are_refused_under_either_rule(content):
    for rules in (RULES, HIGH):
        refused(content, "convert the images yourself", rules)


def test_sixteen_bits_in_memory_follow_the_same_rule():
    picture = Image.fromarray(VALUES)
    with pytest.raises(ImageError, match="16 bits"):
        open_images([picture]).read(0)
    image = open_images([picture], sixteen_bit="high byte").read(0)
    np.testing.assert_array_equal(np.asarray(image)[..., 1], VALUES >> 8)
    with pytest.raises(ImageError, match="mode F"):
        open_images([Image.new("F", (2, 2))]).read(0)


@pytest.mark.parametrize("sides", [(60_000, 60_000), (60_000, 1_119), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_before_decoding(sides):
    refused(raw_png(*sides, 8, 2, b"\0"), r"more than max_pixels=67108864|MAX_IMAGE_PIXELS|damaged")


def test_a_wide_image_within_the_limit_is_read():
    assert decode(saved(Image.new("L", (60_000, 2))), RULES).size == (60_000, 2)
    refused(
        saved(Image.new("L", (60_000, 2))), "60000 x 2 pixels, more than max_pixels=100000", Decoding("refuse", 10**5)
    )


def test_a_picture_that_unfolds_to_gigabytes_is_refused_in_little_memory():
    code = (
        "import resource, sys, zlib; sys.path.insert(0, 'tests')\n"
        "from image_samples import raw_png, RULES\n"
        "from causalfm.extraction.sources.decoding import decode, UnreadableError\n"
        "import PIL.PngImagePlugin, PIL.TiffImagePlugin\n"
        "bomb = raw_png(40_000, 40_000, 8, 2, bytes(10**6))\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode(bomb, RULES)\n"
        "except UnreadableError as error: print(error)\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used\n"
        "assert grown < 20_000, grown\n"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0, run.stderr
    assert "pixels" in run.stdout


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_truncated_files_are_refused(kind):
    content = saved(PICTURE, kind)
    for length in (1, 20, len(content) // 2, len(content) - 20):
        refused(content[:length], "truncated|damaged")
    refused(b"", "empty")


def test_every_flipped_bit_of_the_pixels_of_a_png_is_noticed():
    content = png()
    start, end = content.index(b"IDAT"), content.index(b"IEND") - 4
    for at in range(start + 4, end):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        refused(bytes(damaged), "checksum|damaged")


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n",
        saved(PICTURE, "GIF"),
        saved(PICTURE, "PPM"),
        saved(PICTURE, "PDF"),
        saved(PICTURE, "ICO"),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_other_formats_are_not_even_tried(content, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)
    refused(content, "no JPEG, PNG, TIFF, BMP, WEBP image|damaged|truncated")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind):
    other = Image.fromarray(RGB[::-1])
    refused(saved(PICTURE, kind, save_all=True, append_images=[other]), "several frames or pages")


def test_a_text_bomb_in_a_png_is_refused():
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
    content = png()
    refused(content[:33] + text + content[33:], "damaged")


def test_pillow_must_not_be_told_to_accept_cut_images(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    refused(png(), "LOAD_TRUNCATED_IMAGES")


def test_a_png_of_many_empty_chunks_is_refused():
    content = png()
    refused(content[:33] + 2**17 * chunk(b"aaAa", b"") + content[33:], "more than 131072 chunks")


def test_an_orientation_behind_the_pixels_counts():
    exif = Image.Exif()
    exif[274] = 6
    content = png()
    end = content.index(b"IEND") - 4
    late = content[:end] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + content[end:]
    assert decode(late, RULES).size == (10, 12)


@pytest.mark.parametrize("options", [{"sixteen_bit": "scale"}, {"max_pixels": 0}, {"max_bytes": -1}])
def test_bad_rules_are_refused(options):
    with pytest.raises(DataError, match=next(iter(options))):
        open_images([PICTURE], **options)
