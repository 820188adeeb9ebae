"""The page on effects runs as it is written."""

import numpy as np
from docs_blocks import run_page


def test_the_code_of_the_page_runs_and_does_what_it_says(tmp_path, monkeypatch) -> None:
    names = run_page("docs/effects.md", tmp_path, monkeypatch)
    found = names["found"]
    assert len(found.to_frame()) == 3
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert 0 < found.share.value < found.biology_share.value < 1
    assert len(found.simultaneous(n_draws=99)) == 3 * 32
    assert np.isclose(found.directions()[0].sum(), 1.0)
