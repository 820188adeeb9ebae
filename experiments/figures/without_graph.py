"""What one computes of a hospital effect without a graph: classes ignored, or tiles taken for independent."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from causalfm.cohort import Cohort


def difference_of_means(cohort: Cohort) -> tuple[float, float, float]:
    """Difference of patients' means between the hospitals, classes ignored, with Welch's interval."""
    means = pd.Series(cohort.X[:, 0]).groupby(cohort.obs["patient"].to_numpy()).mean()
    site = cohort.obs.groupby("patient")["site"].first().loc[means.index]
    found = stats.ttest_ind(means[(site == "site1").to_numpy()], means[(site == "site0").to_numpy()], equal_var=False)
    low, high = found.confidence_interval(0.95)
    return float((low + high) / 2.0), float(low), float(high)


def regression_on_tiles(cohort: Cohort) -> tuple[float, float, float]:
    """Coefficient of the hospital in a regression on hospital and class, tiles taken for independent."""
    import statsmodels.api as sm

    D = np.column_stack(
        [np.ones(len(cohort)), *(cohort.obs[c] == v for c, v in (("site", "site1"), ("tumour", "class1")))]
    )
    found = sm.OLS(np.asarray(cohort.X[:, 0], float), D.astype(float)).fit()
    low, high = found.conf_int()[1]
    return float(found.params[1]), float(low), float(high)
