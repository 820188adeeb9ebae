"""The README's picture: the first screen of a report, at 1,060 px, in light colours.

``python -m experiments.report_picture demo-report/report.html docs/images/report.png``
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

WIDTH, LONGEST = 1060, 1400  # CSS pixels


def main() -> None:
    """Photograph a report down to the end of its causal graph, or to the longest that is still one screen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("chromium not found: apt-get install chromium")
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium).new_page(viewport={"width": WIDTH, "height": 900})
        page.goto(args.report.resolve().as_uri())
        end = page.locator("#units").evaluate("heading => heading.getBoundingClientRect().top")
        area = {"x": 0, "y": 0, "width": WIDTH, "height": min(int(end), LONGEST)}
        page.screenshot(path=args.picture, clip=area, full_page=True)
    picture = Image.open(args.picture).convert("RGB")
    picture.quantize(256, method=Image.Quantize.FASTOCTREE).save(args.picture, optimize=True)


if __name__ == "__main__":
    main()
