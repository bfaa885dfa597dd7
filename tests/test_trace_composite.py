"""Many mediators: calls under the composite null."""

import numpy as np
import pytest

from melisma.errors import MelismaError
from melisma.trace.composite import FEWEST, LARGE, composite_null


def two_sided(rng, effect, m):
    from scipy.special import ndtr

    return 2 * ndtr(-np.abs(rng.normal(size=m) + effect))


def drawn(seed, shares, m=2000):
    """p-values of both sides, and which mediators have both effects."""
    rng = np.random.default_rng(seed)
    state = rng.choice(4, size=m, p=shares)
    a = two_sided(rng, 4.0 * np.isin(state, (1, 3)), m)
    b = two_sided(rng, 4.0 * np.isin(state, (2, 3)), m)
    return a, b, state == 3


def plainly(a, b):
    """The same formula one mediator at a time."""
    m = len(a)
    large_a, large_b = a > LARGE, b > LARGE
    scale = 1 / (1 - LARGE)
    no_a, no_b = min(large_a.mean() * scale, 1), min(large_b.mean() * scale, 1)
    none = (large_a & large_b).mean() * scale**2
    none = min(max(none, no_a + no_b - 1), no_a, no_b)
    known = 2 * np.sqrt(LARGE * scale / m)
    weight = np.sqrt((no_b - none + known) / (no_a - none + known))
    larger = np.maximum(a / weight, b * weight)
    rates = np.empty(m)
    for k, t in enumerate(larger):
        bound_a, bound_b = min(t * weight, 1), min(t / weight, 1)
        first = bound_a * (sum(large_a & (b <= bound_b)) + 1) * scale
        second = bound_b * (sum(large_b & (a <= bound_a)) + 1) * scale
        neither = bound_a * bound_b * sum(large_a & large_b) * scale**2
        rates[k] = min(max(first + second - neither, neither) / sum(larger <= t), 1)
    return np.array([rates[larger >= t].min() for t in larger])


def test_q_is_the_plain_formula():
    a, b, _ = drawn(3, (0.7, 0.2, 0.05, 0.05), m=300)
    found = composite_null(a, b)
    np.testing.assert_allclose(found.q, plainly(a, b), rtol=1e-12)
    np.testing.assert_array_equal(found.called, found.q <= 0.05)
    np.testing.assert_array_equal(found.p_max, np.maximum(a, b))
    assert found.method == "composite null"


def test_shares_are_those_drawn():
    shares = (0.6, 0.2, 0.1, 0.1)
    a, b, _ = drawn(5, shares, m=50_000)
    found = composite_null(a, b)
    told = (found.none, found.only_exposure, found.only_outcome, found.both)
    assert sum(told) == pytest.approx(1)
    # An effect of 4 has p > 1/2 once in a thousand, so the shares are not biased by much.
    np.testing.assert_allclose(told, shares, atol=0.02)


@pytest.mark.parametrize("shares", [(0.88, 0.05, 0.05, 0.02), (0.6, 0.3, 0.05, 0.05)])
def test_false_calls_stay_at_the_rate_and_power_exceeds_max_p(shares):
    false, power, old = [], [], []
    for seed in range(60):
        a, b, true = drawn(seed, shares)
        called = composite_null(a, b).called
        false.append((called & ~true).sum() / max(called.sum(), 1))
        power.append(called[true].mean())
        p_max = np.maximum(a, b)
        rank = np.sort(p_max) * len(a) / np.arange(1, len(a) + 1)
        passed = np.flatnonzero(rank <= 0.05)
        cut = np.sort(p_max)[passed[-1]] if len(passed) else -1
        old.append((p_max[true] <= cut).mean())
    assert np.mean(false) <= 0.06
    assert np.mean(power) >= 1.25 * np.mean(old)


@pytest.mark.parametrize("shares", [(1, 0, 0, 0), (0.9, 0.1, 0, 0), (0.9, 0, 0.1, 0)])
def test_without_mediators_little_is_called(shares):
    calls = [composite_null(*drawn(seed, shares)[:2]).called.any() for seed in range(300)]
    # At 5% a binomial count of 300 exceeds 8.5% once in two hundred times.
    assert np.mean(calls) <= 0.085


def test_few_mediators_and_missing_values():
    a, b = np.full(5, 0.001), np.array([0.002, 0.9, 0.5, 0.5, np.nan])
    found = composite_null(a, b)
    assert found.method == "max-p"
    assert found.tested == 4
    np.testing.assert_allclose(found.q[:4], [0.008, 0.9, 2 / 3, 2 / 3])
    assert np.isnan(found.q[4])
    assert found.called.tolist() == [True, False, False, False, False]
    assert np.isnan(found.none)
    assert FEWEST > 5
    assert composite_null([], []).tested == 0


@pytest.mark.parametrize(
    ("a", "b", "q", "words"),
    [
        ([0.1, 0.2], [0.1], 0.05, "2 p-values of the exposure and 1 of the outcome"),
        ([0.1, 1.2], [0.1, 0.1], 0.05, "Mediator 1 .* has 1.2 as p-value of the exposure"),
        ([0.1, 0.2], [0.1, -0.1], 0.05, "has -0.1 as p-value of the outcome"),
        ([0.1], [0.1], 1.5, "must lie between 0 and 1"),
    ],
)
def test_what_is_no_p_value_is_refused(a, b, q, words):
    with pytest.raises(MelismaError, match=words):
        composite_null(a, b, q=q)
