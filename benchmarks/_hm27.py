"""27,578 human CpGs of 16 occipital cortices: 122 bases each, and the mean level.

Positions in the file are of another build than its column says, so only the sequences are used.
Contigs are those of the probes; 8, 9 and 20 to 22 are held out for testing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from melisma.sequence.encodings import encode
from melisma.sequence.examples import SequenceExamples
from melisma.sequence.splits import by_contig
from melisma.sequence.windows import FixedWindows

FILE = Path(__file__).parents[2] / "shared/data/reference/hm27_brain/hm27_sequences.tsv.gz"
TEST = ("chr8", "chr9", "chr20", "chr21", "chr22")
VALIDATION = ("chr5", "chr12")


def read() -> pl.DataFrame:
    """The probes whose level and sequence are known."""
    table = pl.read_csv(FILE, separator="\t", null_values=["NA", ""], infer_schema_length=None)
    return table.filter(
        pl.col("mean_beta_occ16").is_not_null() & pl.col("top_seq122").str.contains(r"\[CG\]")
    )


def examples(table: pl.DataFrame) -> SequenceExamples:
    """Windows of 123 bases with the CpG's C in the middle; the level counts as one read."""
    codes = encode(("N" + table["top_seq122"].str.replace_all(r"[\[\]]", "")).to_list())
    level = table["mean_beta_occ16"].to_numpy().astype(np.float32)[:, None]
    split = by_contig(table["chr_hg19"].to_list(), test=TEST, validation=VALIDATION)
    return SequenceExamples(FixedWindows(codes), level, np.ones_like(level), split.parts)


def strata(table: pl.DataFrame) -> dict[str, Any]:
    """Which probes lie in CpG islands, and which do not."""
    island = table["cpg_island"].cast(pl.String).str.to_uppercase().is_in(["TRUE"]).to_numpy()
    return {"island": island, "open": ~island}
