"""`melisma annotate`: what sites and regions lie in and near, and whether beyond chance."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli._options import Level, Output

if TYPE_CHECKING:
    import polars as pl


def annotate(
    places: Annotated[
        Path,
        typer.Argument(
            help="What `melisma sites` or `regions` wrote (.tsv, .parquet), or any BED.",
            show_default=False,
        ),
    ],
    genes: Annotated[Path | None, typer.Option(help="Genes: GTF or GFF3.")] = None,
    islands: Annotated[
        Path | None, typer.Option(help="CpG islands: BED, such as of `melisma islands`.")
    ] = None,
    bed: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE, any BED; may be repeated.")
    ] = None,
    upstream: Annotated[
        int, typer.Option(min=0, help="Bases before a transcription start that are promoter.")
    ] = 1_000,
    downstream: Annotated[
        int, typer.Option(min=0, help="Bases after a transcription start that are promoter.")
    ] = 0,
    store: Annotated[
        Path | None,
        typer.Option(help="The store of the tests: overlaps are compared with matched places."),
    ] = None,
    q: Level = 0.05,
    draws: Annotated[int, typer.Option(min=99, help="Matched sets of places.")] = 999,
    seed: Annotated[int, typer.Option(help="Of the matched sets.")] = 1,
    enrichment: Annotated[
        Path | None, typer.Option(help="Write the comparison here: .tsv or .parquet.")
    ] = None,
    out: Output = None,
) -> None:
    """Say which genes, CpG islands and other intervals sites and regions lie in and near.

    With --store, places with a q below --q (all, where the table has none) are compared with
    places of the same CpG density and coverage.

    \b
    Example:
      melisma annotate regions.tsv --genes genes.gtf.gz --islands islands.bed -o annotated.tsv
      melisma annotate sites.parquet --bed enhancers=enhancers.bed --store study.zarr
    """
    from melisma.annotate import annotate as annotate_places
    from melisma.annotate import enrichment as compare
    from melisma.annotate import feature_sets, read_places
    from melisma.bed import read_bed
    from melisma.cli._tables import check_output, write_table
    from melisma.cli._terminal import terminal
    from melisma.errors import MelismaError
    from melisma.genes import read_genes
    from melisma.methylome import open_methylome

    check_output(out)
    check_output(enrichment)
    if enrichment is not None and store is None:
        raise MelismaError("--enrichment needs --store: the places of the tests to compare with.")
    with terminal():
        table = read_places(places)
        methylome = None if store is None else open_methylome(store)
        contigs = [*table["contig"].drop_nulls().unique(maintain_order=True)]
        if methylome is not None:
            contigs = [str(name) for name in methylome.attrs["contigs"]]
        known = None if genes is None else read_genes(genes, contigs=contigs)
        cpg = None if islands is None else read_bed(islands, contigs=contigs)
        beds = {name: read_bed(file, contigs=contigs) for name, file in _named(bed or [])}
        annotated = annotate_places(
            table, genes=known, islands=cpg, beds=beds, upstream=upstream, downstream=downstream
        )
        compared = None
        if methylome is not None:
            called = table.filter(table["q"] < q) if "q" in table.columns else table
            features = feature_sets(known, cpg, beds, upstream, downstream)
            if len(called):
                compared = compare(called, methylome, features, draws=draws, seed=seed)
    _show_counts(annotated, q, list(beds))
    if compared is not None:
        _show_enrichment(compared, draws)
    elif methylome is not None:
        typer.echo(f"No place has q < {q:g}: there is nothing to compare with other places.")
    for path, written in ((out, annotated), (enrichment, compared)):
        if path is not None and written is not None:
            write_table(path, written)
            typer.echo(f"Written: {path}, {len(written):,} rows.")


def _named(words: list[str]) -> list[tuple[str, Path]]:
    """NAME=FILE pairs; a name stands once."""
    from melisma.errors import MelismaError

    pairs: dict[str, Path] = {}
    for word in words:
        name, equals, file = word.partition("=")
        if not equals or not name or not file:
            raise MelismaError(
                f"--bed {word!r} should be NAME=FILE, such as enhancers=h3k27ac.bed."
            )
        if name in pairs:
            raise MelismaError(f"--bed names {name!r} twice.")
        pairs[name] = Path(file)
    return list(pairs.items())


def _show_counts(annotated: "pl.DataFrame", q: float, beds: list[str]) -> None:
    """How many places are where, all of them and those that are called."""
    from melisma.annotate import ISLAND_RELATIONS, LOCATIONS
    from melisma.cli._terminal import show_table

    judged = "q" in annotated.columns
    called = annotated.filter(annotated["q"] < q) if judged else annotated
    rows: list[tuple[str, ...]] = []

    def add(name: str, everywhere: "pl.Series", here: "pl.Series") -> None:
        shown = (_share(everywhere), _share(here)) if judged else (_share(everywhere),)
        rows.append((name, *shown))

    for column, order in (("location", LOCATIONS), ("island_relation", ISLAND_RELATIONS)):
        if column in annotated.columns:
            for word in order:
                add(word, annotated[column] == word, called[column] == word)
    for name in beds:
        add(name, annotated[name].is_not_null(), called[name].is_not_null())
    columns = ("in", f"of {len(annotated):,} places")
    if judged:
        columns = (*columns, f"of {len(called):,} with q < {q:g}")
    show_table("Where the places are", columns, rows)


def _share(there: "pl.Series") -> str:
    return f"{there.sum():,} ({there.mean() or 0.0:.1%})"


def _show_enrichment(compared: "pl.DataFrame", draws: int) -> None:
    from melisma.cli._terminal import show_table

    rows = [
        (
            row["feature"],
            row["observed"],
            f"{row['expected']:.1f}",
            f"{row['expected_low']:.0f} to {row['expected_high']:.0f}",
            "–" if row["fold"] is None else f"{row['fold']:.2f}",
            f"{row['p']:.2g}",
            f"{row['q']:.2g}",
        )
        for row in compared.iter_rows(named=True)
    ]
    clusters = int(compared["clusters"][0])
    show_table(
        f"{clusters:,} clusters of places, against {draws:,} sets of like CpG density and coverage",
        ("feature", "observed", "expected", "95% of sets", "fold", "p", "q"),
        rows,
    )
