"""Build the demo data of `melisma.datasets` from the count table they were taken as.

    python tools/build_lupus.py FOLDER

FOLDER holds `calls.tsv.gz` (chrom, start 0-based, and `<sample>_methylated` and
`<sample>_coverage` of every sample) and `samples.tsv` (sample, disease, cell). Written into
`src/melisma/datasets/lupus` are one Bismark coverage file a sample (1-based, rows without
coverage left out) and the sample sheet. Building again with the same zlib gives the same bytes.
"""

import csv
import gzip
import io
import sys
from pathlib import Path

LUPUS = Path(__file__).parents[1] / "src" / "melisma" / "datasets" / "lupus"


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated table, gzip or not, as dictionaries."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def coverage_line(chrom: str, start: int, methylated: int, coverage: int) -> str:
    """One line of a Bismark coverage file: its positions are 1-based, start and end equal."""
    percent = f"{100 * methylated / coverage:.15g}"
    fields = (chrom, start + 1, start + 1, percent, methylated, coverage - methylated)
    return "\t".join(map(str, fields)) + "\n"


def build(source: Path, target: Path) -> None:
    """Write the coverage files and the sample sheet of `source` into `target`."""
    calls = read_table(source / "calls.tsv.gz")
    samples = read_table(source / "samples.tsv")
    target.mkdir(parents=True, exist_ok=True)
    sheet = ["sample\tpath\tdisease\tcell\n"]
    for row in samples:
        sample = row["sample"]
        columns = ("start", f"{sample}_methylated", f"{sample}_coverage")
        counts = [(call["chrom"], *(int(call[name]) for name in columns)) for call in calls]
        lines = [coverage_line(*row) for row in counts if row[-1]]
        file = f"{sample}.cov.gz"
        (target / file).write_bytes(gzip.compress("".join(lines).encode(), 9, mtime=0))
        sheet.append(f"{sample}\t{file}\t{row['disease']}\t{row['cell']}\n")
    (target / "samples.tsv").write_text("".join(sheet), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build(Path(sys.argv[1]), LUPUS)
