"""`melisma qc`: what the samples look like, and whose they are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli._options import MarkOption, Store

if TYPE_CHECKING:
    from melisma.quality import Quality

Folder = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Write the tables, qc.json and MultiQC's *_mqc.json into this folder."
    ),
]
Sites = Annotated[
    int, typer.Option(min=1, help="Sites that the correlation and the components use at most.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the choice of those sites.")]
SpikeIn = Annotated[
    str | None,
    typer.Option(
        help="The contig of unmethylated DNA, such as lambda=chrL; default: told by its name."
    ),
]
Control = Annotated[
    str | None,
    typer.Option(help="The contig of methylated DNA, such as pUC19; default: told by its name."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 if a check fails.")]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        help="A check's limit, such as min_coverage=10; may be given several times.",
        metavar="NAME=VALUE",
    ),
]
# Columns of the printed table: heading, column of the samples' table, format.
_SHOWN = (
    ("sites", "sites_seen", ",d"),
    ("coverage", "coverage_mean", ".1f"),
    ("median", "coverage_median", "d"),
    ("level", "level", ".3f"),
    ("correlation", "correlation_median", ".3f"),
    ("PC1", "pc1", "+.3f"),
    ("PC2", "pc2", "+.3f"),
)
# More samples than this are listed only where they stand apart; -o writes them all.
_MOST_ROWS = 60


def qc(
    store: Store,
    out: Folder = None,
    mark: MarkOption = None,
    sites: Sites = 100_000,
    seed: Seed = 0,
    spike_in: SpikeIn = None,
    methylated_control: Control = None,
    strict: Strict = False,
    limit: Limit = None,
) -> None:
    """Coverage, conversion, sex, levels, outliers, and which samples come from one person.

    With --strict it exits with 1 if a check fails, after everything is written.

    \b
    Example:
      melisma qc melisma-demo/study.zarr -o qc
    """
    from melisma.cli._terminal import terminal
    from melisma.methylome import open_methylome
    from melisma.quality import check_quality

    _check_folder(out)
    with terminal():
        quality = check_quality(
            open_methylome(store),
            mark=mark,
            sites=sites,
            seed=seed,
            spike_in=spike_in,
            methylated_control=methylated_control,
            limits=limit or (),
        )
    _show(quality)
    if out is not None:
        _write(quality, out)
    if out is not None or strict:
        typer.echo("\n" + "\n".join(_further(quality)))
    if strict:
        _gate(quality)


def _check_folder(out: Path | None) -> None:
    """Refuse an output that cannot be a folder before anything is computed."""
    from melisma.errors import MelismaError

    if out is not None and out.exists() and not out.is_dir():
        raise MelismaError(f"{out} is a file: name a folder for the tables.")


def _show(quality: "Quality") -> None:
    import polars as pl

    from melisma.cli._terminal import show_table
    from melisma.quality import person_labels

    identity = quality.identity
    people = person_labels(identity) if identity.resolved else ["?"] * quality.samples.height
    listed = quality.samples.with_columns(pl.Series("person", people))
    if listed.height > _MOST_ROWS:
        listed = listed.filter(pl.col("outlier"))
    rows = [
        (row["sample"], row["person"], *(_shown(row[name], style) for _, name, style in _SHOWN))
        for row in listed.iter_rows(named=True)
    ]
    headings = ("sample", "person", *(heading for heading, _, _ in _SHOWN))
    title = f"{quality.samples.height} samples; correlation over {quality.matrix_sites:,} sites"
    if listed.height < quality.samples.height:
        title += f"; those that stand apart ({listed.height})"
    show_table(title, headings, rows)
    typer.echo("\n" + "\n".join(_sentences(quality)))


def _shown(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)


def _sentences(quality: "Quality") -> list[str]:
    """What the table cannot show: outliers, identity, contradictions."""
    summary = quality.summary()
    apart = [
        f"{row['sample']} stands apart: {row['outlier_reason']}."
        for row in quality.samples.iter_rows(named=True)
        if row["outlier"]
    ]
    words = [*apart, *summary["notes"]] or ["No sample stands apart."]
    identity = quality.identity
    words += [identity.sentence, *([identity.reason] if identity.reason else [])]
    found = identity.contradictions
    if found:
        noun = "contradiction" if len(found) == 1 else "contradictions"
        words.append(f"{len(found)} {noun} with the sample sheet:")
        words += [f"- {c.sentence}" for c in found]
    return [*words, *identity.notes]


def _further(quality: "Quality") -> list[str]:
    """Conversion, sex, strands, saturation, the sheet's columns, and how many checks pass."""
    summary = quality.summary()
    counts = ", ".join(f"{n:,} {status}" for status, n in summary["checks"].items() if n)
    said = [*summary["sentences"].values(), *summary["sex_contradictions"], *summary["confounded"]]
    return [*filter(None, said), f"Checks: {counts}."]


def _gate(quality: "Quality") -> None:
    """Name the failed checks and exit with 1; nothing where none fails."""
    failed = quality.failed
    if not failed:
        return
    noun = "check" if len(failed) == 1 else "checks"
    typer.secho(f"melisma: {len(failed)} {noun} failed:", err=True, fg="red")
    for line in failed:
        typer.echo(f"- {line}", err=True)
    raise typer.Exit(1)


def _write(quality: "Quality", out: Path) -> None:
    import json

    from melisma.cli._tables import write_table
    from melisma.methylome import atomic_file

    for name, table in quality.tables().items():
        write_table(out / f"{name}.tsv", table)
    for name, value in {"qc.json": quality.summary(), **quality.multiqc()}.items():
        with atomic_file(out / name) as work:
            work.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
