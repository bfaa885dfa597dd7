"""Wilson's interval for a share of reads."""

import numpy as np

from melisma.quality._walk import Floats

# The normal deviate of a two-sided 95% interval.
_Z = 1.959963984540054


def wilson(successes: Floats, trials: Floats) -> tuple[Floats, Floats]:
    """The 95% interval of a share (Wilson 1927, JASA 22, 209-212); NaN without trials.

    Parameters
    ----------
    successes, trials : (n,), counts

    Returns
    -------
    low, high : (n,), in [0, 1]

    >>> low, high = wilson(np.array([5.0]), np.array([1000.0]))
    >>> float(low[0].round(5)), float(high[0].round(5))
    (0.00214, 0.01165)
    """
    n = np.where(trials > 0, trials, np.nan)
    share = successes / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
