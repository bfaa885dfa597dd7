"""Traces of sites: do they add up, are they true to the network, do they find what was put in?

Rules that were set before any figure was seen. A window *moves* when a motif that is put into it
changes its log odds by more than 0.5; beside it stands the share that moves by more than 95% of
random words of the same length do at the same places. The *top* base of a moved window is the one
that, after the motif was put in, carries most in the direction of the move, against shuffles around
the site; it should be one of the bases that were put in.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import _idna_ms, _imr90
from melisma.network import Network
from melisma.sequence._recipe import Recipe
from melisma.sequence.checkpoint import Model, strand_views
from melisma.sequence.encodings import Codes
from melisma.sequence.examples import TEST, SequenceExamples
from melisma.sequence.experiments import dinucleotide_shuffle, matches, with_motif
from melisma.sequence.model import ModelConfig
from melisma.sequence.windows import FixedWindows
from melisma.trace.attribute import COMPLETE
from melisma.trace.faithfulness import curve, random_curves, shuffled_weights, spearman, toward
from melisma.trace.site import SiteEffects, shuffled_around_site, site_effects

MOVES = 0.5
SHUFFLES = 20
# Log odds that a planted motif adds, and random words that stand beside a motif.
EFFECT, CONTROLS = 4.0, 200
WIDTH = 41
WORDS = ("GATC", "WCGW", "random")
# Where a simulated motif counts: GATC twelve bases before the CpG, WCGW as the CpG's own
# neighbours, the random word anywhere.
PLACES = {"GATC": WIDTH // 2 - 12, "WCGW": WIDTH // 2 - 1, "random": None}
WINDOWS, QUICK_WINDOWS = 40_000, 6_000


class Asked(NamedTuple):
    """A model, what it is told, and windows that it never saw.

    codes : uint8 (n, width); surroundings : float32 (n, scales, 5), or None
    site : bases of a site
    """

    model: Model
    codes: Codes
    environment: Any
    surroundings: Any
    site: int
    head: int = 0

    def of(self, codes: Codes, rows: Any) -> "Asked":
        around = None if self.surroundings is None else self.surroundings[rows]
        return self._replace(codes=codes, surroundings=around)

    def log_odds(self) -> np.ndarray:
        """(n,), a mean over networks, after temperature."""
        told = self.model.logits(self.codes, self.environment, surroundings=self.surroundings)
        return told.mean(0)[:, self.head] / self.model.temperature[self.head]

    def effects(self, row: int, seed: int) -> tuple[SiteEffects, Codes]:
        """One window's trace, and its shuffles."""
        others, model = self.shuffled(row, SHUFFLES, seed), self.model
        found = site_effects(
            model.members, self.codes[row], others, self.batch(row), head=self.head,
            temperature=model.temperature[self.head],
            views=strand_views if model.symmetric else None,
        )  # fmt: skip
        return found, others

    def shuffled(self, row: int, n: int, seed: int) -> Codes:
        return shuffled_around_site(
            self.codes[row], n, self.site,
            lambda part, n: dinucleotide_shuffle(part, n, seed=seed + row),
        )  # fmt: skip

    def batch(self, row: int) -> dict[str, Any]:
        told = self.environment if self.model.environment.width else None
        around = None if self.surroundings is None else self.surroundings[row : row + 1]
        return {
            "environment": None if told is None else torch.from_numpy(np.array(told)),
            "surroundings": None if around is None else torch.from_numpy(around),
        }


def measure(quick: bool, seed: int) -> dict[str, Any]:
    """Completeness, faithfulness and motif insertion, on simulated and, in full, real models."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        made = simulated(Path(folder) / "simulated", seed=seed, quick=quick)
        some, many = (4, 8) if quick else (40, 100)
        found = _faithful(made, "simulated", some, seed)
        inserted = {
            word: _inserted(one, motif, many, seed, start=PLACES[word])
            for word, (one, motif) in made.items()
        }
        found |= {"motif_insertion": inserted, "simulated": True}
        if not quick:
            found["real"] = _real(Path(folder), some, many, seed)
    return found


# ---------------------------------------------------------------- models


def simulated(out: Path, *, seed: int, quick: bool) -> dict[str, tuple[Asked, str]]:
    """A network trained on random windows around a CpG, whose labels follow planted motifs.

    Every motif has a mark of its own, so that each is the others' control.

    Returns
    -------
    by word of `WORDS`: the model with windows without the motif, and the motif
    """
    from melisma.sequence.train import train

    rng = np.random.default_rng(seed)
    motifs = {"GATC": "GATC", "WCGW": "WCGW", "random": "".join(rng.choice(list("ACGT"), 6))}
    n = QUICK_WINDOWS if quick else WINDOWS
    codes = _with_a_cpg(rng, n)
    for k, (word, motif) in enumerate(motifs.items()):
        rows = rng.random(n) < 0.5
        codes[rows] = _put(codes[rows], motif, seed + 7 * k, PLACES[word])[0]
    held = np.stack([_holds(codes, word, motif) for word, motif in motifs.items()], axis=1)
    label = rng.random(held.shape) < 1 / (1 + np.exp(-EFFECT * (2 * held - 1)))
    examples = SequenceExamples(
        FixedWindows(codes), label.astype(np.float32), np.ones(held.shape, np.float32),
        np.where(rng.random(n) < 0.1, 1, 0).astype(np.int8), heads=WORDS,
    )  # fmt: skip
    config = ModelConfig(
        width=WIDTH, heads=WORDS, channels=16, dilations=(1, 2), hidden=32, read_out=4, dropout=0.0
    )
    recipe = Recipe(epochs=6 if quick else 8, batch=128, rate=1e-2, patience=8, seed=seed)
    model = train(examples, config, recipe, out)
    fresh = _with_a_cpg(rng, 2000)
    asked: dict[str, tuple[Asked, str]] = {}
    for head, (word, motif) in enumerate(motifs.items()):
        lacking = fresh[~_holds(fresh, word, motif)]
        asked[word] = Asked(model, lacking, None, None, 2, head), motif
    return asked


def _with_a_cpg(rng: np.random.Generator, n: int) -> Codes:
    """Random windows with a CpG in the middle."""
    codes = rng.integers(0, 4, (n, WIDTH)).astype(np.uint8)
    codes[:, WIDTH // 2], codes[:, WIDTH // 2 + 1] = 1, 2
    return codes


def _holds(codes: Codes, word: str, motif: str) -> np.ndarray:
    """(n,), whether a window holds a motif where it counts."""
    at = matches(codes, motif)
    place = PLACES[word]
    return at.any(1) if place is None else at[:, place]


def idna(out: Path, *, seed: int) -> Asked:
    """Test windows of Tetrahymena's 6mA, whose training sites hold GATC eight times as often."""
    from benchmarks.sequence import idna_config, idna_recipe
    from melisma.sequence.train import train

    examples = _idna_ms.examples(_idna_ms.read("train"), seed=seed)
    recipe = idna_recipe(
        seed=seed, members=1, epochs=3, epoch_examples=60_000, validation_examples=10_000
    )
    model = train(examples, idna_config(examples.environment.width), recipe, out)
    return idna_windows(model, seed)


def idna_windows(model: Model, seed: int) -> Asked:
    test = _idna_ms.read("test")
    rows = np.flatnonzero(test.of == test.names.index("6mA_T.thermophile"))
    rows = np.random.default_rng(seed).permutation(rows)
    told = model.environment.encode_one({"mark": "6mA", "species": "T.thermophile"}).values
    return Asked(model, test.codes[rows], told, None, 1)


def imr90(out: Path, *, seed: int) -> Asked:
    """Held-out lone CpGs of IMR90, where WCGW goes with lost methylation."""
    from melisma.genome import Genome
    from melisma.sequence.defaults import default_config
    from melisma.sequence.train import train

    methylome, genome = _imr90.read(), Genome.open(_imr90.FASTA)
    examples = _imr90.examples(methylome, genome, 201, 0)
    recipe = Recipe(
        epochs=4, rate=3e-3, weight_decay=0.05, symmetric=True, seed=seed, epoch_examples=40_000,
        validation_examples=8_000, patience=4,
    )  # fmt: skip
    config = default_config(examples, counts=True, **_imr90.NARROW)
    model = train(examples, config, recipe, out)
    return imr90_windows(model, examples, methylome, genome, seed)


def imr90_windows(model: Model, examples: Any, methylome: Any, genome: Any, seed: int) -> Asked:
    from melisma.sequence.flanks import flank_class

    batch = next(iter(examples.batches(TEST, 8000, seed=seed)))
    lone = flank_class(genome.bases("chr22"), methylome["position"].values[batch.rows]) >= 0
    return Asked(model, batch.codes[lone], None, batch.surroundings[lone], 2)


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
    lacking = np.flatnonzero(~matches(asked.codes, word)[:, start])
    kept = asked.of(asked.codes[lacking], lacking)
    found = _faithful({word: (asked, word)}, word, some, seed, complete=many)
    # The same windows shuffled around the site, where nothing else was written by evolution.
    flat = kept.of(kept.codes[:many].copy(), slice(0, many))
    for row in range(len(flat.codes)):
        flat.codes[row] = flat.shuffled(row, 1, seed)[0]
    without = ~matches(flat.codes, word)[:, start]
    flat = flat.of(flat.codes[without], without)
    return found | {
        "motif_insertion": {
            word: _inserted(kept, word, many, seed, start=start, more=True),
            f"{word} in shuffled windows": _inserted(flat, word, many, seed, start=start),
        }
    }


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
            asked = asked.of(_put(asked.codes[:n], motif, seed, PLACES[word])[0], slice(0, n))
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


def _put(codes: Codes, motif: str, seed: int, start: int | None = None) -> tuple[Codes, np.ndarray]:
    """Windows with a motif put in, at a place of its own in each, and the places."""
    rng = np.random.default_rng(seed)
    room = codes.shape[1] - len(motif) + 1
    places = np.full(len(codes), start) if start is not None else rng.integers(0, room, len(codes))
    changed = codes.copy()
    for place in np.unique(places):
        rows = places == place
        changed[rows] = with_motif(codes[rows], motif, int(place), seed=seed + int(place))
    return changed, places


def _inserted(
    asked: Asked, motif: str, many: int, seed: int, start: int | None = None, more: bool = False
) -> dict[str, Any]:
    """How many windows move by a motif, and in how many of those the top base was put in.

    With `more`, also in how many the base was put in whose contribution rises most in the
    direction of the move, from the window without the motif to that with it.
    """
    some = asked.of(asked.codes[:many], slice(0, many))
    before = some.log_odds()
    codes, places = _put(some.codes, motif, seed, start)
    after = some.of(codes, slice(None))
    change = after.log_odds() - before
    control = _controls(some, before, places, motif, seed)
    moved, beyond = np.flatnonzero(np.abs(change) > MOVES), np.quantile(control, 0.95)
    inside, risen = [], []
    for row in moved:
        put = np.arange(places[row], places[row] + len(motif))
        sign, own = np.sign(change[row]), after.effects(int(row), seed)[0].by_base
        inside.append(np.argmax(sign * own) in put)
        if more:
            without = some.effects(int(row), seed)[0].by_base
            risen.append(np.argmax(sign * (own - without)) in put)
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
