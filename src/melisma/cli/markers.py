"""`melisma markers`: the smallest panel of sites or regions that classifies a phenotype."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from melisma.cli._options import Block, MarkOption, Store

if TYPE_CHECKING:
    from melisma.markers import Found, Panel


def markers(
    store: Store,
    phenotype: Annotated[
        str, typer.Option("--phenotype", "-p", help="The sample sheet's column to classify.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The folder to make: panel.json, .bed, folds.tsv.")
    ],
    block: Block = None,
    on: Annotated[
        str,
        typer.Option(help="sites; regions, runs of neighbouring sites; or a BED file of regions."),
    ] = "sites",
    mark: MarkOption = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Exactly so many markers; default: as few as do.")
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most so many; default: 20, or half of the rarest class's samples (blocks).",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds, outer and inner, at most.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often folds are dealt anew.")] = 5,
    permutations: Annotated[
        int, typer.Option(min=0, help="Runs of the whole procedure on permuted labels.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of folds, permutations and intervals.")] = 1,
) -> None:
    """Find the smallest panel that tells a phenotype's classes, and how well it would tell others.

    \b
    Example:
      melisma markers melisma-demo/study.zarr --phenotype disease --block identity -o panel
    """
    from melisma.cli._panels import check_folder, write_panel
    from melisma.cli._terminal import terminal
    from melisma.markers import find_markers
    from melisma.methylome import open_methylome

    check_folder(out)
    with terminal():
        methylome = _with_people(open_methylome(store), block)
        found = find_markers(
            methylome,
            phenotype,
            block=block,
            on=on,
            mark=mark,
            size=size,
            max_size=max_size,
            folds=folds,
            repeats=repeats,
            permutations=permutations,
            seed=seed,
        )
        written = write_panel(found, out)
    _show(found)
    for note in found.panel.notes:
        typer.echo(note)
    typer.echo(f"Written: {', '.join(written)} in {out}.")


def _with_people(methylome: Any, block: str | None) -> Any:
    """The methylome with a column of the people that its calls tell apart, where asked for."""
    if block != "identity" or "identity" in methylome.coords:
        return methylome
    from melisma import progress
    from melisma.methylome import sample_sheet
    from melisma.quality import check_quality
    from melisma.study._run import with_identity

    progress.note("Telling people apart from the calls.")
    sheet = with_identity(sample_sheet(methylome), check_quality(methylome).summary()["identity"])
    return methylome.assign_coords(identity=("sample", list(sheet["identity"])))


def _show(found: "Found") -> None:
    from melisma.cli._terminal import show_table

    panel, figures = found.panel, found.panel.figures
    unit = "blocks" if figures["blocks"] else "samples"
    many = figures["blocks"] or figures["samples"]
    rows = [
        (
            marker.name,
            *(f"{level:.3f}" for level in marker.levels),
            f"{marker.selected:.2f}",
            f"{marker.selected_alike:.2f}",
        )
        for marker in panel.markers
    ]
    noun = panel.kind if len(rows) == 1 else f"{panel.kind}s"
    show_table(
        f"{panel.phenotype}: {len(rows)} {noun} of {figures['features']:,}, learned from "
        f"{figures['samples']:,} samples" + (f" in {many:,} {unit}" if figures["blocks"] else ""),
        ("marker", *panel.classes, "selected", "with alike"),
        rows,
    )
    for line in summary_lines(panel):
        typer.echo(line)


def summary_lines(panel: "Panel") -> list[str]:
    """The cross-validated figures in sentences."""
    f = panel.figures
    slope = f["calibration_slope"]
    lines = [
        f"Out of fold: AUC {_auc(f['auc'])} ({_auc(f['auc_low'])} to {_auc(f['auc_high'])}), "
        f"accuracy {f['accuracy']:.3f} (most frequent class {f['accuracy_prevalence']:.3f}), "
        f"Brier {f['brier']:.3f} (shares alone {f['brier_prevalence']:.3f}).",
        f"Calibration: slope {'–' if slope is None else format(slope, '.2f')}, expected error "
        f"{f['calibration_error']:.3f}. Stability {_two(f['stability'])} "
        f"({_two(f['stability_low'])} to {_two(f['stability_high'])}); sizes {min(f['sizes'])} to "
        f"{max(f['sizes'])} in {len(f['sizes'])} training sets.",
    ]
    permuted = f["permuted"]
    if permuted:
        lines.append(
            f"Permuted labels, {permuted['runs']} runs: AUC {_auc(permuted['auc'])} "
            f"({_auc(permuted['auc_lowest'])} to {_auc(permuted['auc_highest'])}), accuracy "
            f"{permuted['accuracy']:.3f}, Brier {permuted['brier']:.3f}, stability "
            f"{_two(permuted['stability'])}; p = {permuted['p']:.2g}."
        )
    return lines


def _auc(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
