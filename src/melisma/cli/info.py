"""`melisma info`: what a store holds."""

from typing import TYPE_CHECKING

import typer

from melisma.cli._options import Store
from melisma.cli._terminal import show_table

if TYPE_CHECKING:
    from melisma.calls import StoreDescription

_MOST_NAMED = 8


def info(store: Store) -> None:
    """Say what a store holds: sites, contigs, marks, samples, coverage, what was left out.

    \b
    Example:
      melisma info melisma-demo/study.zarr
    """
    from melisma.calls import describe

    found = describe(store)
    typer.echo(f"{store}: {found.sites:,} sites × {len(found.samples):,} samples")
    for name, words in _facts(found):
        typer.echo(f"  {name:<11}{words}")
    show_table(
        "",
        ("sample", "sites", "coverage", "level", "rows", "left out"),
        [
            (
                sample.sample,
                sample.sites,
                "–" if sample.coverage != sample.coverage else f"{sample.coverage:.1f}",
                f"{sample.level:.3f}",
                "–" if sample.rows is None else sample.rows,
                ", ".join(f"{n:,} {why}" for why, n in sample.drops.items()) or "none",
            )
            for sample in found.samples
        ],
    )


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
    if len(values) > _MOST_NAMED and all(isinstance(value, int | float) for value in values):
        shown = f"{values[0]} to {values[-1]}"
    else:
        shown = ", ".join(str(value) for value in values[:_MOST_NAMED]) + _more(len(values))
    return f"{shown}; {missing:,} missing".removeprefix("; ") if missing else shown


def _more(count: int) -> str:
    return f" and {count - _MOST_NAMED:,} more" if count > _MOST_NAMED else ""
