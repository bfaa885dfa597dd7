"""The 17 data sets of iDNA-MS: windows of 41 bases, modified at the centre or not.

Sites of 6mA and 4mC were called from SMRT sequencing, and those of eukaryotes are disputed: the
labels are "SMRT-called sites". Test windows share words with training windows in several sets, so
scores are given with and without those that do.
"""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from melisma.sequence.encodings import Codes, encode
from melisma.sequence.environment import Environment
from melisma.sequence.examples import SequenceExamples
from melisma.sequence.windows import FixedWindows

FOLDER = Path(__file__).parents[2] / "shared/data/reference/idna_ms"
# Not in the means that are compared; the second has no published score.
NOT_IN_MEAN = ("6mA_T.thermophile", "6mA_Tolypocladium")
VALIDATION_SHARE = 0.1
# Of one set: more would let the largest fill every epoch.
MOST_OF_A_SET = 40_000


class Windows(NamedTuple):
    """codes: uint8 (n, 41); label: float32 (n,); of: int64 (n,), index into `names`."""

    names: tuple[str, ...]
    codes: Codes
    label: np.ndarray
    of: np.ndarray


def available() -> bool:
    """Whether the data are at hand."""
    return (FOLDER / "published_and_baseline.tsv").exists()


def published() -> pl.DataFrame:
    """The published scores by data set, and those of linear k-mers."""
    return pl.read_csv(FOLDER / "published_and_baseline.tsv", separator="\t")


def read(part: str) -> Windows:
    """All sets' `train` or `test` windows."""
    names = tuple(name.replace(" ", "_") for name in published()["dataset"])
    codes, labels, of = [], [], []
    for k, name in enumerate(names):
        with gzip.open(FOLDER / f"{name}.{part}.tsv.gz") as file:
            table = pl.read_csv(file.read(), separator="\t")
        codes.append(encode(table["sequence"].to_list()))
        labels.append(table["label"].cast(pl.Float32).to_numpy())
        of.append(np.full(len(table), k))
    return Windows(names, np.concatenate(codes), np.concatenate(labels), np.concatenate(of))


def sheet(windows: Windows) -> dict[str, list[str]]:
    """mark and species of every window."""
    mark, species = zip(*(name.split("_", 1) for name in windows.names), strict=True)
    return {
        "mark": [mark[k] for k in windows.of],
        "species": [species[k] for k in windows.of],
    }


def examples(
    windows: Windows, *, seed: int, validation: float = VALIDATION_SHARE
) -> SequenceExamples:
    """Training examples, a share of each set for validation, the largest set cut to a part.

    The validation part is drawn by set, so that the smallest has one; no test window is read.
    """
    rng = np.random.default_rng(seed)
    parts = np.zeros(len(windows.codes), np.int8)
    for k in range(len(windows.names)):
        rows = rng.permutation(np.flatnonzero(windows.of == k))
        parts[rows[MOST_OF_A_SET:]] = -1
        rows = rows[:MOST_OF_A_SET]
        parts[rows[: max(round(validation * len(rows)), 1)]] = 1
    told = sheet(windows)
    environment = Environment.learn(told, ["mark", "species"])
    return SequenceExamples(
        FixedWindows(windows.codes),
        windows.label[:, None],
        np.ones((len(windows.label), 1), np.float32),
        parts,
        environment=environment,
        rows=environment.encode(told).values,
    )
