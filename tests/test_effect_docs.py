"""The page on effects runs as it is written."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "effects.md"


def test_the_code_of_the_page_runs_and_does_what_it_says() -> None:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    found = names["found"]
    assert len(found.to_frame()) == 3
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert 0 < found.share.value < found.biology_share.value < 1
    assert len(found.simultaneous(n_draws=99)) == 3 * 32
    assert np.isclose(found.directions()[0].sum(), 1.0)
