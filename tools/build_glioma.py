"""Build the glioma part of the demo's data from the clinical table and the levels.

    python tools/build_glioma.py FOLDER

FOLDER holds `clinical.tsv` and `betas.tsv.gz` (a row a patient, a column a probe). Written into
`src/melisma/datasets/glioma` are the patients whose columns below are all known and whose survival
is over 0, and the `PROBES` probes whose levels vary most among them: neither the mutation nor any
outcome takes part in the choice. Building again with the same zlib gives the same bytes.
"""

import csv
import gzip
import sys
from pathlib import Path
from statistics import pvariance

GLIOMA = Path(__file__).parents[1] / "src" / "melisma" / "datasets" / "glioma"
PROBES = 60
# The sheet's columns and the clinical table's.
COLUMNS = {
    "sample": "patient",
    "idh": "idh_status",
    "codeletion": "codeletion_1p19q",
    "grade": "grade",
    "age": "age_years",
    "sex": "gender",
    "platform": "hm450",
    "survival_months": "survival_months",
    "dead": "dead",
    "tert_expression": "tert_expression_log2",
    "immune_score": "immune_score",
}
PLATFORM = {"Yes": "450k", "No": "27k"}


def build(source: Path, target: Path) -> None:
    """Write the chosen patients' sheet and levels into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    with (source / "clinical.tsv").open(encoding="utf-8", newline="") as file:
        rows = [
            {name: row[column] for name, column in COLUMNS.items()}
            for row in csv.DictReader(file, delimiter="\t")
        ]
    rows = [row for row in rows if all(row.values()) and float(row["survival_months"]) > 0]
    for row in rows:
        row["platform"] = PLATFORM[row["platform"]]
    with gzip.open(source / "betas.tsv.gz", "rt") as file:
        reader = csv.reader(file, delimiter="\t")
        probes = next(reader)[1:]
        levels = {fields[0]: fields[1:] for fields in reader}
    spread = [
        pvariance([float(levels[row["sample"]][k]) for row in rows]) for k in range(len(probes))
    ]
    chosen = sorted(sorted(range(len(probes)), key=lambda k: -spread[k])[:PROBES])
    sheet = ["\t".join(COLUMNS)] + ["\t".join(row.values()) for row in rows]
    (target / "samples.tsv").write_text("\n".join(sheet) + "\n", encoding="utf-8")
    table = ["\t".join(["probe", *(row["sample"] for row in rows)])]
    for k in chosen:
        values = (levels[row["sample"]][k] for row in rows)
        table.append("\t".join([probes[k], *values]))
    text = "\n".join(table) + "\n"
    (target / "betas.tsv.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build(Path(sys.argv[1]), GLIOMA)
