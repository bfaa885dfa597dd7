"""Traces of sites: do they add up, are they true to the network, do they find what was put in?

Rules that were set before any figure was seen. A window *moves* when a motif that is put into it
changes its log odds by more than 0.5; beside it stands the share that moves by more than 95% of
random words of the same length do at the same places. The *top* base of a moved window is the one
that, after the motif was put in, carries most in the direction of the move, against shuffles around
the site; it should be one of the bases that were put in.

What stands beside a real motif's own figures came after them: windows where it exchanges every base
beside the site, windows shuffled around the site, and the base whose contribution rises most.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import _idna_ms, _imr90
from benchmarks._site_models import PLACES, SHUFFLES, Asked, idna, imr90, put, simulated
from melisma.network import Network
from melisma.sequence.encodings import Codes
from melisma.sequence.experiments import matches, motif_bases
from melisma.trace.attribute import COMPLETE
from melisma.trace.faithfulness import curve, random_curves, shuffled_weights, spearman, toward
from melisma.trace.site import SiteEffects

MOVES = 0.5
# Random words that stand beside a motif.
CONTROLS = 200


def measure(quick: bool, seed: int) -> dict[str, Any]:
    """Completeness, faithfulness and motif insertion, on simulated and, in full, real models."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        made = simulated(Path(folder) / "simulated", seed=seed, quick=quick)
        some, many = (3, 6) if quick else (40, 100)
        found = _faithful(made, "simulated", some, seed)
        inserted = {
            word: _inserted(one, motif, many, seed, start=PLACES[word])
            for word, (one, motif) in made.items()
        }
        found |= {"motif_insertion": inserted, "simulated": True}
        if not quick:
            found["real"] = _real(Path(folder), some, many, seed)
    return found


def _real(folder: Path, some: int, many: int, seed: int) -> dict[str, Any]:
    """The same of models of real sites, where the data are at hand."""
    found: dict[str, Any] = {}
    tasks: list[tuple[str, bool, Callable[..., Asked], str]] = [
        ("GATC", _idna_ms.available(), idna, "6mA_T.thermophile"),
        ("WCGW", _imr90.FASTA.exists(), imr90, "imr90"),
    ]
    for word, there, make, name in tasks:
        if there:
            asked = make(folder / name, seed=seed)
            found[name] = _of_real(asked, word, some, many, seed)
    return found


def _of_real(asked: Asked, word: str, some: int, many: int, seed: int) -> dict[str, Any]:
    # GATC with its A, and WCGW with its C, where the site is.
    start = asked.codes.shape[1] // 2 - 1

    def chosen(windows: Asked, keep: np.ndarray) -> Asked:
        rows = np.flatnonzero(keep)[:many]
        return windows.of(windows.codes[rows], rows)

    lacking = ~matches(asked.codes, word)[:, start]
    windows = chosen(asked, lacking)
    flat = np.stack([windows.shuffled(k, 1, seed)[0] for k in range(len(windows.codes))])
    plain = windows.of(flat, slice(None))
    kinds = {
        word: windows,
        f"{word}, every base new": chosen(asked, _all_new(asked, word, start)),
        f"{word} in shuffled windows": chosen(plain, ~matches(flat, word)[:, start]),
    }
    found = _faithful({word: (asked, word)}, word, some, seed, complete=many)
    return found | {
        "motif_insertion": {
            name: _inserted(one, word, many, seed, start=start, more=name == word)
            for name, one in kinds.items()
        }
    }


def _all_new(asked: Asked, word: str, start: int) -> np.ndarray:
    """(n,), whether all bases that a word puts beside the site are others than the window's."""
    allowed = np.concatenate([motif_bases(word), np.zeros((len(word), 1), bool)], axis=1)
    site = asked.codes.shape[1] // 2 + np.arange(asked.site)
    beside = np.setdiff1d(start + np.arange(len(word)), site)
    return np.all([~allowed[at - start][asked.codes[:, at]] for at in beside], axis=0)


# ---------------------------------------------------------------- measures


def _faithful(
    made: dict[str, tuple[Asked, str]], of: str, some: int, seed: int, complete: int | None = None
) -> dict[str, Any]:
    """Completeness of many windows; curves and randomised weights of some of them.

    Simulated windows get their motif first: without it there is little to be explained.
    """
    errors, flagged = [], 0
    areas: dict[str, list[np.ndarray]] = {}
    correlations = []
    for word, (asked, motif) in made.items():
        n = complete or some
        if of == "simulated":
            asked = asked.of(put(asked.codes[:n], motif, seed, PLACES[word])[0], slice(0, n))
        for row in range(n):
            effects, others = asked.effects(row, seed)
            errors.append(effects.completeness_error)
            flagged += effects.completeness_error > COMPLETE
            if row < some:
                _add_curves(areas, asked, row, effects, others, seed)
            if row < max(some // 4, 2):
                correlations.append(_randomised(asked, row, effects, seed))
    share = {name: np.sum(told, axis=0) for name, told in areas.items()}
    auc = {name: round(float(told[0] / told[1]), 4) for name, told in share.items()}
    return {
        "completeness_error_dna": {
            "p95": float(f"{np.quantile(errors, 0.95):.3g}"),
            "share_within_5_percent": float(np.mean(np.array(errors) <= COMPLETE)),
            "not_converged": int(flagged), "windows": len(errors), "shuffles": SHUFFLES,
        },
        **{
            f"{kind}_auc": {"method": auc[f"{kind} method"], "random": auc[f"{kind} random"]}
            for kind in ("deletion", "insertion")
        },
        "randomised": {
            "rank_correlation": round(float(np.nanmean([c[0] for c in correlations])), 4),
            "absolute": round(float(np.nanmean([c[1] for c in correlations])), 4),
        },
    }  # fmt: skip


def _add_curves(
    areas: dict[str, list[np.ndarray]], asked: Asked, row: int, effects: SiteEffects,
    others: Codes, seed: int,
) -> None:  # fmt: skip
    """One window's curves from and to each of its shuffles: areas, and what they are a share of."""
    network = Network(asked.model.members[0])
    told = {
        name: value.expand(SHUFFLES, *value.shape[1:])
        for name, value in asked.batch(row).items()
        if value is not None
    }
    window, empty = (
        network.adapter.encode(torch.from_numpy(np.ascontiguousarray(codes)))
        for codes in (np.repeat(asked.codes[row][None], SHUFFLES, 0), others)
    )
    value = torch.from_numpy(effects.by_base)[None].expand(SHUFFLES, -1)
    order = toward(value, torch.full((SHUFFLES,), float(effects.difference.mean())))

    def metric(output: Any, _: dict[str, Any]) -> torch.Tensor:
        return output.logit[:, asked.head] / asked.model.temperature[asked.head]

    sign = np.sign(effects.difference.mean())
    for kind in ("deletion", "insertion"):
        asking: dict[str, Any] = {
            "baseline": network.adapter.embed(empty), "kind": kind, "steps": 10,
        }  # fmt: skip
        own = curve(network, window | told, metric, order, **asking)
        chance = random_curves(network, window | told, metric, draws=2, seed=seed + row, **asking)
        for name, curves in (("method", [own]), ("random", chance)):
            for one in curves:
                # Toward the window's own mean difference, so that shuffles beyond it count less.
                height = torch.trapezoid(one.value - one.baseline, one.share, dim=0).mean()
                whole = (one.whole - one.baseline).mean()
                areas.setdefault(f"{kind} {name}", []).append(
                    sign * np.array([float(height), float(whole)])
                )


def _randomised(asked: Asked, row: int, effects: SiteEffects, seed: int) -> tuple[float, float]:
    """Rank correlation with the attribution of the same network with shuffled weights."""
    for k, member in enumerate(asked.model.members):
        with shuffled_weights(member, seed=seed + 31 * row + k):
            other, _ = asked.effects(row, seed)
    a, b = (torch.from_numpy(each.by_base)[None] for each in (effects, other))
    return float(spearman(a, b)), float(spearman(a.abs(), b.abs()))


def _inserted(
    asked: Asked, motif: str, many: int, seed: int, start: int | None = None, more: bool = False
) -> dict[str, Any]:
    """How many windows move by a motif, and in how many of those the top base was put in.

    With `more`, also in how many the base was put in whose contribution rises most in the
    direction of the move, from the window without the motif to that with it.
    """
    some = asked.of(asked.codes[:many], slice(0, many))
    before = some.log_odds()
    codes, places = put(some.codes, motif, seed, start)
    after = some.of(codes, slice(None))
    change = after.log_odds() - before
    control = _controls(some, before, places, motif, seed)
    moved, beyond = np.flatnonzero(np.abs(change) > MOVES), np.quantile(control, 0.95)
    inside, risen = [], []
    for row in moved:
        new = np.arange(places[row], places[row] + len(motif))
        sign, own = np.sign(change[row]), after.effects(int(row), seed)[0].by_base
        inside.append(np.argmax(sign * own) in new)
        if more:
            without = some.effects(int(row), seed)[0].by_base
            risen.append(np.argmax(sign * (own - without)) in new)
    return {
        "motif": motif, "windows": len(before),
        "moved": round(len(moved) / len(before), 4),
        "top_inside": round(float(np.mean(inside)), 4) if inside else None,
        **({"top_rise_inside": round(float(np.mean(risen)), 4)} if risen else {}),
        "moved_beyond_random": round(float((np.abs(change) > beyond).mean()), 4),
        "random_words_moved": round(float((control > MOVES).mean()), 4),
        "median_change": round(float(np.median(change)), 4),
    }  # fmt: skip


def _controls(
    asked: Asked, before: np.ndarray, places: np.ndarray, motif: str, seed: int
) -> np.ndarray:
    """Changes of random words at the same places, sizes alone: words that are not the motif.

    The site's own bases stay.
    """
    rng = np.random.default_rng(seed + 1)
    rows = rng.integers(0, len(asked.codes), CONTROLS)
    codes = asked.codes[rows].copy()
    middle, length = codes.shape[1] // 2, len(motif)
    fixed = np.arange(middle, middle + asked.site)
    for k, row in enumerate(rows):
        codes[k, places[row] : places[row] + length] = rng.integers(0, 4, length)
        codes[k, fixed] = asked.codes[row, fixed]
    other = ~matches(codes, motif)[np.arange(CONTROLS), places[rows]]
    change = asked.of(codes, rows).log_odds() - before[rows]
    return np.abs(change[other])


__all__ = ["measure"]
