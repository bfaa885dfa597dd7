"""`melisma explain`: which bases and motifs a model reads around sites."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.genome import Genome
    from melisma.sequence.explain import Explanation
    from melisma.sequence.predict import Sites


def explain(
    model: Annotated[
        Path, typer.Argument(help="A folder made by `melisma train`.", show_default=False)
    ],
    genome: Annotated[
        Path, typer.Option("--genome", "-g", help="FASTA or 2bit.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The folder to make.", show_default=False)
    ],
    contig: Annotated[
        list[str] | None, typer.Option(help="Sites of this contig; may be given again.")
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="Sites in these intervals.")] = None,
    store: Annotated[Path | None, typer.Option(help="The sites of a store.")] = None,
    lone: Annotated[
        bool, typer.Option("--lone", help="Only CpGs with no other within 35 bases.")
    ] = False,
    sites: Annotated[
        int, typer.Option(min=1, help="Sites at most, a random sample of more.")
    ] = 500,
    environment: Annotated[
        list[str] | None,
        typer.Option(
            "--environment", "-e", help="tissue=brain; may be given again. Without it, the mean."
        ),
    ] = None,
    mark: Annotated[str | None, typer.Option(help="Which of the model's marks.")] = None,
    seqlet: Annotated[int, typer.Option(min=3, help="Bases of what motifs are made of.")] = 6,
    database: Annotated[
        Path | None, typer.Option(help="Known motifs in MEME's format, to name those found.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Exchange every base around sites, and say which ones move the level and what they spell.

    \b
    Example:
      melisma explain model -g genome.fa --contig chr21 -e tissue=brain -o why
    """
    from melisma._extras import require
    from melisma.cli._terminal import terminal

    require("deep", "torch", "safetensors", what="Explaining a model")
    from melisma.cli.predict import environment_of
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import load
    from melisma.sequence.explain import explain as explain_model
    from melisma.sequence.explain import motif_table
    from melisma.sequence.predict import (
        head_of,
        sites_of_contigs,
        sites_of_intervals,
        sites_of_store,
    )

    if sum(asked is not None for asked in (contig, bed, store)) != 1:
        raise MelismaError("Name the sites by one of --contig, --bed and --store.")
    if out.exists():
        raise MelismaError(f"{out} exists: choose another folder, or remove it first.")
    with terminal():
        trained, opened = load(model), Genome.open(genome)
        if store is not None:
            from melisma.methylome import open_methylome, single_mark

            where = sites_of_store(single_mark(open_methylome(store), mark))
        elif bed is not None:
            from melisma.bed import read_bed

            intervals = read_bed(bed, contigs=opened.lengths)
            names = intervals["contig"].unique(maintain_order=True).to_list()
            where = sites_of_intervals(
                intervals, sites_of_contigs(opened, trained, names, mark=mark)
            )
        else:
            where = sites_of_contigs(opened, trained, contig or [], mark=mark)
        if lone:
            where = _lone(where, opened)
        if not len(where.position):
            raise MelismaError("No site of the mark lies there, so there is nothing to explain.")
        found = explain_model(
            trained, opened, where, environment=environment_of(environment), mark=mark,
            most=sites, seqlet=seqlet, seed=seed,
        )  # fmt: skip
        _write(out, found, opened, head_of(trained, mark)[1], database)
    from melisma.cli._terminal import show_table

    table = motif_table(found.motifs, len(found.codes))
    show_table(
        f"Motifs of {len(found.codes):,} windows",
        ("motif", "from the site", "windows", "effect"),
        [
            (
                row["consensus"], f"{row['first_base']:+d}", f"{row['share']:.0%}",
                "raises" if row["raises"] else "lowers",
            )
            for row in table.iter_rows(named=True)
        ],
    )  # fmt: skip
    typer.echo(f"Written: {out} (contributions, motifs and logos).")


def _lone(sites: "Sites", genome: "Genome") -> "Sites":
    import numpy as np

    from melisma.sequence.flanks import NOT_LONE, flank_class

    keep = np.zeros(len(sites.position), bool)
    named = genome.named_as(sites.contigs)
    for k in np.unique(sites.contig):
        here = np.flatnonzero(sites.contig == k)
        keep[here] = flank_class(named.bases(sites.contigs[k]), sites.position[here]) != NOT_LONE
    return sites.of(keep)


def _write(
    out: Path, found: "Explanation", genome: "Genome", mark: str, database: Path | None
) -> None:
    """Everything into one folder, which appears when it is whole."""
    import shutil

    from melisma.export.bigwig import write_values
    from melisma.methylome import part_folder
    from melisma.sequence.explain import along_genome, motif_table, write_meme, write_modisco
    from melisma.sequence.logo import information, logo
    from melisma.sequence.motifs import name_motifs

    work = part_folder(out)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        if database is not None:
            name_motifs(found.motifs, database).write_csv(work / "names.tsv", separator="\t")
        motif_table(found.motifs, len(found.codes)).write_csv(work / "motifs.tsv", separator="\t")
        write_meme(work / "motifs.meme", found.motifs)
        write_modisco(work, found)
        write_values(work / "contributions.bw", along_genome(found, genome, mark), genome.lengths)
        half = found.codes.shape[1] // 2
        (work / "positions.svg").write_text(
            logo(
                found.by_position()[:, max(half - 20, 0) : half + 21],
                f"What each base adds to the level, by position ({len(found.codes)} windows)",
                first=max(-half, -20),
            )
        )
        for k, motif in enumerate(found.motifs):
            text = f"Motif {k}, {motif.consensus}, {motif.seqlets} seqlets"
            drawn = logo(information(motif.frequency), text, first=motif.offset, unit="bits")
            (work / f"motif-{k}.svg").write_text(drawn)
    except MelismaError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    work.rename(out)
