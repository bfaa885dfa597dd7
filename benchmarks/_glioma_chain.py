"""The chain from the IDH mutation through 1,205 probes to expression, immune score and survival.

880 gliomas of TCGA (`tcga_glioma`). The probes were chosen by their authors to tell subtypes apart,
so that calls are no discovery; what is judged is that the chain goes away when the mutation is
permuted. Patients are taken to be exchangeable within strata of age third by array platform, whose
indicators are covariates beside age and sex; under the null the mutation then goes with nothing.

Two sizes of a permuted chain, as shares of the real one: of the whole procedure (mediators are
called anew, and the chain is 0 where none is), and of the real chain's own mediators, which the
null has not chosen. Where paths of both signs cancel, the second is measured against little; the
gross size adds them up whichever way they go.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import false_discovery_control

from melisma.errors import MelismaError
from melisma.trace._outcomes import Outcome
from melisma.trace._screen import screen
from melisma.trace.composite import composite_null
from melisma.trace.mediation import Mediation, mediate
from melisma.trace.study import Mediators, Question, trace_study

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "vendorable" / "tcga_glioma"
Q = 0.05
_OUTCOMES = ("tert_expression_log2", "immune_score", "survival, hazard", "survival, aft")
_QUICK = ("immune_score", "survival, hazard")


@dataclass(frozen=True)
class Cohort:
    """Patients with everything that one outcome needs; arrays (n,) and (n, columns)."""

    exposure: np.ndarray
    mediators: np.ndarray
    covariates: np.ndarray
    strata: np.ndarray
    outcome: Outcome
    table: pl.DataFrame


def measure(quick: bool, seed: int = 1) -> dict[str, Any]:
    """The chain to each outcome, and what is left of it with the mutation permuted."""
    if not FOLDER.exists():
        return {"glioma_chain": {"skipped": "the data are not here"}}
    clinical = pl.read_csv(FOLDER / "clinical.tsv", separator="\t", infer_schema_length=None)
    levels = pl.read_csv(FOLDER / "betas.tsv.gz", separator="\t", infer_schema_length=None)
    found: dict[str, Any] = {
        "q": Q, "mgmt_refused": _refuses_mgmt(clinical, levels),
        "exchangeable": "within age third by platform; strata, age and sex are covariates",
    }  # fmt: skip
    for name in _QUICK if quick else _OUTCOMES:
        cohort = _cohort(clinical, levels, name)
        found[name] = _chain(cohort, 12 if quick else 200, 100 if quick else 1000, seed)
    if not quick:
        own = ("tert_expression_log2", "codeletion_1p19q")
        cohort = _cohort(clinical, levels, *own)
        found["tert_expression_log2, codeletion given"] = _effects(cohort, 1000, seed)[0]
        found["survival through TERT"] = _through_expression(clinical, levels, 1000, seed)
    return {"glioma_chain": found}


def _composite(p_exposure: np.ndarray, p_outcome: np.ndarray) -> np.ndarray:
    return composite_null(p_exposure, p_outcome, q=Q).called


def _largest_p(p_exposure: np.ndarray, p_outcome: np.ndarray) -> np.ndarray:
    return false_discovery_control(np.maximum(p_exposure, p_outcome)) <= Q


def _cohort(clinical: pl.DataFrame, levels: pl.DataFrame, outcome: str, *others: str) -> Cohort:
    """Patients whose mutation, age, sex, platform and outcome are known; survival over 0."""
    survival = outcome.startswith("survival")
    needed = ["survival_months", "dead"] if survival else [outcome]
    table = clinical.drop_nulls(["age_years", "gender", "hm450", *needed, *others])
    if survival:
        table = table.filter(pl.col("survival_months") > 0)
    age = table["age_years"].to_numpy().astype(float)
    third = np.digitize(age, np.quantile(age, [1 / 3, 2 / 3]))
    strata = 2 * third + (table["hm450"] == "Yes").to_numpy()
    columns = [age, (table["gender"] == "male").to_numpy().astype(float)]
    columns += [(strata == s).astype(float) for s in np.unique(strata)[1:]]
    columns += [(table[name] == table[name].max()).to_numpy().astype(float) for name in others]
    held = table.select("patient").join(levels, on="patient", how="left", maintain_order="left")
    value = table[needed[0]].to_numpy().astype(float)
    if survival:
        kind: Any = outcome.rpartition(" ")[2]
        told = Outcome("dead", kind, value, table["dead"].to_numpy().astype(float))
    else:
        told = Outcome(outcome, "continuous", value)
    return Cohort(
        (table["idh_status"] == "Mutant").to_numpy().astype(float),
        held.drop("patient").to_numpy(), np.column_stack(columns), strata, told, table,
    )  # fmt: skip


def _effects(
    cohort: Cohort, bootstraps: int, seed: int, second: np.ndarray | None = None,
) -> tuple[dict[str, Any], Mediation, np.ndarray]:  # fmt: skip
    tried = screen(cohort.exposure, cohort.mediators, cohort.outcome, covariates=cohort.covariates)
    called = _composite(tried.p_exposure, tried.p_outcome)
    found = mediate(
        cohort.exposure, cohort.mediators[:, called], cohort.outcome,
        covariates=cohort.covariates, second=second, bootstraps=bootstraps, seed=seed,
    )  # fmt: skip
    told = {
        "patients": found.n, "informative": found.informative, "called": int(called.sum()),
        "unit": found.unit,
        "components": None if found.components is None else found.components.weights.shape[1],
        **{name: _numbers(getattr(found, name)) for name in ("total", "direct", "indirect")},
        "mediated_share": _numbers(found.share),
        "parts_over_total": (found.direct.value + found.indirect.value) / found.total.value,
    }  # fmt: skip
    return told, found, called


def _chain(cohort: Cohort, permutations: int, bootstraps: int, seed: int) -> dict[str, Any]:
    told, real, called = _effects(cohort, bootstraps, seed)
    rng = np.random.default_rng([seed, 1])
    whole, own, gross, calls, plain = [], [], [], [], []
    for _ in range(permutations):
        moved = _permuted(cohort, rng)
        tried = screen(moved, cohort.mediators, cohort.outcome, covariates=cohort.covariates)
        anew = _composite(tried.p_exposure, tried.p_outcome)
        calls.append(int(anew.sum()))
        plain.append(bool(_largest_p(tried.p_exposure, tried.p_outcome).any()))
        whole.append(_again(cohort, moved, anew).indirect.value if anew.any() else 0.0)
        fixed = _again(cohort, moved, called)
        own.append(fixed.indirect.value)
        gross.append(_gross(fixed))
    size = abs(real.indirect.value)
    told["permuted"] = {
        "permutations": permutations, "any_call": float(np.mean(np.array(calls) > 0)),
        "any_call_largest_p": float(np.mean(plain)), "most_called": max(calls),
        **_shares("chain", whole, size), **_shares("fixed", own, size),
        "fixed_gross_median_share": float(np.median(gross) / _gross(real)),
    }  # fmt: skip
    return told


def _gross(found: Mediation) -> float:
    """The size of all paths together, whichever way each goes."""
    return float(np.abs([effect.value for effect in found.own]).sum())


def _permuted(cohort: Cohort, rng: np.random.Generator) -> np.ndarray:
    """The mutation permuted within strata."""
    moved = cohort.exposure.copy()
    for stratum in np.unique(cohort.strata):
        rows = np.flatnonzero(cohort.strata == stratum)
        moved[rows] = moved[rng.permutation(rows)]
    return moved


def _again(cohort: Cohort, exposure: np.ndarray, called: np.ndarray) -> Mediation:
    return mediate(
        exposure, cohort.mediators[:, called], cohort.outcome, covariates=cohort.covariates,
        bootstraps=0,
    )  # fmt: skip


def _shares(name: str, values: list[float], size: float) -> dict[str, float]:
    share = np.abs(values) / size
    return {
        f"{name}_median_share": float(np.median(share)),
        f"{name}_mean_share": float(share.mean()),
        f"{name}_95th_share": float(np.quantile(share, 0.95)),
        f"{name}_mean_signed": float(np.mean(values) / size),
    }


def _through_expression(
    clinical: pl.DataFrame, levels: pl.DataFrame, bootstraps: int, seed: int
) -> dict[str, Any]:  # fmt: skip
    """IDH, probes, TERT expression, survival: two mediators in sequence."""
    cohort = _cohort(clinical, levels, "survival, hazard")
    known = cohort.table["tert_expression_log2"].is_not_null().to_numpy()
    event = cohort.outcome.events[known]
    cohort = Cohort(
        cohort.exposure[known], cohort.mediators[known],
        cohort.covariates[known][:, np.ptp(cohort.covariates[known], axis=0) > 0],
        cohort.strata[known],
        Outcome("dead", "hazard", cohort.outcome.value[known], event),
        cohort.table.filter(pl.Series(known)),
    )  # fmt: skip
    second = cohort.table["tert_expression_log2"].to_numpy().astype(float)
    told, found, _ = _effects(cohort, bootstraps, seed, second)
    assert found.second is not None
    assert found.last is not None
    return told | {
        "through_probes_and_tert_or_tert_alone": _numbers(found.last),
        "through_tert_alone": _numbers(found.second),
    }


def _refuses_mgmt(clinical: pl.DataFrame, levels: pl.DataFrame) -> bool:
    """Whether MGMT status, which is computed from methylation, is refused as an outcome."""
    sheet = clinical.rename({"patient": "sample"})
    names = tuple(levels.columns[1:9])
    mediators = Mediators(levels.select(names).to_numpy(), tuple(levels["patient"]), names)
    question = Question("idh_status=Mutant", "mgmt_promoter_status=Methylated", kind="cohort")
    try:
        trace_study(sheet, mediators, question, bootstraps=0)
    except MelismaError as error:
        return "derived from methylation" in str(error)
    return False


def _numbers(effect: Any) -> list[float | None]:
    """Value, error, low, high."""
    return list(effect[:4])
