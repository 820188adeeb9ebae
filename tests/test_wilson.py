"""Wilson's interval by itself; whom it serves is tested where its number of observations is found."""

import numpy as np
import pytest
from scipy import stats

from causalfm.wilson import wilson_interval


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 7), (170, 200), (200, 200)])
def test_whole_numbers_give_what_scipy_gives(right, n):
    peer = stats.binomtest(right, n).proportion_ci(method="wilson")
    low, high = wilson_interval(right / n, n, stats.norm.ppf(0.975))
    assert (float(low), float(high)) == pytest.approx((peer.low, peer.high), abs=1e-12)


def test_many_at_once_and_within_0_and_1():
    shares, sizes = np.array([0.0, 0.3, 1.0]), np.array([4.5, 12.0, 30.0])
    low, high = wilson_interval(shares, sizes, 2.1)
    each = [wilson_interval(share, size, 2.1) for share, size in zip(shares, sizes, strict=True)]
    np.testing.assert_array_equal(np.stack([low, high]), np.array(each).T)
    assert (float(low[0]), float(high[2])) == pytest.approx((0.0, 1.0), abs=1e-15)
    assert ((low >= 0) & (low <= shares + 1e-15) & (shares - 1e-15 <= high) & (high <= 1)).all()
