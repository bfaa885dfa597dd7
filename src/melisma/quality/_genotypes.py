"""How likely a site's reads are if it behaves like a genotype, and if it does not.

A CpG that a C>T or G>A variant takes away reads as 0, 1/2 or 1 in people with no, one or two
intact copies (if the intact CpG is methylated). So a site's reads get two kinds of likelihood:

- genotype-like, at each allele frequency: every sample is one of three classes, beta-binomial
  around 0.03, 0.5 and 0.95 with a share of strays, mixed in Hardy-Weinberg proportions;
- ordinary, on a grid of mean and overdispersion that reaches from tight to U-shaped, so that
  "methylated in some cells and not in others" is ordinary too: one beta-binomial.

Candidates are sites that show all three classes, which is something both kinds can do by chance.
Every likelihood is therefore divided by its own probability of showing them.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln

from melisma.quality._walk import Floats, Integers

# Deeper cells are scaled down to this many reads: mapping, not sampling, limits them.
MOST_READS = 64
# A cell with fewer reads is not looked at when sites are chosen.
FEWEST_READS = 4
# Levels that count as showing no, one and two intact copies.
CLASS_LIMITS = ((0.0, 0.2), (0.3, 0.7), (0.8, 1.0))
# Mean level and overdispersion of the classes; in the lupus set .02/.08, .52/.00, .94/.03.
CLASSES = ((0.03, 0.05), (0.5, 0.03), (0.95, 0.05))
# Share of cells that follow no class: wrong mapping, other variants.
STRAYS = 0.02
# Rarer alleles seldom show all three genotypes; at .05 the strays would have to make them up.
FREQUENCIES = np.linspace(0.15, 0.85, 8)
_MEANS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
_DISPERSIONS = (0.01, 0.03, 0.1, 0.2, 0.35, 0.6)
_WIDTH = MOST_READS + 1


def log_sum(logs: Floats) -> Floats:
    """Log of the sum of exponentials along the last axis, without overflow.

    >>> log_sum(np.log([[0.25, 0.5]])).round(6).tolist() == np.log([0.75]).round(6).tolist()
    True
    """
    top = logs.max(-1, keepdims=True)
    return np.log(np.exp(logs - top).sum(-1)) + top[..., 0]


def hardy_weinberg(frequency: npt.ArrayLike) -> Floats:
    """Shares of people with 0, 1 and 2 copies of an allele of this frequency, (..., 3).

    >>> hardy_weinberg(0.5).tolist()
    [0.25, 0.5, 0.25]
    """
    q = np.asarray(frequency, dtype=float)
    return np.stack([(1 - q) ** 2, 2 * q * (1 - q), q**2], axis=-1)


def transmission(frequency: Floats) -> Floats:
    """Probability of a child's copies given a parent's, (sites, 3, 3).

    >>> transmission(np.array([0.5])).tolist()
    [[[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]]
    """
    q = np.asarray(frequency)
    p, none, half = 1 - q, np.zeros_like(q), np.full_like(q, 0.5)
    rows = [[p, q, none], [p / 2, half, q / 2], [none, p, q]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def read_cells(methylated: Integers, coverage: Integers) -> Integers:
    """The index of each cell's (N, M) in the tables, reads scaled down to 64 at most.

    >>> read_cells(np.array([3, 50]), np.array([7, 100])).tolist() == [7 * 65 + 3, 64 * 65 + 32]
    True
    """
    n = np.minimum(coverage, MOST_READS).astype(np.int64)
    m = np.rint(methylated * (n / np.maximum(coverage, 1))).astype(np.int64)
    return n * _WIDTH + m


def beta_binomial(mean: float, dispersion: float) -> Floats:
    """Log probability of every (N, M) up to 64 reads, (cells,); -inf where M > N."""
    a, b = (m * (1 - dispersion) / dispersion for m in (mean, 1 - mean))
    n, m = np.mgrid[:_WIDTH, :_WIDTH]
    rest = np.maximum(n - m, 0)
    ways = gammaln(n + 1) - gammaln(m + 1) - gammaln(rest + 1)
    table = ways + betaln(m + a, rest + b) - betaln(a, b)
    return np.where(m <= n, table, -np.inf).ravel()


@cache
def class_table() -> Floats:
    """Probability of the reads in each class, strays included, (cells, 3)."""
    n, m = (grid.ravel() for grid in np.mgrid[:_WIDTH, :_WIDTH])
    classes = np.stack([np.exp(beta_binomial(*c)) for c in CLASSES], axis=1)
    strays = np.where(m <= n, 1 / (n + 1), 0.0)
    return (1 - STRAYS) * classes + STRAYS * strays[:, None]


@cache
def _genotype_tables() -> Floats:
    """Log probability of the reads at each allele frequency, (frequencies, cells)."""
    with np.errstate(divide="ignore"):
        return np.log(hardy_weinberg(FREQUENCIES) @ class_table().T)


@cache
def _ordinary_tables() -> Floats:
    """Log probability of the reads under each ordinary model, (models, cells)."""
    return np.stack([beta_binomial(m, d) for d in _DISPERSIONS for m in _MEANS])


@cache
def _log_chances_of_none(ordinary: bool) -> Floats:
    """Log probability that N reads show none of some classes, (classes, N, models).

    The classes are low, middle, high, low or middle, low or high, middle or high, any.
    """
    tables = np.exp(_ordinary_tables() if ordinary else _genotype_tables())
    n, m = np.mgrid[:_WIDTH, :_WIDTH]
    level = np.where(m <= n, m / np.maximum(n, 1), -1.0)
    square = tables.reshape(-1, _WIDTH, _WIDTH)
    low, middle, high = (
        (square * ((level >= least) & (level <= most) & (n >= FEWEST_READS))).sum(2).T
        for least, most in CLASS_LIMITS
    )
    kinds = (low, middle, high, low + middle, low + high, middle + high, low + middle + high)
    # Rounding can take a sum of probabilities to one.
    return np.log(np.maximum(1 - np.stack(kinds), 1e-300))


def log_likelihoods(cells: Integers, *, ordinary: bool) -> Floats:
    """Log likelihood of each site's reads, given that it shows all three classes.

    Parameters
    ----------
    cells : (sites, samples), from `read_cells`
    ordinary : the ordinary models, else the genotype-like ones, one an allele frequency

    Returns
    -------
    (sites, models)
    """
    tables = _ordinary_tables() if ordinary else _genotype_tables()
    plain = np.stack([table[cells].sum(1) for table in tables], axis=1)
    return plain - np.log(_chance_of_three(cells, ordinary=ordinary))


def _chance_of_three(cells: Integers, *, ordinary: bool) -> Floats:
    """Probability that the samples show all three classes, (sites, models).

    By inclusion and exclusion, with the samples' own depths.
    """
    n_sites = len(cells)
    flat = (np.arange(n_sites)[:, None] * _WIDTH + cells // _WIDTH).ravel()
    depths = np.bincount(flat, minlength=n_sites * _WIDTH).reshape(n_sites, _WIDTH)
    none = np.exp(depths @ _log_chances_of_none(ordinary))  # (classes, sites, models)
    chance = 1 - none[:3].sum(0) + none[3:6].sum(0) - none[6]
    # A model that can hardly show three classes must not win by dividing by nothing.
    return np.maximum(chance, 1e-9)
