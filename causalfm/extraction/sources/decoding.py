"""From the bytes of one file to 8-bit RGB: by content, from a short list of formats, with a limit before any pixel.

Nothing is guessed: what has more than one reading (16 bits, several frames) is refused or read by a stated rule.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# Pillow tries these and no others: some of its plugins start programs (EPS) or follow references
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N", "I")
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT, ORIENTATION = 258, 262, 339, 274
WHITE = (255, 255, 255, 255)
PNG, MAX_CHUNKS = b"\x89PNG\r\n\x1a\n", 2**17  # chunks of 8 KiB are usual


class UnreadableError(Exception):
    """One image cannot be read; the text is the cause, without names."""


@dataclass(frozen=True)
class Decoding:
    """How pixels are read.

    Attributes
    ----------
    sixteen_bit
        ``"refuse"``, or ``"high byte"``: value // 256, the same for grey and colour.
    max_pixels
        Width times height, looked at before any pixel is decoded.
    max_bytes
        Of one file or archive member, counted while it is read.
    """

    sixteen_bit: str = "refuse"
    max_pixels: int = 2**26
    max_bytes: int = 2**28

    def __post_init__(self) -> None:
        if self.sixteen_bit not in ("refuse", "high byte"):
            raise DataError(f"sixteen_bit={self.sixteen_bit!r}: choose 'refuse' or 'high byte'.")
        if self.max_pixels < 1 or self.max_bytes < 1:
            raise DataError(f"max_pixels={self.max_pixels}, max_bytes={self.max_bytes}: both are at least 1.")

    def record(self) -> dict[str, Any]:
        """Return the rules for provenance."""
        return asdict(self)


def decode(content: bytes, rules: Decoding) -> Image.Image:
    """Decode one image.

    Parameters
    ----------
    content
        The bytes of the file.
    rules
        Limits and the rule for 16 bits.

    Returns
    -------
    PIL.Image.Image
        RGB, 8 bits. ``info`` holds what was changed on the way: ``mode`` (not RGB before), ``icc_profile`` (True:
        one was there and not applied), ``orientation`` (EXIF, applied), ``alpha`` (onto white).

    Raises
    ------
    UnreadableError
        With the cause.
    """
    from PIL import Image, ImageFile, UnidentifiedImageError

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UnreadableError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True, so that cut images would pass as grey: set it to False"
        )
    if not content:
        raise UnreadableError("the file is empty (0 bytes)")
    try:
        if content.startswith(PNG):
            _check_png(content)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse_size(image, rules)
            _refuse_frames(image)
            if image.format == "PNG":
                image.load()  # what stands behind the pixels, the orientation perhaps
            return to_rgb(image, rules, deep=_depth(image, content) > 8, own=True)
    except UnreadableError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableError("it has more pixels than Pillow's own limit, PIL.Image.MAX_IMAGE_PIXELS") from None
    except UnidentifiedImageError:
        raise UnreadableError(f"it is no {', '.join(FORMATS)} image, or its header is damaged") from None
    except MemoryError:
        raise UnreadableError("there is not enough memory for its pixels") from None
    except Exception as error:  # struct, zlib, libtiff and Pillow share no base class
        word = "truncated" if "truncated" in str(error).lower() else "damaged or truncated"
        raise UnreadableError(f"it is {word} ({type(error).__name__})") from None


def to_rgb(image: Image.Image, rules: Decoding, *, deep: bool = False, own: bool = False) -> Image.Image:
    """Turn a Pillow image of any mode into 8-bit RGB, by the rules of :func:`decode`.

    Parameters
    ----------
    image
        Opened, perhaps not loaded.
    rules
        Limits and the rule for 16 bits.
    deep
        The file has more than 8 bits per channel, whatever the mode says: Pillow cuts colour in silence.
    own
        Nobody else holds the image: RGB is returned as it is, not copied.

    Raises
    ------
    UnreadableError
        A mode without one reading as RGB, 16 bits under ``"refuse"``, too many pixels.
    """
    _refuse_size(image, rules)
    notes: dict[Any, Any] = {} if image.mode == "RGB" else {"mode": image.mode}
    if "icc_profile" in image.info:
        notes["icc_profile"] = True
    deep = deep or image.mode in SIXTEEN
    if deep:
        image = _sixteen(image, rules)
        notes["sixteen_bit"] = rules.sixteen_bit
    if image.mode not in ALPHA + OPAQUE:
        raise UnreadableError(f"mode {image.mode} has no one reading as 8-bit RGB: convert the images yourself")
    image, turned = _upright(image)
    if turned:
        notes["orientation"] = turned
    if image.mode in ALPHA or "transparency" in image.info:
        image, seen = _onto_white(image)
        if seen:
            notes["alpha"] = "onto white"
    if image.mode != "RGB":
        out = image.convert("RGB")
    elif own:
        out = image
        out.load()
    else:
        out = image.copy()
    out.info = notes
    return out


def _refuse_size(image: Image.Image, rules: Decoding) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableError(f"it has no pixels ({width} x {height})")
    if width * height > rules.max_pixels:
        raise UnreadableError(
            f"it has {width} x {height} pixels, more than max_pixels={rules.max_pixels}: cut it into tiles (whole "
            "slides: tiles=), or raise max_pixels"
        )


def _refuse_frames(image: Image.Image) -> None:
    try:
        image.seek(1)
    except EOFError:
        return
    raise UnreadableError("it has several frames or pages, and which one is meant is not known: save one per file")


def _check_png(content: bytes) -> None:
    """Compare the checksums that Pillow leaves out when it has all rows."""
    at = len(PNG)
    for _ in range(MAX_CHUNKS):
        kind = content[at + 4 : at + 8]
        if kind == b"IEND":
            return
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            raise UnreadableError("it is truncated (the PNG has no end)")
        critical = not kind[0] & 0x20
        if (critical or kind == b"tRNS") and zlib.crc32(content[at + 4 : end]) != int.from_bytes(
            content[end : end + 4]
        ):
            raise UnreadableError("it is damaged (a checksum of the PNG is wrong)")
        at = end + 4
    raise UnreadableError(f"the PNG has more than {MAX_CHUNKS} chunks")


def _depth(image: Image.Image, content: bytes) -> int:
    """Return the bits per channel that the file stores; Pillow shows them for grey images only."""
    if image.format == "PNG":
        return content[24]
    if image.format != "TIFF":
        return 8
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    depth = max(tags.get(BITS_PER_SAMPLE, (1,)))
    if depth > 8 and (depth != 16 or set(tags.get(SAMPLE_FORMAT, (1,))) != {1} or tags.get(PHOTOMETRIC, 1) == 0):
        raise UnreadableError(
            f"{depth} bits per channel, signed, floating or with white as zero, have no one reading as 8 bits: "
            "convert the images yourself"
        )
    return int(depth)


def _sixteen(image: Image.Image, rules: Decoding) -> Image.Image:
    from PIL import Image

    if rules.sixteen_bit == "refuse":
        raise UnreadableError(
            "it has 16 bits per channel, which no encoder reads: sixteen_bit='high byte' takes value // 256; where "
            "the values do not fill the 16 bits (CT, 12-bit cameras), choose a window and convert the images yourself"
        )
    if image.mode not in SIXTEEN:  # colour: Pillow has kept the high byte
        return image
    if "transparency" in image.info:
        raise UnreadableError("16-bit grey with a transparent value has no one reading as 8 bits")
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableError("its values do not fit into 16 bits: convert the images yourself")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """Turn an image as its EXIF orientation says, as every viewer does."""
    from PIL import ImageOps

    if "exif" not in image.info and not hasattr(image, "tag_v2"):
        return image, 0
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation not in range(2, 9):
        return image, 0
    return ImageOps.exif_transpose(image), int(orientation)


def _onto_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """Put an image with transparent pixels onto white; where every pixel is opaque nothing changes."""
    from PIL import Image

    layered = image.convert("RGBA")
    if layered.getchannel("A").getextrema() == (255, 255):
        return layered, False
    return Image.alpha_composite(Image.new("RGBA", layered.size, WHITE), layered), True
