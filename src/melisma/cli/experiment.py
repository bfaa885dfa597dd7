"""`melisma experiment`: what a model answers when a motif comes, goes or moves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli._options import EnvironmentOption, GenomeOption, ModelArgument, ModelMark
from melisma.errors import MelismaError

if TYPE_CHECKING:
    import polars as pl

    from melisma.sequence.site_experiments import Bench

_KINDS = ("marginalize", "ablate", "space")
# Distances between two motifs where none are named.
_DISTANCES = range(21)


def experiment(
    model: ModelArgument,
    kind: Annotated[str, typer.Argument(help="marginalize, ablate or space.", show_default=False)],
    genome: GenomeOption,
    contig: Annotated[
        list[str] | None, typer.Option(help="Sites of this contig; may be given again.")
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="Sites in these intervals.")] = None,
    store: Annotated[Path | None, typer.Option(help="The sites of a store.")] = None,
    environment: EnvironmentOption = None,
    mark: ModelMark = None,
    motif: Annotated[
        list[str] | None,
        typer.Option(help="Bases in IUPAC's letters; may be given again, twice for space."),
    ] = None,
    motifs: Annotated[
        Path | None, typer.Option(help="Every motif of a file in MEME's format.")
    ] = None,
    offset: Annotated[
        list[int] | None,
        typer.Option(help="A motif's first base from the site; may be given again."),
    ] = None,
    start: Annotated[
        int | None, typer.Option(help="ablate: a stretch's first base from the site.")
    ] = None,
    end: Annotated[int | None, typer.Option(help="ablate: the base after its last.")] = None,
    distance: Annotated[
        list[int] | None,
        typer.Option(min=0, help="space: bases between the two; may be given again. Else 0 to 20."),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows that are changed.")] = 200,
    shuffles: Annotated[int, typer.Option(min=1, help="ablate: shuffles of each.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the table here: .tsv or .parquet.")
    ] = None,
) -> None:
    """Ask a model what a motif does: put in, shuffled away, or at distances from another.

    \b
    Example:
      melisma experiment model marginalize -g genome.fa --contig chr21 --motif TGACGTCA --offset 4
      melisma experiment model ablate -g genome.fa --contig chr21 --motif TGACGTCA
      melisma experiment model space -g genome.fa --contig chr21 --motif TGACG --motif CCAAT
    """
    from melisma._extras import require
    from melisma.cli._places import asked_sites, one_place
    from melisma.cli._tables import check_output, write_table
    from melisma.cli._terminal import terminal

    require("deep", "torch", "safetensors", what="An experiment")
    from melisma.cli.predict import environment_of
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import load
    from melisma.sequence.site_experiments import bench

    one_place(contig, bed, store)
    check_output(out)
    stretch = _stretch(start, end)
    asked = _asked(kind, motif or [], motifs, stretch, offset, distance)
    with terminal():
        trained, opened = load(model), Genome.open(genome)
        sites = asked_sites(opened, trained, contig=contig, bed=bed, store=store, mark=mark)
        of = bench(
            trained, opened, sites,
            environment=environment_of(environment), mark=mark, seed=seed,
        )  # fmt: skip
        if kind == "marginalize":
            table = _marginalized(of, asked, offset, windows, seed)
        elif kind == "ablate":
            table = _ablated(of, asked, stretch, offset, windows, shuffles, seed)
        else:
            table = _spaced(of, asked, offset, distance, windows, seed)
    _show(kind, table, out)
    if out is not None:
        write_table(out, table)
        typer.echo(f"Written: {out}, {len(table):,} rows.")


def _stretch(start: int | None, end: int | None) -> tuple[int, int] | None:
    if (start is None) != (end is None):
        raise MelismaError("--start and --end go together: name both ends of the stretch.")
    return None if start is None or end is None else (start, end)


def _asked(
    kind: str, given: list[str], file: Path | None, stretch: tuple[int, int] | None,
    offset: list[int] | None, distance: list[int] | None,
) -> dict[str, str]:  # fmt: skip
    """The motifs by name, and whether the options fit the experiment."""
    from melisma.sequence.experiments import motif_bases

    if kind not in _KINDS:
        raise MelismaError(f"There is no experiment {kind!r}: choose {', '.join(_KINDS)}.")
    if stretch is not None and kind != "ablate":
        raise MelismaError(f"--start and --end are for ablate, not for {kind}.")
    if distance and kind != "space":
        raise MelismaError(f"--distance is for space, not for {kind}.")
    if offset and len(offset) > 1 and kind != "marginalize":
        raise MelismaError(f"{kind} takes one --offset, and {len(offset)} were given.")
    for text in given:
        motif_bases(text)
    if kind == "space":
        if file is not None or len(given) != 2:
            raise MelismaError(
                f"space takes two motifs, and {len(given)} were given: write --motif twice."
            )
        return {f"{k}": text.upper() for k, text in enumerate(given)}
    asked = {text.upper(): text.upper() for text in given}
    if file is not None:
        asked |= _of_file(file)
    if stretch is not None and asked:
        raise MelismaError("Name a stretch by --start and --end, or motifs, not both.")
    if not asked and stretch is None:
        also = ", or a stretch by --start and --end" if kind == "ablate" else ""
        raise MelismaError(f"Name what to {kind} by --motif or --motifs{also}.")
    return asked


def _of_file(file: Path) -> dict[str, str]:
    from melisma.sequence.motifs import consensus, read_database

    known = read_database(file)
    if not known:
        raise MelismaError(f"{file} holds no motif.")
    return {name: consensus(matrix) for name, matrix in known.items()}


def _marginalized(
    of: "Bench", asked: dict[str, str], offset: list[int] | None, windows: int, seed: int
) -> "pl.DataFrame":
    from melisma.sequence.site_experiments import after_site, marginalize_motifs

    offsets = offset or [after_site(of)]
    return marginalize_motifs(of, asked, offsets, n=windows, seed=seed)


def _ablated(
    of: "Bench", asked: dict[str, str], stretch: tuple[int, int] | None,
    offset: list[int] | None, windows: int, shuffles: int, seed: int,
) -> "pl.DataFrame":  # fmt: skip
    import polars as pl

    from melisma import progress
    from melisma.sequence.site_experiments import ablate_motif, ablate_stretch

    if stretch is not None:
        return ablate_stretch(of, *stretch, n=windows, shuffles=shuffles, seed=seed)
    place = offset[0] if offset else None
    tables, nowhere = [], []
    with progress.stage("Shuffling motifs away", len(asked)) as advance:
        for name, text in asked.items():
            found = ablate_motif(
                of, name, text, offset=place, n=windows, shuffles=shuffles, seed=seed
            )
            tables.append(found)
            if not len(found):
                nowhere.append(name)
            advance(1)
    table = pl.concat(tables)
    if not len(table):
        where = "" if place is None else f" at offset {place}"
        raise MelismaError(
            f"None of {len(of.windows):,} windows holds {', '.join(nowhere[:3])}{where}: name more "
            "sites, or put the motif in with marginalize."
        )
    if nowhere:
        progress.note(f"No window holds {', '.join(nowhere[:5])} ({len(nowhere):,} motifs).")
    return table


def _spaced(
    of: "Bench", asked: dict[str, str], offset: list[int] | None, distance: list[int] | None,
    windows: int, seed: int,
) -> "pl.DataFrame":  # fmt: skip
    from melisma.sequence.site_experiments import after_site, space_motifs

    first, second = asked.values()
    place = offset[0] if offset else after_site(of)
    distances = list(distance or _DISTANCES)
    if not distance:
        # Without distances of one's own, those that fit.
        room = of.width - of.width // 2 - place - len(first) - len(second)
        if place < 0:
            room = min(room, -place - len(first) - len(second))
        distances = [d for d in distances if d <= room] or [0]
    return space_motifs(of, (first, second), distances, place, n=windows, seed=seed)


def _show(kind: str, table: "pl.DataFrame", out: Path | None) -> None:
    from melisma.cli._terminal import show_table
    from melisma.cli.sites import SHOWN, show_rest

    place = "distance" if kind == "space" else "offset"
    more = ("beyond both",) if kind == "space" else ()
    shown = table if kind == "space" else table.sort(table["effect"].abs(), descending=True)
    show_table(
        f"{kind}: {len(table):,} rows, {table['n'].max():,} windows at most",
        ("motif", place, "before", "after", "effect", "95%", *more),
        [
            (
                row["name"], "any" if row[place] is None else f"{row[place]}",
                f"{row['before']:.3f}", f"{row['after']:.3f}", f"{row['effect']:+.3f}",
                "–" if row["low"] != row["low"] else f"{row['low']:+.3f} to {row['high']:+.3f}",
                *((f"{row['interaction']:+.3f}",) if kind == "space" else ()),
            )
            for row in shown.head(21 if kind == "space" else SHOWN).iter_rows(named=True)
        ],
    )  # fmt: skip
    if kind != "space":
        show_rest(len(table), out)
