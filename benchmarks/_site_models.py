"""Models whose sites are traced: one of simulated motifs, one of 6mA, one of lone CpGs.

Settings were chosen by validation loss and time: each is trained in some minutes on one core.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import _idna_ms, _imr90
from melisma.sequence._recipe import Recipe
from melisma.sequence.checkpoint import Model, strand_views
from melisma.sequence.encodings import Codes
from melisma.sequence.examples import TEST, SequenceExamples
from melisma.sequence.experiments import dinucleotide_shuffle, matches, with_motif
from melisma.sequence.model import ModelConfig
from melisma.sequence.windows import FixedWindows
from melisma.trace.site import SiteEffects, shuffled_around_site, site_effects

SHUFFLES = 20
# Log odds between windows with a simulated motif and those without are twice this.
EFFECT = 4.0
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


def put(codes: Codes, motif: str, seed: int, start: int | None = None) -> tuple[Codes, np.ndarray]:
    """Windows with a motif put in, at a place of its own in each, and the places."""
    rng = np.random.default_rng(seed)
    room = codes.shape[1] - len(motif) + 1
    places = np.full(len(codes), start) if start is not None else rng.integers(0, room, len(codes))
    changed = codes.copy()
    for place in np.unique(places):
        rows = places == place
        changed[rows] = with_motif(codes[rows], motif, int(place), seed=seed + int(place))
    return changed, places


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
        codes[rows] = put(codes[rows], motif, seed + 7 * k, PLACES[word])[0]
    held = np.stack([holds(codes, word, motif) for word, motif in motifs.items()], axis=1)
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
        lacking = fresh[~holds(fresh, word, motif)]
        asked[word] = Asked(model, lacking, None, None, 2, head), motif
    return asked


def _with_a_cpg(rng: np.random.Generator, n: int) -> Codes:
    """Random windows with a CpG in the middle."""
    codes = rng.integers(0, 4, (n, WIDTH)).astype(np.uint8)
    codes[:, WIDTH // 2], codes[:, WIDTH // 2 + 1] = 1, 2
    return codes


def holds(codes: Codes, word: str, motif: str) -> np.ndarray:
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
