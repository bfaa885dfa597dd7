"""How much of the samples' resemblance each column of the sheet explains, and which columns go
together.

For a component, R2 is that of a regression on the column (groups for words, a slope for numbers)
with the F test of that one regression. Over all components, weighted by their variance, it is the
share of the whole variance of the levels (McArdle & Anderson 2001, Ecology 82, 290-297), with a
p-value by permuting the samples. Two columns of words are compared by Cramer's V, numbers by r2,
and a number with words by eta2: 1 says that one of the two cannot be told from the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from scipy.special import gammaincc

from melisma._predictors import NOT_COVARIATES, coded, column_basis, r2_tail
from melisma.quality._walk import Floats

COMPONENTS = 10
_PERMUTATIONS = 999
# Entries of the samples' matrix that all permutations together may read.
_MOST_READ = 200_000_000
_FEWEST_SAMPLES = 4
_HIGH = 0.5


@dataclass(frozen=True)
class Covariates:
    """What the sheet's columns explain, and how they go together.

    table : column, kind ("words" or "numbers"), groups, component ("all", "PC1", ...), share (of
        the variance), n, r2, r2_adjusted, p, permutations (null: F distribution), seed
    pairs : column_a, column_b, measure, value, n, relation ("same groups", "a inside b",
        "b inside a", "associated", ""), sentence
    """

    table: pl.DataFrame
    pairs: pl.DataFrame

    @property
    def sentence(self) -> str:
        """The strongest association, in one sentence; empty where there is none to tell."""
        parts = self.table.filter((pl.col("component") != "all") & (pl.col("p") < 0.05))
        whole = self.table.filter(pl.col("component") == "all")
        if whole.is_empty():
            return ""
        if parts.is_empty():
            return "No column of the sheet goes with a leading component (p < .05)."
        # A component's weight counts: a perfect fit to a tenth of a percent is no batch effect.
        weight = pl.col("r2_adjusted") * pl.col("share")
        best = parts.sort(weight, descending=True).row(0, named=True)
        total = whole.filter(pl.col("column") == best["column"]).row(0, named=True)
        return (
            f"{best['column']} goes most with the samples' levels: it explains "
            f"{best['r2']:.0%} of {best['component']} ({best['share']:.0%} of the variance) and "
            f"{total['r2']:.0%} of all variance (adjusted {max(total['r2_adjusted'], 0):.0%}, "
            f"p {_probability(total['p'])} by permutation)."
        )


def _probability(p: float) -> str:
    return f"{p:.2g}"


def covariates(
    scores: Floats, share: Floats, sheet: Mapping[str, Sequence[Any]], *, seed: int
) -> Covariates:
    """Compare every column of the sheet that varies with the components and with each other.

    Parameters
    ----------
    scores : (samples, components), all of them
    share : (components,), each one's share of the variance
    sheet : columns, each (samples,)
    seed : of the permutations
    """
    columns = {name: coded(values) for name, values in sheet.items() if name not in NOT_COVARIATES}
    usable = {name: column for name, column in columns.items() if _varies(*column)}
    rows: list[dict[str, Any]] = []
    for name, (values, groups) in usable.items():
        known = np.isfinite(values)
        basis = column_basis(values[known], groups=groups)
        n, df = int(known.sum()), basis.shape[1]
        if n < _FEWEST_SAMPLES or n - 1 - df < 1 or not scores.shape[1]:
            continue
        head = {
            "column": name,
            "kind": "words" if groups else "numbers",
            "groups": df + 1 if groups else None,
            "n": n,
        }
        y = scores[known] - scores[known].mean(0)
        r2, p, tried = _whole(y, basis, seed)
        rows.append(
            head
            | {"component": "all", "share": 1.0, "r2": r2, "r2_adjusted": _adjusted(r2, n, df)}
            | {"p": p, "permutations": tried, "seed": seed}
        )
        for k in range(min(COMPONENTS, scores.shape[1])):
            total = float(y[:, k] @ y[:, k])
            if total <= 0:
                continue
            part = float(((basis.T @ y[:, k]) ** 2).sum()) / total
            rows.append(
                head
                | {"component": f"PC{k + 1}", "share": float(share[k]), "r2": part}
                | {"r2_adjusted": _adjusted(part, n, df), "p": r2_tail(part, n, df)}
                | {"permutations": None, "seed": None}
            )
    return Covariates(pl.DataFrame(rows, schema=_SCHEMA), _pairs(usable))


_SCHEMA = {
    "column": pl.String,
    "kind": pl.String,
    "groups": pl.Int64,
    "component": pl.String,
    "share": pl.Float64,
    "n": pl.Int64,
    "r2": pl.Float64,
    "r2_adjusted": pl.Float64,
    "p": pl.Float64,
    "permutations": pl.Int64,
    "seed": pl.Int64,
}


def _varies(values: Floats, groups: bool) -> bool:
    known = values[np.isfinite(values)]
    distinct = len(np.unique(known))
    # A group of its own for every sample is a name.
    return distinct >= 2 and (not groups or distinct < len(known))


def _whole(y: Floats, basis: Floats, seed: int) -> tuple[float, float, int]:
    """R2 over all components, its permutation p, and how many permutations were drawn."""
    gram = y @ y.T
    total = float(np.trace(gram))
    if total <= 0:
        return 0.0, 1.0, 0
    n = len(y)

    def explained(order: Any) -> float:
        moved = basis[order]
        return float((moved * (gram @ moved)).sum())

    found = explained(np.arange(n))
    cost = max(n * n * basis.shape[1], 1)
    tried = int(np.clip(_MOST_READ * 10 // cost, 99, _PERMUTATIONS))
    rng = np.random.default_rng(seed)
    reached = sum(explained(rng.permutation(n)) >= found * (1 - 1e-9) for _ in range(tried))
    return found / total, (reached + 1) / (tried + 1), tried


def _adjusted(r2: float, n: int, df: int) -> float:
    return 1 - (1 - r2) * (n - 1) / (n - 1 - df)


def cramers_v(a: Floats, b: Floats) -> tuple[float, float]:
    """Cramer's V of two columns of codes, and the p of its chi-square.

    >>> cramers_v(np.array([0.0, 0, 1, 1]), np.array([0.0, 0, 1, 1]))[0]
    1.0
    """
    rows, row = np.unique(a, return_inverse=True)
    columns, column = np.unique(b, return_inverse=True)
    table = np.zeros((len(rows), len(columns)))
    np.add.at(table, (row, column), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi2 = float(((table - expected) ** 2 / expected).sum())
    least = min(table.shape) - 1
    df = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float(np.sqrt(chi2 / (table.sum() * least))), float(gammaincc(df / 2, chi2 / 2))


def _pairs(columns: Mapping[str, tuple[Floats, bool]]) -> pl.DataFrame:
    rows = []
    for (a, (x, groups_x)), (b, (y, groups_y)) in combinations(columns.items(), 2):
        known = np.isfinite(x) & np.isfinite(y)
        u, v = x[known], y[known]
        if len(u) < _FEWEST_SAMPLES or np.ptp(u) == 0 or np.ptp(v) == 0:
            continue
        relation = ""
        if groups_x and groups_y:
            measure = "cramers_v"
            value, p = cramers_v(u, v)
            relation = _nesting(u, v)
        else:
            measure = "r2" if not groups_x and not groups_y else "eta2"
            number, other, groups = (v, u, groups_x) if groups_x else (u, v, groups_y)
            basis = column_basis(other, groups=groups)
            centred = number - number.mean()
            value = float(((basis.T @ centred) ** 2).sum() / (centred @ centred))
            left = len(u) - 1 - basis.shape[1]
            p = r2_tail(value, len(u), basis.shape[1]) if left > 0 else 1.0
        if not relation and value >= _HIGH and p < 0.05:
            relation = "associated"
        sentence = _pair_sentence(a, b, relation, measure, value)
        rows.append((a, b, measure, value, p, int(known.sum()), relation, sentence))
    names = ("column_a", "column_b", "measure", "value", "p", "n", "relation", "sentence")
    types = (pl.String, pl.String, pl.String, pl.Float64, pl.Float64, pl.Int64, *[pl.String] * 2)
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def _nesting(u: Floats, v: Floats) -> str:
    """Whether each group of one column lies inside one group of the other."""
    pairs = len(set(zip(u.tolist(), v.tolist(), strict=True)))
    a, b = len(np.unique(u)), len(np.unique(v))
    if pairs == a == b:
        return "same groups"
    return "a inside b" if pairs == a else "b inside a" if pairs == b else ""


_MEASURES = {"cramers_v": "Cramér's V", "eta2": "η²", "r2": "r²"}


def _pair_sentence(a: str, b: str, relation: str, measure: str, value: float) -> str:
    if relation == "same groups":
        return f"{a} and {b} divide the samples alike: their effects cannot be told apart."
    if relation in ("a inside b", "b inside a"):
        inner, outer = (a, b) if relation == "a inside b" else (b, a)
        return (
            f"Each {inner} has one {outer} only: where {inner} acts on the levels, {outer} cannot "
            "be told from it."
        )
    if relation == "associated":
        return f"{a} and {b} go together ({_MEASURES[measure]} {value:.2f})."
    return ""
