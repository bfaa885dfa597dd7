"""How many sites a sample would see with fewer or with more reads, from its depth histogram.

Fewer: every call is kept with probability f, so a site of depth d keeps at least k calls with the
binomial's probability; summed over sites this is the exact expectation of thinning at random
(rarefaction: Hurlbert 1971, Ecology 52, 577-586). More: the depths of the seen sites are a
zero-truncated mixture of Poisson distributions, fitted by maximum likelihood without a form for
the mixture (Simar 1976, Annals of Statistics 4, 1200-1209; Norris & Pollock 1998, Environmental
and Ecological Statistics 5, 391-402); each rate is then multiplied. For sites seen at all this
estimates what Good & Toulmin (1956, Biometrika 43, 45-63) sum directly, n1 - n2 + n3 - ..., which
is stable up to twice the reads; nothing is said beyond.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.special import bdtrc, gammaln, pdtrc

from melisma.quality._walk import Floats, Integers

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 1.75, 2.0)
AT_LEAST = (1, 5, 10)
# Deeper sites keep 10 reads whatever is asked here, so the mixture need not tell them apart.
_WINDOW = 60
_RATES = np.geomspace(0.05, 90.0, 72)
_STEPS = 600
# Fewer seen sites than this are not extrapolated.
_FEWEST_SITES = 100
# A filter is taken for granted if the shallowest depth holds this many sites and this share.
_FEWEST_CUT, _SHARE_CUT = 10, 0.005


def thinned_sites(depth: Integers, fraction: float, at_least: int) -> Floats:
    """How many sites keep `at_least` reads when a share of the reads is kept, (samples,).

    depth : (samples, depths), how many sites are that deep

    >>> # Two sites of depth 2: each keeps a read of half with probability 1 - 1/4.
    >>> thinned_sites(np.array([[0, 0, 2]]), 0.5, 1).tolist()
    [1.5]
    """
    deep = np.arange(depth.shape[1])
    if fraction >= 1:
        keeps = (deep >= at_least).astype(np.float64)
    else:
        enough = np.maximum(deep, at_least)
        keeps = np.where(deep >= at_least, bdtrc(at_least - 1, enough, fraction), 0.0)
    return depth.astype(np.float64) @ keeps


def mixture_weights(depth: Integers) -> Floats:
    """How many seen sites have each of the rates, (samples, rates), by expectation-maximisation.

    depth : (samples, depths); depths over 60 are one class.
    """
    seen = np.zeros((len(depth), _WINDOW + 1))
    inside = depth[:, 1 : _WINDOW + 1]
    seen[:, : inside.shape[1]] = inside
    seen[:, _WINDOW] = depth[:, _WINDOW + 1 :].sum(1)
    deep = np.arange(1, _WINDOW + 1)
    chance = np.exp(deep[:, None] * np.log(_RATES) - _RATES - gammaln(deep + 1)[:, None])
    chance = np.vstack([chance, pdtrc(_WINDOW, _RATES)]) / -np.expm1(-_RATES)
    weights = np.full((len(depth), len(_RATES)), 1.0 / len(_RATES))
    total = np.maximum(seen.sum(1, keepdims=True), 1.0)
    for _ in range(_STEPS):
        expected = weights @ chance.T
        weights = weights * ((seen / np.maximum(expected, 1e-300)) @ chance) / total
    return weights * seen.sum(1, keepdims=True)


def extended_sites(depth: Integers, weights: Floats, fraction: float, at_least: int) -> Floats:
    """How many sites would have `at_least` reads with `fraction` (1 to 2) times the reads.

    What the mixture adds is added to what was counted, so the curve has no step at 1.
    """
    per_rate = weights / -np.expm1(-_RATES)
    gain = per_rate @ (pdtrc(at_least - 1, fraction * _RATES) - pdtrc(at_least - 1, _RATES))
    return thinned_sites(depth, 1.0, at_least) + np.maximum(gain, 0.0)


def saturation_table(depth: Integers, samples: Sequence[str]) -> pl.DataFrame:
    """Sites with at least 1, 5 and 10 reads at each share of the reads, a row a sample and share.

    Columns: sample, fraction (of the reads there are), kind ("thinned", "observed" or
    "extrapolated"), sites_1, sites_5, sites_10. Null where the calls were filtered by depth
    before they came here, which hides what more reads would have added.
    """
    seen = depth[:, 1:].sum(1)
    smallest = _filtered_below(depth)
    weights = mixture_weights(depth)
    parts = []
    for fraction in FRACTIONS:
        columns = {}
        for k in AT_LEAST:
            if fraction <= 1:
                sites = thinned_sites(depth, fraction, k)
                # A filter at depth F hides sites that could still have had k < F reads.
                told = (smallest <= k) | (fraction == 1)
            else:
                sites = extended_sites(depth, weights, fraction, k)
                told = (smallest == 1) & (seen >= _FEWEST_SITES)
            columns[f"sites_{k}"] = np.where(told, sites, np.nan)
        kind = "observed" if fraction == 1 else "thinned" if fraction < 1 else "extrapolated"
        parts.append(
            pl.DataFrame(
                {"sample": list(samples), "fraction": fraction, "kind": kind}
                | {name: np.round(values, 1) for name, values in columns.items()}
            ).with_columns(pl.selectors.starts_with("sites_").fill_nan(None))
        )
    order = {name: i for i, name in enumerate(samples)}
    return (
        pl.concat(parts)
        .sort(
            pl.col("sample").replace_strict(order, return_dtype=pl.Int64),
            "fraction",
            maintain_order=True,
        )
        .with_columns(pl.col("fraction").round(3))
    )


def _filtered_below(depth: Integers) -> Integers:
    """The depth under which a filter left nothing, (samples,); 1: there was no filter.

    Deep data have no shallow sites by nature, but then their shallowest sites are few.
    """
    shallowest = np.where(depth[:, 1:].any(1), (depth[:, 1:] > 0).argmax(1) + 1, 1)
    there = depth[np.arange(len(depth)), shallowest]
    cut = there >= np.maximum(_FEWEST_CUT, _SHARE_CUT * depth[:, 1:].sum(1))
    return np.where(cut, shallowest, 1)


def saturation_sentence(table: pl.DataFrame | None) -> str:
    """What doubling the reads would add, over the median sample."""
    if table is None:
        return ""
    now = table.filter(pl.col("fraction") == 1)
    twice = table.filter(pl.col("fraction") == 2)
    joined = now.join(twice, on="sample", suffix="_twice").drop_nulls()
    if joined.is_empty():
        return "What more reads would add cannot be told: the calls were filtered by depth, or few."
    gains = [
        (
            k,
            (joined[f"sites_{k}_twice"] - joined[f"sites_{k}"]).median(),
            joined[f"sites_{k}"].median(),
        )
        for k in (1, 10)
    ]
    said = [
        f"{added:,.0f} sites with {k} {'read' if k == 1 else 'reads'} or more to {base:,.0f}"
        for k, added, base in gains
        if isinstance(added, float) and isinstance(base, float)
    ]
    return f"Doubling the reads would add {' and '.join(said)} (median sample, extrapolated)."
