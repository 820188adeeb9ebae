"""Image files and archives of every kind, made in memory; hostile ones byte by byte."""

import io
import multiprocessing
import struct
import tarfile
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from causalfm.extraction.sources.decoding import Decoding

RULES = Decoding()


def pixels(size=(12, 10), seed=0):
    """Random RGB, (h, w, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed=0, size=(12, 10)):
    return saved(Image.fromarray(pixels(size, seed)))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width, height, depth, colour, rows, *more):
    """A PNG by hand: any depth, any claim about its size."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(chunk(kind, content) for kind, content in more)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def png16(values):
    """A 16-bit PNG of (h, w) grey or (h, w, 3) colour values."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return raw_png(width, height, 16, 0 if values.ndim == 2 else 2, rows)


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return path


def tarred(path, members, **options):
    """Members: name -> bytes, or name -> TarInfo for links and devices."""
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def folder_of(path: Path, files):
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def first_and_last(source):
    """For worker processes: the pixels of two images."""
    return [source.read(i).tobytes() for i in (0, len(source) - 1)]


def in_worker(source, method):
    """Read two images in another process, started by ``method``."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        return pool.submit(first_and_last, source).result(timeout=60)
