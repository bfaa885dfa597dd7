"""Build the sequence part of the demo's data from the count table and the chromosome.

    python tools/build_imr90.py FOLDER

FOLDER holds `calls.tsv.gz` (chrom, start 0-based, `rep1_` and `rep2_` `methylated` and `coverage`)
and `chr22.hg19.fa.gz`. Written into `src/melisma/datasets/imr90` are the stretch `PIECE` of both:
one Bismark coverage file a replicate (1-based, rows without coverage left out) and a FASTA whose
bases before the stretch are N, so that positions are those of hg19. Building again with the same
zlib gives the same bytes.
"""

import csv
import gzip
import sys
from pathlib import Path

IMR90 = Path(__file__).parents[1] / "src" / "melisma" / "datasets" / "imr90"
# A domain that loses methylation and one that does not.
PIECE = (25_000_000, 29_000_000)
LINE = 60


def build(source: Path, target: Path) -> None:
    """Write the stretch's calls, sequence and sample sheet into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    with gzip.open(source / "calls.tsv.gz", "rt") as file:
        calls = [r for r in csv.DictReader(file, delimiter="\t") if _inside(int(r["start"]))]
    sheet = ["sample\tpath\n"]
    for sample in ("rep1", "rep2"):
        lines = []
        for call in calls:
            methylated, coverage = (int(call[f"{sample}_{k}"]) for k in ("methylated", "coverage"))
            if not coverage:
                continue
            place = int(call["start"]) + 1
            percent = f"{100 * methylated / coverage:.6g}"
            fields = (call["chrom"], place, place, percent, methylated, coverage - methylated)
            lines.append("\t".join(map(str, fields)) + "\n")
        file = f"{sample}.cov.gz"
        (target / file).write_bytes(gzip.compress("".join(lines).encode(), 9, mtime=0))
        sheet.append(f"{sample}\t{file}\n")
    (target / "samples.tsv").write_text("".join(sheet), encoding="utf-8")
    with gzip.open(source / "chr22.hg19.fa.gz", "rt") as file:
        name, *rest = file.read().split("\n")
    bases = "N" * PIECE[0] + "".join(rest)[slice(*PIECE)]
    lines = [bases[k : k + LINE] for k in range(0, len(bases), LINE)]
    text = "\n".join([name, *lines, ""])
    (target / "genome.fa.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def _inside(start: int) -> bool:
    return PIECE[0] <= start < PIECE[1]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build(Path(sys.argv[1]), IMR90)
