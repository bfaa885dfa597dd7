"""Mediation: fits against plain loops and lifelines, known effects, intervals under the null."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import kstest, norm

from melisma.errors import MelismaError
from melisma.trace._components import components
from melisma.trace._outcomes import (
    KINDS,
    Outcome,
    additive_hazards,
    least_squares,
    logistic,
    lognormal_times,
)
from melisma.trace._screen import _hazard_scores, screen
from melisma.trace._sensitivity import correlation_at_zero, correlation_given_others
from melisma.trace.mediation import mediate

DIRECT, TO, ON = 0.3, 0.6, 0.5
RATE = 0.2  # of an additive hazard for one unit of the linear predictor
CENSORED = {"hazard": 3.0, "aft": 6.0}


def drawn(kind, n, seed, to=TO, on=ON, many=1):
    """Exposure, mediators (the first is one), covariate and outcome of a simulated study."""
    rng = np.random.default_rng(seed)
    # Cases of a rare outcome are taken from a cohort that is large enough to hold them.
    size = 60 * n if kind == "case-control" else n
    x = rng.binomial(1, 0.5, size).astype(float)
    w = rng.normal(size=size)
    m = rng.normal(size=(size, many))
    m[:, 0] += to * x + 0.4 * w
    line = DIRECT * x + on * m[:, 0] + 0.3 * w
    rows = np.arange(size)
    event = None
    if kind == "continuous":
        value = line + rng.normal(size=size)
    elif kind == "cohort":
        value = (line + rng.logistic(size=size) > 0).astype(float)
    elif kind == "case-control":
        value = (line + rng.logistic(size=size) > 5).astype(float)
        cases, controls = np.flatnonzero(value == 1), np.flatnonzero(value == 0)
        rows = np.r_[cases[: n // 2], controls[: n // 2]]
    else:
        hazard = np.maximum(0.8 + RATE * line, 0.01)
        own = np.exp(line + rng.normal(size=size)) if kind == "aft" else rng.exponential(1 / hazard)
        end = rng.exponential(CENSORED[kind], size)
        value, event = np.minimum(own, end), (own <= end).astype(float)
    return x[rows], m[rows], w[rows, None], Outcome("y", kind, value[rows], event)


def design(kind, n=80, seed=3):
    x, m, w, outcome = drawn(kind, n, seed)
    return np.column_stack([x, m, w]), outcome


# ---------------------------------------------------------------- fits


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_so_many_copies_of_an_individual(kind):
    columns, outcome = design(kind)
    times = np.random.default_rng(0).integers(0, 4, outcome.n)
    rows = np.repeat(np.arange(outcome.n), times)
    event = None if outcome.event is None else outcome.event[rows]
    copied = Outcome("y", kind, outcome.value[rows], event)
    weighted = outcome.fit(columns, np.vstack([times, np.ones(outcome.n)]).astype(float))
    plain = copied.fit(columns[rows], np.ones((1, len(rows))))
    np.testing.assert_allclose(weighted.slopes[0], plain.slopes[0], rtol=1e-6, atol=1e-8)
    whole = outcome.fit(columns, np.ones((1, outcome.n)))
    np.testing.assert_allclose(weighted.slopes[1], whole.slopes[0], rtol=1e-6, atol=1e-8)


def test_least_squares_of_two_outcomes_by_hand():
    # A line through (0, 1), (1, 3), (2, 5) and one through (0, 0), (1, -1), (2, -2).
    z = np.array([[1.0, 0], [1, 1], [1, 2]])
    found = least_squares(z, np.array([[1.0, 0], [3, -1], [5, -2]]), np.ones((1, 3)))
    np.testing.assert_allclose(found[0], [[1, 0], [2, -1]], atol=1e-9)


def test_logistic_of_a_two_by_two_table():
    # 30 of 40 exposed and 10 of 40 others: odds 3 and 1/3.
    z = np.column_stack([np.ones(80), np.repeat([1.0, 0.0], 40)])
    y = np.r_[np.ones(30), np.zeros(10), np.ones(10), np.zeros(30)]
    found = logistic(z, y, np.ones((1, 80)))[0]
    np.testing.assert_allclose(found, [math.log(1 / 3), math.log(9)], rtol=1e-8)


def test_separated_classes_are_refused():
    z = np.column_stack([np.ones(20), np.arange(20.0)])
    with pytest.raises(MelismaError, match="apart without error"):
        logistic(z, (np.arange(20) > 9).astype(float), np.ones((1, 20)))


def plain_additive_hazards(z, time, event):
    """Lin & Ying's estimate, one stretch between times after the other."""
    left, right = np.zeros((z.shape[1], z.shape[1])), np.zeros(z.shape[1])
    before = 0.0
    for now in np.unique(time):
        alive = z[time >= now]
        apart = alive - alive.mean(0)
        left += (now - before) * apart.T @ apart
        for row in z[(time == now) & (event == 1)]:
            right += row - alive.mean(0)
        before = now
    return np.linalg.solve(left, right)


def test_additive_hazards_by_hand():
    # Two exposed who die at 1 and 2, one other who dies at 3. Up to 1: mean 2/3, sum of squares
    # 2/3; up to 2: mean 1/2, sum 1/2; then 0. Events: 1/3 + 1/2 + 0.
    z, time = np.array([[1.0], [1], [0]]), np.array([1.0, 2, 3])
    found = additive_hazards(z, time, np.ones(3), np.ones((1, 3)))
    assert found[0, 0] == pytest.approx((1 / 3 + 1 / 2) / (2 / 3 + 1 / 2))


@pytest.mark.parametrize("tied", [False, True])
def test_additive_hazards_equal_a_plain_loop(tied):
    columns, outcome = design("hazard")
    time = np.ceil(outcome.value * 4) if tied else outcome.value
    found = additive_hazards(columns, time, outcome.events, np.ones((1, outcome.n)))[0]
    expected = plain_additive_hazards(columns, time, outcome.events)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_lognormal_times_maximise_the_likelihood():
    columns, outcome = design("aft")
    z = np.column_stack([np.ones(outcome.n), columns])
    y = np.log(outcome.value)

    def loss(theta):
        r = (y - z @ theta[:-1]) / np.exp(theta[-1])
        parts = np.where(outcome.events == 1, norm.logpdf(r) - theta[-1], norm.logsf(r))
        return -parts.sum()

    expected = minimize(loss, np.zeros(z.shape[1] + 1), method="BFGS", options={"gtol": 1e-6}).x
    found = lognormal_times(z, outcome.value, outcome.events, np.ones((1, outcome.n)))
    np.testing.assert_allclose(found.beta[0], expected[:-1], atol=1e-4)
    assert found.sigma[0] == pytest.approx(math.exp(expected[-1]), abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_lognormal_times_equal_lifelines():
    lifelines = pytest.importorskip("lifelines")
    import pandas as pd

    columns, outcome = design("aft", n=150)
    z = np.column_stack([np.ones(outcome.n), columns])
    table = pd.DataFrame(columns, columns=["x", "m", "w"])
    table["time"], table["event"] = outcome.value, outcome.events
    fitted = lifelines.LogNormalAFTFitter().fit(table, "time", "event").params_["mu_"]
    found = lognormal_times(z, outcome.value, outcome.events, np.ones((1, outcome.n))).beta[0]
    expected = [fitted[name] for name in ("Intercept", "x", "m", "w")]
    np.testing.assert_allclose(found, expected, atol=2e-3)


# ---------------------------------------------------------------- effects


def test_a_chain_worked_by_hand():
    # m = 2x, s = 3x + m, y = x + 4m + 5s, each with a residual that is orthogonal to all before.
    e = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], float)
    block = np.kron(np.ones((8, 1)), np.repeat(e, 2, 0))
    x = np.tile([0.0, 1.0], 32)
    m = 2 * x + block[:, 1]
    s = 3 * x + m + block[:, 2]
    y = x + 4 * m + 5 * s + block[:, 3]
    found = mediate(x, m[:, None], Outcome("y", "continuous", y), second=s, bootstraps=0)
    assert found.second is not None
    assert found.last is not None
    got = [found.direct, found.own[0], found.onward[0], found.second, found.last, found.total]
    expected = [1, 2 * 4, 2 * 1 * 5, 3 * 5, 25, 34]
    np.testing.assert_allclose([e.value for e in got], expected, rtol=1e-8)


def test_bootstrap_errors_are_those_of_a_plain_loop():
    x, m, w, outcome = drawn("continuous", 60, 5)
    found = mediate(x, m, outcome, covariates=w, bootstraps=500, seed=4)
    rng = np.random.default_rng(9)
    plain = []
    for _ in range(500):
        rows = rng.integers(0, 60, 60)
        one = np.column_stack([np.ones(60), x[rows], w[rows]])
        a = np.linalg.lstsq(one, m[rows, 0], rcond=None)[0][1]
        b = np.linalg.lstsq(np.column_stack([one, m[rows]]), outcome.value[rows], rcond=None)[0][3]
        plain.append(a * b)
    assert found.indirect.error == pytest.approx(np.std(plain), rel=0.15)
    again = mediate(x, m, outcome, covariates=w, bootstraps=500, seed=4)
    assert found.indirect == again.indirect


@pytest.mark.parametrize("kind", KINDS)
def test_known_effects_are_recovered(kind):
    x, m, w, outcome = drawn(kind, 3000, 11, many=2)
    found = mediate(x, m, outcome, covariates=w, bootstraps=100)
    unit = RATE if kind == "hazard" else 1.0
    # Log odds of a common outcome shrink when they are averaged over the mediator: by 1.7 to
    # sqrt(1.7 ** 2 + 0.5 ** 2) or so.
    unit *= 0.96 if kind == "cohort" else 1.0
    truth = {"direct": DIRECT, "indirect": TO * ON, "total": DIRECT + TO * ON}
    for name, value in truth.items():
        effect = getattr(found, name)
        assert abs(effect.value - unit * value) < 3 * effect.error, name
    assert found.own[0].value == pytest.approx(found.indirect.value, abs=3 * found.own[1].error)
    # The parts are those of a total that was estimated without them.
    parts = found.direct.value + found.indirect.value
    assert parts == pytest.approx(found.total.value, rel=0.05)


def test_weights_bring_cases_back_to_their_prevalence():
    x, m, w, outcome = drawn("case-control", 2000, 2)
    share = outcome.value.mean()
    weighted = Outcome("y", "case-control", outcome.value, prevalence=0.02)
    weight = weighted.mediator_weights
    assert (weight * outcome.value).sum() / weight.sum() == pytest.approx(0.02)
    in_controls = mediate(x, m, outcome, covariates=w, bootstraps=0).to_mediators[0].value
    in_both = mediate(x, m, weighted, covariates=w, bootstraps=0).to_mediators[0].value
    assert share == 0.5
    assert in_both == pytest.approx(in_controls, abs=0.05)


# Shares of 95% intervals that hold 0 in studies without an effect: 0.93 is the goal, and two
# binomial errors lower what so few studies can tell from it.
@pytest.mark.parametrize(("to", "on"), [(0.0, 0.0), (0.0, ON), (TO, 0.0)])
@pytest.mark.parametrize(("kind", "studies"), [("continuous", 100), ("hazard", 40), ("aft", 40)])
def test_intervals_hold_zero_where_there_is_no_indirect_effect(kind, studies, to, on):
    held = 0
    for seed in range(studies):
        x, m, w, outcome = drawn(kind, 120, 1000 + seed, to, on)
        effect = mediate(x, m, outcome, covariates=w, bootstraps=150, seed=seed).indirect
        assert effect.low is not None
        assert effect.high is not None
        held += effect.low <= 0 <= effect.high
    assert held / studies >= 0.93 - 2 * math.sqrt(0.93 * 0.07 / studies)


def test_blocks_are_resampled_whole():
    # Twenty families of ten who are all alike: as twenty individuals.
    x, m, w, outcome = drawn("continuous", 60, 1)
    many = np.repeat(np.arange(60), 5)
    copied = Outcome("y", "continuous", outcome.value[many])
    alone = mediate(x, m, outcome, covariates=w, bootstraps=400)
    blocks = mediate(x[many], m[many], copied, covariates=w[many], block=many, bootstraps=400)
    apart = mediate(x[many], m[many], copied, covariates=w[many], bootstraps=400)
    assert blocks.indirect.error == pytest.approx(alone.indirect.error, rel=0.15)
    assert apart.indirect.error == pytest.approx(alone.indirect.error / math.sqrt(5), rel=0.2)


def test_components_stand_for_many_mediators_and_their_parts_add_up():
    x, m, w, outcome = drawn("continuous", 300, 6, many=80)
    m += np.random.default_rng(0).normal(size=(300, 1))
    found = mediate(x, m, outcome, covariates=w, bootstraps=50)
    held = found.components
    assert held is not None
    assert held.weights.shape[1] == 300 // 15 - 2
    assert 0.3 < held.variance < 1
    assert math.fsum(e.value for e in found.own) == pytest.approx(found.indirect.value)
    # The same from a model of the components themselves.
    inside = mediate(x, held.scores(m), outcome, covariates=w, bootstraps=0)
    assert inside.indirect.value == pytest.approx(found.indirect.value)


def test_a_mediator_that_is_there_twice_counts_once():
    x, m, w, outcome = drawn("continuous", 200, 6)
    once = mediate(x, m, outcome, covariates=w, bootstraps=0)
    twice = mediate(x, np.hstack([m, m]), outcome, covariates=w, bootstraps=0)
    assert twice.components is not None
    assert twice.indirect.value == pytest.approx(once.indirect.value, rel=1e-6)
    assert components(m, x, w, 200, chain=False) is None


# ---------------------------------------------------------------- every mediator alone


def hc3(design, y):
    """Coefficients and HC3 errors by matrices."""
    bread = np.linalg.inv(design.T @ design)
    beta = bread @ design.T @ y
    leverage = np.einsum("ij,jk,ik->i", design, bread, design)
    meat = design.T @ (design * (((y - design @ beta) / (1 - leverage)) ** 2)[:, None])
    return beta, np.sqrt(np.diag(bread @ meat @ bread))


def test_a_linear_pass_equals_one_regression_after_another():
    x, m, w, outcome = drawn("continuous", 70, 8, many=4)
    found = screen(x, m, outcome, covariates=w)
    ones = np.ones((70, 1))
    for k in range(4):
        beta, error = hc3(np.column_stack([ones, x, w]), m[:, k])
        assert found.effect[k] == pytest.approx(beta[1])
        assert found.error[k] == pytest.approx(error[1])
        beta, error = hc3(np.column_stack([ones, x, w, m[:, k]]), outcome.value)
        z = beta[3] / error[3]
        assert np.sign(found.z_outcome[k]) == np.sign(z)
        # 66 degrees of freedom.
        from scipy.stats import t

        assert found.p_outcome[k] == pytest.approx(2 * t.sf(abs(z), 66))


def test_controls_alone_tell_the_exposures_part_in_a_case_control_study():
    x, m, w, outcome = drawn("case-control", 200, 3)
    controls = outcome.value == 0
    found = screen(x, m, outcome, covariates=w)
    one = np.column_stack([np.ones(100), x[controls], w[controls]])
    beta, error = hc3(one, m[controls, 0])
    assert found.effect[0] == pytest.approx(beta[1])
    assert found.error[0] == pytest.approx(error[1])


def test_hazard_scores_are_zero_at_the_coefficient():
    # The score of a mediator, over its own size, is its coefficient in the joint model.
    x, m, w, outcome = drawn("hazard", 90, 4)
    base = np.column_stack([x, w])
    scores = _hazard_scores(outcome, base)(m)
    joint = plain_additive_hazards(np.column_stack([base, m]), outcome.value, outcome.events)
    shifted = m + 10.0
    np.testing.assert_allclose(_hazard_scores(outcome, base)(shifted), scores, atol=1e-7)
    size = scores.sum() / joint[-1]
    doubled = _hazard_scores(outcome, base)(2 * m)
    np.testing.assert_allclose(doubled.sum(), 2 * size * joint[-1])
    order = np.argsort(outcome.value)
    gap = np.diff(outcome.value[order], prepend=0)
    z = np.column_stack([base, m])[order]
    left = np.zeros((3, 3))
    for k in range(90):
        apart = z[k:] - z[k:].mean(0)
        left += gap[k] * apart.T @ apart
    assert size == pytest.approx(
        left[2, 2] - left[2, :2] @ np.linalg.inv(left[:2, :2]) @ left[:2, 2]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [False, True])
def test_p_values_are_uniform_where_nothing_is(kind, blocks):
    x, _, w, outcome = drawn(kind, 400, 21)
    rng = np.random.default_rng(5)
    block = np.repeat(np.arange(100), 4) if blocks else None
    m = rng.normal(size=(400, 1500))
    found = screen(x, m, outcome, covariates=w, block=block)
    for p in (found.p_exposure, found.p_outcome):
        assert kstest(p, "uniform").statistic < 0.05
        assert (p < 0.01).mean() < 0.022


def test_a_mediator_of_the_outcome_is_found():
    for kind in KINDS:
        x, m, w, outcome = drawn(kind, 1000, 13, many=3, on=1.0)
        found = screen(x, m, outcome, covariates=w)
        assert found.p_outcome[0] < 1e-4, kind
        assert found.z_outcome[0] > 0
        assert found.p_exposure[0] < 1e-4


# ---------------------------------------------------------------- sensitivity


def test_the_correlation_at_zero_brings_the_indirect_effect_to_zero():
    x, m, w, outcome = drawn("continuous", 400, 17)
    given = np.column_stack([x, w])
    rho = correlation_at_zero(m, outcome.value, given)[0]
    # Imai, Keele & Yamamoto's (2010) effect under a correlation r of the two models' errors.
    one = np.column_stack([np.ones(400), given])
    e_y = outcome.value - one @ np.linalg.lstsq(one, outcome.value, rcond=None)[0]
    slope = np.linalg.lstsq(one, m[:, 0], rcond=None)[0]
    e_m = m[:, 0] - one @ slope
    between = np.corrcoef(e_y, e_m)[0, 1]

    def indirect(r):
        shrink = between - r * math.sqrt((1 - between**2) / (1 - r**2))
        return slope[1] * e_y.std() / e_m.std() * shrink

    assert indirect(rho) == pytest.approx(0, abs=1e-12)
    assert indirect(0) == pytest.approx(
        mediate(x, m, outcome, covariates=w, bootstraps=0).indirect.value
    )


def test_given_others_a_mediator_that_only_follows_another_has_no_correlation():
    rng = np.random.default_rng(3)
    a = rng.normal(size=2000)
    m = np.column_stack([a, a + rng.normal(size=2000)])
    y = a + rng.normal(size=2000)
    alone = correlation_at_zero(m, y, np.zeros((2000, 0)))
    together = correlation_given_others(m, y, np.zeros((2000, 0)))
    assert alone[1] > 0.4
    assert abs(together[1]) < 0.06


# ---------------------------------------------------------------- bad input


def changed(kind="continuous", **parts):
    x, m, w, outcome = drawn(kind, 60, 2, many=2)
    given = {"exposure": x, "mediators": m, "outcome": outcome, "covariates": w} | parts
    return mediate(**given, bootstraps=0)


def survival(events):
    return Outcome("death", "hazard", np.arange(1.0, 61), (np.arange(60) < events).astype(float))


def test_what_cannot_be_computed_is_refused():
    x, m, w, outcome = drawn("continuous", 60, 2, many=2)
    holes = m.copy()
    holes[3, 1] = holes[4, 1] = np.nan
    constant = np.column_stack([m[:, 0], np.full(60, 0.5)])
    refused = {
        r"missing values \(2 in mediator 2\).*2 of 60 individuals.*1 of 2 mediators": {
            "mediators": holes
        },
        "exposure is 1 in all 60": {"exposure": np.ones(60)},
        "follows from the covariates exactly": {"covariates": np.column_stack([w, 2 * x + 1])},
        "mediator 2 is 0.5 everywhere": {"mediators": constant},
        "mediator 1 follows from exposure": {"mediators": (3 * x + w[:, 0])[:, None]},
        "death has 1 event among 60": {"outcome": survival(1)},
        "death has 9 events among 60": {"outcome": survival(9)},
        "20 at least": {
            "exposure": x[:9], "mediators": m[:9], "covariates": w[:9],
            "outcome": Outcome("y", "continuous", outcome.value[:9]),
        },
        "59 values of exposure do not fit 60": {"exposure": x[:59]},
        "is 2 in all": {"outcome": Outcome("y", "continuous", np.full(60, 2.0))},
        "2 blocks are too few": {"block": np.repeat([0, 1], 30)},
        "death has 1 times that are less than 0": {
            "outcome": Outcome("death", "hazard", np.arange(60.0) - 1, np.ones(60))
        },
        "death has 1 times that are 0 or less": {
            "outcome": Outcome("death", "aft", np.arange(60.0), np.ones(60))
        },
        "covariates has missing values": {"covariates": np.full((60, 1), np.nan)},
    }  # fmt: skip
    for said, parts in refused.items():
        with pytest.raises(MelismaError, match=said):
            changed(**parts)


def test_no_mediator_leaves_all_of_the_effect_direct():
    x, m, w, outcome = drawn("continuous", 60, 2)
    found = mediate(x, m[:, :0], outcome, covariates=w, bootstraps=20)
    assert found.indirect.value == 0
    assert found.direct.value == pytest.approx(found.total.value)
    assert found.own == ()
