"""Rotations: the null of designs with few relabellings."""

import numpy as np
import pytest

from melisma.design import compare, make_contrasts, make_design
from melisma.differential import find_regions, simulate
from melisma.differential._engine import build_engine, can_test
from melisma.differential._kernels import moderated, normal_score
from melisma.differential._relabel import draw_moves, draw_relabellings
from melisma.differential._scores import LANES, moved_scores
from melisma.methylome import sample_sheet


def sheet(groups, **columns):
    return {"sample": [f"s{i}" for i in range(len(groups))], "g": list(groups), **columns}


def comparison(groups, formula="~ g", block=None, **columns):
    design = make_design(sheet(groups, **columns), formula, block=block)
    return compare(design, make_contrasts(design, "g[b] - g[a]")[0])


def scores(asked, methylated, coverage, moves, df=np.inf):
    """c of each row of the moves at each site, (rows, sites), dispersion 1."""
    from melisma.differential._engine import _groups

    group, n_groups = _groups(asked.reduced)
    z, root = moved_scores(
        np.asarray(methylated, float), np.asarray(coverage, float), moves.anchor, group, n_groups,
        moves.rows, moves.kind == "rotations", np.array([0.5]), np.array([0.02]), df, 1.0,
        np.full(1, np.inf), np.ones(len(coverage), dtype=bool),
    )  # fmt: skip
    flat = [
        values.transpose(0, 2, 1).reshape(-1, len(coverage))[: len(moves.rows)]
        for values in (z, root)
    ]
    assert z.shape[2] == LANES
    return flat[0], flat[1]


def counts(seed, sites, units, low=3):
    rng = np.random.default_rng(seed)
    coverage = rng.integers(low, 30, (sites, units))
    return rng.binomial(coverage, 0.5), coverage


def whitened(asked, m, n, rho=0.02):
    """The reference: residuals and direction of one site for a reduced model of group means."""
    weight = n / (1 + (n - 1) * rho)
    mu = (weight * m / n).sum() / weight.sum()
    error = np.sqrt(weight / (mu * (1 - mu))) * (m / n - mu)
    base = np.linalg.qr(np.sqrt(weight)[:, None] * asked.reduced)[0]
    direction = np.sqrt(weight) * asked.exposure / np.linalg.norm(asked.exposure)
    for vector in (error, direction):
        vector -= base @ (base.T @ vector)
    return error, direction, base


def minimal(start, onto):
    """The smallest rotation of one unit vector to another."""
    both = start + onto
    return (
        np.eye(len(start)) - np.outer(both, both) / (1 + start @ onto) + 2 * np.outer(onto, start)
    )


def test_rotated_scores_are_those_of_a_plain_rotation():
    asked = comparison("aaaabbbb")
    moves = draw_moves(asked, 40, seed=1)
    assert (moves.kind, moves.distinct, moves.drawn) == ("rotations", 35, 40)
    m, n = counts(2, 50, 8)
    z, root = scores(asked, m, n, moves)
    for i in range(50):
        error, direction, base = whitened(asked, m[i], n[i])
        sign = np.sign(base[:, 0] @ moves.anchor[0])
        turn = minimal(sign * base[:, 0], moves.anchor[0])
        along = turn @ direction
        turn = minimal(along / np.linalg.norm(along), moves.anchor[1]) @ turn
        expected = moves.rows @ (turn @ error)
        assert z[:, i] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        # Every rotation has the observed information.
        assert root[:, i] == pytest.approx(np.linalg.norm(direction), rel=1e-6)
        assert z[0, i] == pytest.approx(direction @ error / np.linalg.norm(direction), rel=1e-5)


def test_the_variance_is_estimated_anew_for_each_rotation():
    asked = comparison("aabb")
    moves = draw_moves(asked, 30, seed=1)
    m, n = counts(3, 20, 4)
    plain, _ = scores(asked, m, n, moves)
    squeezed, _ = scores(asked, m, n, moves, df=4.0)
    for i in range(20):
        error, _, _ = whitened(asked, m[i], n[i])
        own = float(plain[0, i])
        for k, z in enumerate(squeezed[:, i]):
            c = float(plain[k, i])
            # A rotation has what the full model leaves, and a degree of freedom less.
            left = error @ error - c * c - (own * own if k else 0.0)
            variance, df = moderated(max(left, 0), 1 if k else 2, 4.0, 1.0, np.full(1, np.inf))
            assert z == pytest.approx(normal_score(c / np.sqrt(variance), df), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("block", [None, "pair"])
def test_units_without_reads_lose_their_dimension(block):
    asked = comparison("abababab", block=block, pair=list("ppqqrrss"))
    moves = draw_moves(asked, 4000, seed=1)
    m, n = counts(4, 6, 8)
    n[0, 1] = 0  # one member of a pair
    n[1, 2:4] = 0  # a whole pair
    n[2, [0, 5]] = 0  # members of two pairs
    m = np.minimum(m, n)
    z, _ = scores(asked, m, n, moves)
    seen = (n > 0).sum(axis=1)
    if block:
        both = (n.reshape(6, 4, 2) > 0).all(axis=2).sum(axis=1)
        dims = both - 1
    else:
        dims = seen - 2
    from melisma.differential._engine import _groups
    from melisma.differential._whitening import make_scratch, whiten

    group, n_groups = _groups(asked.reduced)
    columns = np.ascontiguousarray(asked.reduced.T)
    for i in range(6):
        s = make_scratch(asked.reduced, n_groups, 1)
        whiten(m[i].astype(float), n[i].astype(float), 0.02, asked.reduced, columns, group, s)
        # The mean square of a residual's part along an even unit vector of `dims` dimensions.
        total = (s.error**2).sum() - float(z[0, i]) ** 2
        assert (z[1:, i].astype(float) ** 2).mean() == pytest.approx(total / dims[i], rel=0.12)
        assert np.abs(z[1:, i]).max() <= np.sqrt(total) * (1 + 1e-4)


def test_rotations_see_nothing_of_the_exposure():
    moves = draw_moves(comparison("aabb"), 20, seed=1)
    assert moves.rows[1:] @ moves.anchor.T == pytest.approx(0, abs=1e-12)
    assert (moves.rows**2).sum(axis=1) == pytest.approx(1)


def test_rotations_keep_what_neighbouring_sites_share():
    # Two sites with the same residuals turn together, whatever the rotation.
    asked = comparison("aaabbb")
    moves = draw_moves(asked, 50, seed=2)
    m, n = counts(5, 1, 6)
    z, _ = scores(asked, np.vstack([m, 2 * m]), np.vstack([n, 2 * n]), moves)
    assert np.corrcoef(z[1:, 0], z[1:, 1])[0, 1] > 0.99


def test_relabelled_scores_agree_with_the_engine():
    rng = np.random.default_rng(1)
    made = small(1, "ab" * 6, sites=2000)
    methylome = made.methylome
    design = make_design(sample_sheet(methylome), "~ g")
    engine = build_engine(methylome, compare(design, make_contrasts(design, "g[b] - g[a]")[0]))
    moves = draw_moves(engine.comparison, 20, seed=1)
    assert moves.kind == "relabellings"
    m, n = engine.pool(methylome["methylated"].values, methylome["coverage"].values)
    n[rng.random(n.shape) < 0.2] = 0
    m = np.minimum(m, n)
    keep = can_test(engine.fit(m, n))
    z, root = moved_scores(
        m, n, moves.anchor, engine.group, engine.n_groups, moves.rows, False,
        engine.dispersion.knots, engine.dispersion.rho, engine.prior.df, engine.prior.scale,
        engine.limits, keep,
    )  # fmt: skip
    mine, theirs = engine.relabelled(m, n, moves.rows, keep)
    flat = z.transpose(0, 2, 1).reshape(-1, len(m))[:21]
    assert flat[:, keep] == pytest.approx(np.nan_to_num(mine[:, keep]), rel=1e-4, abs=1e-4)
    flat = root.transpose(0, 2, 1).reshape(-1, len(m))[:21]
    assert flat[:, keep] == pytest.approx(theirs[:, keep], rel=1e-4)


def test_the_draw_follows_the_names_not_the_order():
    straight = comparison("aaabbb")
    design = make_design(
        {"sample": ["s5", "s0", "s3", "s1", "s4", "s2"], "g": list("bababa")}, "~ g"
    )
    other = compare(design, make_contrasts(design, "g[b] - g[a]")[0])
    one, two = draw_moves(straight, 5, seed=3), draw_moves(other, 5, seed=3)
    back = np.argsort([5, 0, 3, 1, 4, 2])
    assert two.rows[:, back] == pytest.approx(one.rows)
    assert two.anchor[:, back] == pytest.approx(one.anchor)
    assert len(draw_relabellings(straight, 99, seed=1)) == 9


def small(seed, groups, sites=12_000, regions=0, block=None):
    rng = np.random.default_rng(seed)
    return simulate(
        np.cumsum(rng.integers(2, 90, sites)),
        rng.beta(2, 1, sites),
        np.full(sites, 12.0),
        sheet(groups, **({"pair": block} if block else {})),
        seed=seed,
        exposure=np.array([float(g == "b") for g in groups]),
        regions=regions,
        delta=0.4,
        block=block,
    )


@pytest.mark.parametrize(
    ("groups", "block", "distinct"),
    [("aaaabbbb", None, 35), ("ab" * 5, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], 16)],
)
def test_small_designs_find_planted_regions_and_nothing_on_a_null(groups, block, distinct):
    made = small(2, groups, regions=30, block=block)
    design = make_design(sample_sheet(made.methylome), "~ g", block="pair" if block else None)
    result = find_regions(made.methylome, design, "g[b] - g[a]", relabellings=60)
    assert (result.null, result.relabellings, result.distinct) == ("rotations", 60, distinct)
    called = result.significant()
    true = [
        any((made.truth["start"] < end) & (made.truth["end"] > start))
        for start, end in called.select("start", "end").iter_rows()
    ]
    assert len(called) >= 20
    assert np.mean(true) > 0.85
    assert result.table["p_family"].null_count() == 0
    null = small(3, groups, block=block)
    calls = find_regions(null.methylome, design, "g[b] - g[a]", relabellings=60).significant()
    assert len(calls) <= 1
