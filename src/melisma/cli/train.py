"""`melisma train`: a model of a mark from sequence and environment."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from melisma.cli._options import GenomeOption, MarkOption, Store
from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.sequence.judge import Judgement
    from melisma.sequence.splits import Split


def train(
    store: Store,
    genome: GenomeOption,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The model's folder.", show_default=False)
    ],
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment", "-e", help="Columns of the sheet that the model is told: tissue,age."
        ),
    ] = None,
    mark: MarkOption = None,
    width: Annotated[int, typer.Option(help="Bases of a window, odd.")] = 501,
    neighbours: Annotated[
        int, typer.Option(min=0, help="Sites around whose marks the model may know; 0: none.")
    ] = 0,
    surroundings: Annotated[
        str | None,
        typer.Option(
            help="How far to either side composition is told, with commas: 1000,10000,100000."
        ),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Contigs to test on; without them, blocks of bases.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="Contigs to stop and calibrate by; needs --test.")
    ] = None,
    block: Annotated[
        int, typer.Option(min=1, help="Bases of a block, where no contigs are given.")
    ] = 1_000_000,
    members: Annotated[int, typer.Option(min=1, help="Networks of the ensemble.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="At most.")] = 10,
    examples_an_epoch: Annotated[
        int | None, typer.Option(min=1, help="Drawn at random; without it, all.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1)] = 256,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 3e-3,
    islands: Annotated[
        Path | None, typer.Option(help="CpG islands as BED: scores inside and outside them too.")
    ] = None,
    min_coverage: Annotated[int, typer.Option(min=1, help="Reads an example needs.")] = 5,
    start_from: Annotated[
        Path | None,
        typer.Option(help="A folder of `melisma pretrain`; its stem and tower are the beginning."),
    ] = None,
    backbone: Annotated[
        Path | None,
        typer.Option(help="A folder with a Hugging Face language model of DNA, read in its place."),
    ] = None,
    tune: Annotated[
        Literal["frozen", "lora", "full"], typer.Option(help="What of the backbone is trained.")
    ] = "frozen",
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes without one.")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Learn how sequence and environment write a mark, and judge it on what it has not seen.

    \b
    Example:
      melisma train study.zarr -g genome.fa -e tissue --test chr21 --validation chr20 -o model
    """
    from melisma._extras import require
    from melisma.cli._terminal import terminal

    require("deep", "torch", "lightning_fabric", "safetensors", what="Training")
    from melisma.genome import Genome
    from melisma.methylome import open_methylome, single_mark
    from melisma.sequence.defaults import default_config, default_recipe
    from melisma.sequence.examples import StoreExamples
    from melisma.sequence.judge import judge
    from melisma.sequence.pretrained import load_pretrained
    from melisma.sequence.train import is_first_process
    from melisma.sequence.train import train as train_model

    if (test is None) != (validation is None):
        raise MelismaError("--test and --validation go together: name contigs for both.")
    if backbone is not None:
        if start_from is not None:
            raise MelismaError("--start-from and --backbone are two beginnings: give one.")
        require("text", "transformers", "tokenizers", what="A backbone")
    elif tune != "frozen":
        raise MelismaError("--tune is of a backbone: give --backbone too.")
    # The first of several processes speaks for all.
    with terminal() if is_first_process() else nullcontext():
        methylome = open_methylome(store)
        if mark is not None:
            methylome = single_mark(methylome, mark)
        scales = _scales(surroundings)
        reach = max(width, *(2 * scale + 1 for scale in scales), 1)
        split = _split(methylome, test, validation, block, reach, seed)
        examples = StoreExamples(
            methylome,
            Genome.open(genome),
            width,
            split.parts,
            environment=_names(environment),
            neighbours=neighbours,
            scales=scales,
            min_coverage=min_coverage,
        )
        counts = "coverage" in methylome
        symmetric = _is_symmetric(methylome)
        recipe = default_recipe(
            examples, symmetric=symmetric, members=members, epochs=epochs, batch=batch, rate=rate,
            epoch_examples=examples_an_epoch, seed=seed,
        )  # fmt: skip
        record: dict[str, Any] = {
            "store": str(store), "genome": str(genome), "split": dict(split.record),
            "min_coverage": min_coverage, "contexts": _contexts(methylome),
            "strands": methylome.attrs["strands"],
        }  # fmt: skip
        shared = load_pretrained(start_from).shared if start_from is not None else {}
        if backbone is not None:
            from melisma.sequence.backbone import backbone_fields

            shared |= backbone_fields(backbone, tune)
        model = train_model(
            examples,
            default_config(examples, counts=counts, **shared),
            recipe,
            out,
            devices=devices,
            record=record,
            start_from=start_from,
        )
        if not is_first_process():
            return
        judged = judge(model, examples, strata=_strata(methylome, islands), seed=seed)
        judged.table.write_csv(out / "scores.tsv", separator="\t")
    _show(judged, split, out)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _scales(text: str | None) -> tuple[int, ...]:
    names = _names(text)
    if not all(name.isdecimal() and int(name) for name in names):
        raise MelismaError(
            f"--surroundings {text!r} is no list of bases: write 1000,10000 or the like."
        )
    return tuple(int(name) for name in names)


def _split(
    methylome: Any, test: str | None, validation: str | None, block: int, width: int, seed: int
) -> "Split":
    import numpy as np

    from melisma.sequence.splits import by_block, by_contig

    contig = np.asarray(methylome.attrs["contigs"], dtype=str)[methylome["contig"].values]
    if test is not None:
        return by_contig(contig, test=_names(test), validation=_names(validation))
    return by_block(contig, methylome["position"].values, width=width, size=block, seed=seed)


def _contexts(methylome: Any) -> list[str]:
    import numpy as np

    from melisma.methylome import CONTEXTS

    return [CONTEXTS[k] for k in np.unique(methylome["context"].values)]


def _strata(methylome: Any, islands: Path | None) -> dict[str, Any]:
    """Sites by context, where there are several, and by whether they lie in islands."""
    import numpy as np

    from melisma.methylome import CONTEXTS

    context = np.asarray(methylome["context"].values)
    found = {CONTEXTS[k]: context == k for k in np.unique(context)}
    if len(found) == 1:
        found = {}
    if islands is not None:
        import polars as pl

        from melisma._overlaps import overlap_any
        from melisma.bed import read_bed

        contigs = pl.Series(methylome.attrs["contigs"], dtype=pl.String)
        position = np.asarray(methylome["position"].values, np.int64)
        places = pl.DataFrame(
            {
                "contig": contigs.gather(np.asarray(methylome["contig"].values, np.int64)),
                "start": position, "end": position + 1,
            }
        )  # fmt: skip
        inside = overlap_any(places, read_bed(islands, contigs=methylome.attrs["contigs"]))
        found |= {"islands": inside, "outside islands": ~inside}
    return found


def _is_symmetric(methylome: Any) -> bool:
    """CpGs whose strands are merged: either strand's window says the same."""
    return _contexts(methylome) == ["CG"] and methylome.attrs["strands"] == "merged"


def _show(judged: "Judgement", split: "Split", out: Path) -> None:
    from melisma.cli._terminal import show_table

    sizes = split.sizes
    head = "spearman" if judged.kind == "levels" else "auc"
    metrics = judged.table.filter(stratum="all")["metric"].unique(maintain_order=True).to_list()
    rows = []
    for (mark, model), table in judged.table.filter(stratum="all").group_by(
        "mark", "model", maintain_order=True
    ):
        values = {row["metric"]: row for row in table.iter_rows(named=True)}
        best = values[head]
        interval = "–" if best["low"] is None else f"{best['low']:.3f} to {best['high']:.3f}"
        cells = [
            "–" if values[m]["value"] is None else f"{values[m]['value']:.3f}" for m in metrics
        ]
        rows.append((str(mark), str(model), *cells, interval))
    show_table(
        f"Test part: {judged.table['n'][0]:,} {judged.kind}; {sizes['train']:,} windows trained "
        f"on, {sizes['validation']:,} for validation",
        ("mark", "model", *metrics, f"{head}, 95%"),
        rows,
    )
    for mark, share in judged.coverage.items():
        typer.echo(
            f"Intervals hold {share:.1%} of the measured levels of {mark} (90% were asked for)."
        )
    typer.echo(f"Written: {out} (scores.tsv holds every score).")
