"""Numba kernels of bootstrap intervals: a resample is a weight for every example."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def weighted_ranking(label, tied, weight):
    """Area under the ROC curve and average precision of weighted examples in falling order.

    Parameters
    ----------
    label : uint8 (n,), in falling order of the score
    tied : bool (n,), whether an example's score is that of the one before
    weight : float64 (n,)

    Returns
    -------
    (auc, average precision); NaN where one class has no weight
    """
    positives = 0.0
    negatives = 0.0
    for i in range(len(label)):
        if label[i]:
            positives += weight[i]
        else:
            negatives += weight[i]
    if positives <= 0.0 or negatives <= 0.0:
        return np.nan, np.nan
    above, below = 0.0, 0.0
    area, precision = 0.0, 0.0
    i = 0
    while i < len(label):
        here_positive, here_negative = 0.0, 0.0
        while True:
            if label[i]:
                here_positive += weight[i]
            else:
                here_negative += weight[i]
            i += 1
            if i >= len(label) or not tied[i]:
                break
        area += here_negative * (above + 0.5 * here_positive)
        above += here_positive
        below += here_negative
        if here_positive > 0.0:
            precision += here_positive * above / (above + below)
    return area / (positives * negatives), precision / positives


@njit(cache=True, nogil=True)
def weighted_correlation(x, y, weight):
    """Pearson correlation of weighted pairs; NaN where one does not vary."""
    total, mean_x, mean_y = 0.0, 0.0, 0.0
    for i in range(len(x)):
        total += weight[i]
        mean_x += weight[i] * x[i]
        mean_y += weight[i] * y[i]
    mean_x /= total
    mean_y /= total
    xx, yy, xy = 0.0, 0.0, 0.0
    for i in range(len(x)):
        a, b = x[i] - mean_x, y[i] - mean_y
        xx += weight[i] * a * a
        yy += weight[i] * b * b
        xy += weight[i] * a * b
    return xy / np.sqrt(xx * yy) if xx > 0.0 and yy > 0.0 else np.nan
