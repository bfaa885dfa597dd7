"""What a model reads around sites: contributions of bases, motifs, and files other tools take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.checkpoint import Model
from melisma.sequence.encodings import UNKNOWN, Codes
from melisma.sequence.motifs import Motif, contributions, find_motifs, find_seqlets
from melisma.sequence.mutagenesis import mutagenesis
from melisma.sequence.predict import Sites, head_of, strands_of
from melisma.sequence.windows import GenomeWindows

Floats = npt.NDArray[np.floating[Any]]


class Explanation(NamedTuple):
    """What mutagenesis says of some sites.

    sites : the sites, in order
    codes : uint8 (n, width), their windows
    level : float32 (n,), predicted
    effect : float32 (n, width, 4), the level with another base there less `level`
    motifs : the motifs of the windows' own bases, the one of most seqlets first
    """

    sites: Sites
    codes: Codes
    level: npt.NDArray[np.float32]
    effect: npt.NDArray[np.float32]
    motifs: tuple[Motif, ...]

    @property
    def contribution(self) -> Floats:
        """What each window's own bases add, (n, width)."""
        return contributions(self.codes, self.effect)

    def by_position(self) -> Floats:
        """What each base does at each position, (4, width), its mean over the windows; against
        the mean of the four bases there, so that every column sums to 0."""
        seen = (self.codes < UNKNOWN)[:, :, None]
        against = self.effect - np.nanmean(np.where(seen, self.effect, 0.0), 2, keepdims=True)
        total = np.where(seen, against, 0.0).sum(axis=0)
        return (total / np.maximum(seen.sum(axis=0), 1)).T


def explain(
    model: Model,
    genome: Genome,
    sites: Sites,
    *,
    environment: Mapping[str, Any] | None = None,
    mark: str | None = None,
    most: int = 500,
    seqlet: int = 6,
    seed: int = 1,
) -> Explanation:
    """Exchange every base around sites and gather what mattered.

    Parameters
    ----------
    sites : where; of more than `most` a random sample is taken
    environment : a value for each column that the model was told; what is left out is the mean
    mark : a head's code; None for the model's first
    most : sites at most; each takes some hundreds of mutated windows
    seqlet : bases of a stretch that motifs are made of

    Raises
    ------
    MelismaError
        There is no site, the environment is not known, or a seqlet is longer than the window.
    """
    if not len(sites.position):
        raise MelismaError("There is no site to explain.")
    if len(sites.position) > most:
        kept = np.sort(np.random.default_rng(seed).permutation(len(sites.position))[:most])
        sites = sites.of(kept)
    head, code = head_of(model, mark)
    told = model.environment.encode_one(environment or {}).values
    windows = GenomeWindows(
        genome, sites.contigs, sites.contig, sites.position, strands_of(genome, sites, code),
        model.config.width, model.config.surroundings,
    )  # fmt: skip
    rows = np.arange(len(sites.position))
    codes, around = windows.codes(rows), windows.surroundings(rows)
    level = np.empty(len(rows), np.float32)
    effect = np.empty((*codes.shape, 4), np.float32)
    with progress.stage("Mutating windows", len(rows)) as advance:
        for start in range(0, len(rows), 16):
            at = slice(start, start + 16)
            found = mutagenesis(model, codes[at], told, surroundings=around[at], head=head)
            level[at], effect[at] = found
            advance(len(codes[at]))
    value = contributions(codes, effect)
    middle = codes.shape[1] // 2
    # The modified base, and a CpG's G, stand in every window.
    shared = [k for k in range(codes.shape[1]) if (codes[:, k] == codes[0, k]).all()]
    seqlets = find_seqlets(value, width=seqlet, skip=[middle, *shared], seed=seed)
    motifs = find_motifs(codes, value, seqlets, fewest=max(5, len(rows) // 25))
    return Explanation(sites, codes, level, effect, tuple(motifs))


def motif_table(motifs: tuple[Motif, ...], windows: int) -> pl.DataFrame:
    """The motifs as a table: motif, consensus, seqlets, share (of the windows), first_base (from
    the site), raises, contribution (the sum over its bases)."""
    rows = [
        {
            "motif": k, "consensus": motif.consensus, "seqlets": motif.seqlets,
            "share": motif.seqlets / windows, "first_base": motif.offset,
            "raises": motif.positive, "contribution": float(motif.importance.sum()),
        }
        for k, motif in enumerate(motifs)
    ]  # fmt: skip
    types = {
        "motif": pl.Int64, "consensus": pl.String, "seqlets": pl.Int64, "share": pl.Float64,
        "first_base": pl.Int64, "raises": pl.Boolean, "contribution": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=types)


def write_meme(path: Path, motifs: tuple[Motif, ...]) -> None:
    """The motifs in MEME's minimal format, version 4."""
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: +", ""]
    for k, motif in enumerate(motifs):
        rows = motif.frequency.T
        lines += [
            f"MOTIF {k} {motif.consensus}",
            f"letter-probability matrix: alength= 4 w= {len(rows)} nsites= {motif.seqlets} E= 0",
            *(" ".join(f"{value:.6f}" for value in row / row.sum()) for row in rows),
            "",
        ]
    path.write_text("\n".join(lines) + "\n")


def write_modisco(folder: Path, found: Explanation) -> None:
    """`ohe.npz` and `contributions.npz` as tf-modisco's command line reads them.

    Each holds one array `arr_0`, float32 (n, 4, width): one-hot bases, and hypothetical
    contributions (what each of the four bases would add there, against their mean).
    """
    seen = (found.codes < UNKNOWN)[:, :, None]
    hypothetical = np.where(
        seen, found.effect - np.nanmean(np.where(seen, found.effect, 0.0), 2, keepdims=True), 0.0
    )
    one_hot = (found.codes[:, :, None] == np.arange(4)).astype(np.float32)
    np.savez_compressed(folder / "ohe.npz", one_hot.transpose(0, 2, 1))
    np.savez_compressed(
        folder / "contributions.npz", hypothetical.transpose(0, 2, 1).astype(np.float32)
    )


def along_genome(found: Explanation, genome: Genome, mark: str) -> pl.DataFrame:
    """Contributions of the genome's bases: contig, position, level (the contribution); a base in
    several windows has a row of each."""
    strand = strands_of(genome, found.sites, mark)
    half = found.codes.shape[1] // 2
    offset = np.arange(-half, half + 1)
    place = found.sites.position[:, None] + np.where(strand[:, None] < 0, -1, 1) * offset
    known = (found.codes < UNKNOWN).ravel()
    contig = np.repeat(found.sites.contig, len(offset))[known]
    return pl.DataFrame(
        {
            "contig": pl.Series(found.sites.contigs, dtype=pl.String).gather(contig),
            "position": place.ravel()[known],
            "level": found.contribution.ravel()[known].astype(np.float32),
        }
    )
