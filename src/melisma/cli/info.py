"""`melisma info`: what a store holds."""

from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli._options import Store
from melisma.cli._terminal import show_first, show_table

if TYPE_CHECKING:
    from melisma.calls import StoreDescription

_MOST_NAMED = 8
_NAME_WIDTH = 10


def info(
    store: Store,
    all: Annotated[bool, typer.Option("--all", help="A row for every sample, not 60.")] = False,
) -> None:
    """Say what a store holds: sites, contigs, marks, samples, coverage, what was left out.

    \b
    Example:
      melisma info melisma-demo/study.zarr
    """
    from melisma.calls import describe

    found = describe(store)
    typer.echo(f"{store}: {found.sites:,} sites × {len(found.samples):,} samples")
    facts = _facts(found)
    width = max(_NAME_WIDTH, *(len(name) for name, _ in facts)) + 1
    for name, words in facts:
        typer.echo(f"  {name:<{width}}{words}")
    columns = ("sample", "sites", "coverage", "mean level", "rows", "left out")
    rows = [
        (
            sample.sample,
            sample.sites,
            "–" if sample.coverage != sample.coverage else f"{sample.coverage:.1f}",
            f"{sample.level:.3f}",
            "–" if sample.rows is None else sample.rows,
            ", ".join(f"{n:,} {why}" for why, n in sample.drops.items()) or "none",
        )
        for sample in found.samples
    ]
    if all:
        show_table("", columns, rows)
    else:
        show_first("", columns, rows, rest="--all shows them")


def _facts(found: "StoreDescription") -> list[tuple[str, str]]:
    return [
        *([("simulated", "counts that were drawn, not measured")] if found.simulated else []),
        ("contigs", _counted(found.contigs) or "none: probes without a manifest have no positions"),
        ("marks", _counted(found.marks)),
        ("contexts", _counted(found.contexts)),
        ("strands", found.strands),
        ("genome", found.genome or "none: calls were not compared with a reference"),
        *_build(found.build),
        *(
            (name, _listed(values, found.missing.get(name, 0)))
            for name, values in found.covariates.items()
        ),
        ("schema", str(found.schema)),
    ]


def _build(build: dict[str, str] | None) -> list[tuple[str, str]]:
    if build is None:
        return []
    told = {
        "lengths": "the genome has its lengths",
        "accessions": "the contigs are its accessions",
        "positions": "the one known build that the positions fit",
    }
    return [("build", f"{build['name']}: {told[build['told_by']]}")]


def _counted(counts: dict[str, int]) -> str:
    shown = [f"{name} {n:,}" for name, n in list(counts.items())[:_MOST_NAMED]]
    return ", ".join(shown) + _more(len(counts))


def _listed(values: list[object], missing: int) -> str:
    words = [f"{v:.10g}" if isinstance(v, float) else str(v) for v in values]
    if len(words) > _MOST_NAMED and all(isinstance(value, int | float) for value in values):
        shown = f"{words[0]} to {words[-1]}"
    else:
        shown = ", ".join(words[:_MOST_NAMED]) + _more(len(words))
    return f"{shown}; {missing:,} missing".removeprefix("; ") if missing else shown


def _more(count: int) -> str:
    return f" and {count - _MOST_NAMED:,} more" if count > _MOST_NAMED else ""
