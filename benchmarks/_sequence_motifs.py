"""What the models of iDNA-MS read: motifs of mutagenesis, by set, around SMRT-called sites."""

from typing import Any

import numpy as np

from benchmarks import _idna_ms
from melisma.sequence.checkpoint import Model
from melisma.sequence.motifs import contributions, find_motifs, find_seqlets
from melisma.sequence.mutagenesis import mutagenesis

WINDOWS, SHOWN = 400, 4


def motifs(model: Model) -> dict[str, Any]:
    """The motifs of most seqlets by set: consensus with the modified base's place, and counts.

    Training windows that are labelled as sites; every base of a window may matter, so the seqlets
    of the modified base itself are kept.
    """
    windows = _idna_ms.read("train")
    told = _idna_ms.sheet(windows)
    found: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for k, name in enumerate(windows.names):
        sites = np.flatnonzero((windows.of == k) & (windows.label == 1))
        rows = rng.permutation(sites)[:WINDOWS]
        codes = windows.codes[rows]
        one = {column: told[column][int(rows[0])] for column in ("mark", "species")}
        environment = model.environment.encode_one(one).values
        effect = mutagenesis(model, codes, environment).effect
        value = contributions(codes, effect)
        middle = codes.shape[1] // 2
        made = find_motifs(codes, value, find_seqlets(value, width=5, skip=[middle]), flank=3)
        found[name] = {
            "motifs": [
                {
                    "consensus": motif.consensus, "first_base": motif.offset,
                    "seqlets": motif.seqlets, "windows": len(rows), "raises": motif.positive,
                }
                for motif in made[:SHOWN]
            ],
            "preferred": _preferred(codes, effect),
        }  # fmt: skip
    return found


def _preferred(codes: Any, effect: Any) -> dict[str, str]:
    """By place from the site, the base that raises the level most, and by how much, where that is
    a third of the strongest place's or more; every window counts, with the base or without."""
    middle = codes.shape[1] // 2
    mean = np.nanmean(effect - np.nanmean(effect, axis=2, keepdims=True), axis=0)  # (width, 4)
    mean[middle] = 0.0
    strength = mean.max(axis=1)
    kept = np.flatnonzero(strength >= strength.max() / 3)
    return {f"{k - middle:+d}": f"{'ACGT'[int(mean[k].argmax())]} {strength[k]:+.3f}" for k in kept}
