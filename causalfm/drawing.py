"""What every figure shares: ink, colours, text that is never mathematics, and the way to inline SVG.

Backgrounds are transparent and ink is one colour, which :func:`to_svg` turns into ``currentColor``: a figure follows
its page into dark mode. Hues are from Okabe and Ito's colour-blind-safe set, and never carry a meaning alone.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterable
from typing import Any

from causalfm.auditing.formatting import clean

INK = "#22262b"
BLUE = "#0072b2"
VERMILION = "#d55e00"
GREY = "#848b93"
SMALLEST = 0.7  # of the natural width: the text of a graph is then 9 CSS px high


def to_svg(ax: Any, *, label: str = "", description: str = "", ident: str = "") -> str:
    """Return the figure of ``ax`` as SVG to be put inline in a page.

    No prolog, no metadata, no date, nothing to fetch; the same figure gives the same text. Text stays text, in the
    font of the page; ink becomes ``currentColor``. Every id starts with a hash of the figure, so that several figures
    share a page. On a narrow page the figure shrinks to 0.7 of its size and no further: its text would be too small to
    read, and the page scrolls the figure instead.

    Parameters
    ----------
    ax
        Axes from one of the ``plot_*`` functions.
    label
        What the figure shows, for readers who do not see it: the SVG's title.
    description
        What there is to see, in words: the SVG's desc.
    ident
        Set it to tell two identical figures of one page apart.

    Returns
    -------
    str
        ``<svg ...>...</svg>``
    """
    from xml.etree import ElementTree

    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "causalfm", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the page's font draws it, not ours
        ax.figure.savefig(
            buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.04, metadata={"Date": None}
        )
    # Safe to parse: matplotlib wrote it a moment ago. The parser drops prolog, DOCTYPE and comments.
    root = ElementTree.fromstring(buffer.getvalue())
    prefix = "f" + hashlib.sha256((ident + "\0" + buffer.getvalue()).encode()).hexdigest()[:10] + "-"
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):  # matplotlib's style would restyle the whole page
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {k.rpartition("}")[2]: _rewrite(k, v, prefix) for k, v in element.attrib.items()}
    smallest = SMALLEST * float(root.attrib["width"].removesuffix("pt"))
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "role": "img"}
    root.set("style", f"stroke-linejoin:round;min-width:{smallest:.0f}pt")
    for place, (tag, aria, text) in enumerate((("title", "labelledby", label), ("desc", "describedby", description))):
        if text:
            element = ElementTree.Element(tag, {"id": prefix + tag})
            element.text = clean(text)
            root.insert(place, element)
            root.set(f"aria-{aria}", prefix + tag)
    return ElementTree.tostring(root, encoding="unicode")


def _rewrite(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return prefix + value
    if key.endswith("href") and value.startswith("#"):
        return "#" + prefix + value[1:]
    value = value.replace("url(#", f"url(#{prefix}")
    if key == "style":
        value = re.sub(r"(font: [^;']*?px) [^;]*", r"\1 system-ui, -apple-system, 'Segoe UI', sans-serif", value)
        value = value.replace(INK, "currentColor")
    return value


def new_axes(ax: Any, size: tuple[float, float]) -> Any:
    """Return ``ax``, or axes that fill a new figure of ``size`` inches; labels outside are kept by :func:`to_svg`."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=size).add_axes((0.0, 0.0, 1.0, 1.0))


def write(ax: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Write text that is never read as mathematics (a hospital may have a dollar sign in its name)."""
    ax.text(x, y, text, **{"color": INK, "fontsize": 9, "parse_math": False} | style)


def short(text: object, limit: int) -> str:
    """Return the text on one line, cut at ``limit`` characters; tables of the report hold it in full."""
    line = clean(text)
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def rgb(colour: str) -> tuple[float, float, float]:
    """Turn ``"#rrggbb"`` into numbers between 0 and 1."""
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


def limits(values: Iterable[float]) -> tuple[float, float]:
    """Limits with zero and everything in them; the whole of 0-1 for shares and scores, so that small looks small."""
    known = [0.0, *(value for value in values if math.isfinite(value))]
    low, high = min(known), max(known)
    if low >= 0 and 0.3 < high <= 1:
        high = 1.0
    pad = 0.04 * ((high - low) or 1.0)
    return low - pad, high + pad
