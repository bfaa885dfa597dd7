"""A panel: markers, weights, calibration and figures, as one JSON file."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from melisma.errors import MelismaError
from melisma.methylome import atomic_file

FORMAT = 1


@dataclass(frozen=True)
class Marker:
    """One site, probe or region of a panel, and how its level enters.

    start, end : 0-based and half open; None where the store's probes have no place
    strand : 1, -1, or 0
    prior, strength : beta prior of the level, its mean and how many reads it is worth
    mean, scale : the level enters as (level - mean) / scale
    weights : one a class, before calibration
    levels : mean shrunk level of each class in the training samples
    selected : share of the cross-validation's training sets that chose it
    selected_beyond_chance : that share, 0 where it is what a random choice gives, 1 at always
    selected_alike : share that chose it or a marker with which it correlates at |r| >= 0.8
    """

    name: str
    contig: str | None
    start: int | None
    end: int | None
    strand: int
    mark: str
    probe: str | None
    prior: float
    strength: float
    mean: float
    scale: float
    weights: tuple[float, ...]
    levels: tuple[float, ...]
    selected: float
    selected_beyond_chance: float
    selected_alike: float


@dataclass(frozen=True)
class Panel:
    """A classifier of a phenotype that is whole in itself.

    kind : "site", "probe" or "region"
    values : "counts" or "levels", what it was learned from
    strands : of the store that it was learned from
    intercept : (classes,), before calibration
    slope, shift : calibrated logits are slope * logits + shift
    genome : the reference's `name`, `build` and contig `lengths`, None or empty where not known
    training : `samples`, their `classes`, and `coverage`, the median of their mean reads a marker
    settings : how it was found, with the seed
    figures : what cross-validation says of the procedure that found it
    notes : what a reader of the figures must know
    """

    phenotype: str
    classes: tuple[str, ...]
    kind: str
    values: str
    strands: str
    markers: tuple[Marker, ...]
    intercept: tuple[float, ...]
    slope: float
    shift: tuple[float, ...]
    genome: dict[str, Any]
    training: dict[str, Any]
    settings: dict[str, Any]
    figures: dict[str, Any]
    notes: tuple[str, ...]
    version: str

    def write(self, path: Path | str) -> None:
        """Write the panel as JSON, atomically."""
        text = json.dumps(
            {"melisma_panel": FORMAT} | dataclasses.asdict(self), indent=1, allow_nan=False
        )
        with atomic_file(Path(path)) as work:
            work.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path | str) -> "Panel":
        """Read a panel that `write` wrote.

        Raises
        ------
        MelismaError
            The file is missing, no panel, of a newer version, or not whole.
        """
        path = Path(path)
        path = path / "panel.json" if path.is_dir() else path
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise MelismaError(f"The panel {path} cannot be read: {error.strerror}.") from None
        except ValueError:
            raise MelismaError(
                f"{path} is not JSON: give the panel.json of melisma markers."
            ) from None
        version = record.pop("melisma_panel", None) if isinstance(record, dict) else None
        if not isinstance(version, int):
            raise MelismaError(f"{path} is not a panel: give the panel.json of melisma markers.")
        if version > FORMAT:
            raise MelismaError(
                f"{path} is a panel of format {version}, and this melisma reads up to {FORMAT}: "
                "install a newer melisma."
            )
        try:
            fields: dict[str, Any] = _tuples(record, cls) | {"markers": _markers(record["markers"])}
            panel = cls(**fields)
        except (TypeError, KeyError) as error:
            raise MelismaError(f"The panel {path} is not whole: {error}.") from None
        panel._check(path)
        return panel

    def _check(self, path: Path) -> None:
        sizes = {len(self.intercept), len(self.shift)} | {len(m.weights) for m in self.markers}
        if sizes != {len(self.classes)} or not self.markers:
            raise MelismaError(
                f"The panel {path} is not whole: its classes are {', '.join(self.classes)}, and "
                "its weights do not fit them."
            )

    def bed(self) -> pl.DataFrame | None:
        """The markers as BED6, the score 1000 times `selected`; None: they have no place."""
        if any(marker.start is None for marker in self.markers):
            return None
        strands = {1: "+", -1: "-", 0: "."}
        rows = [
            (m.contig, m.start, m.end, m.name, round(1000 * m.selected), strands[m.strand])
            for m in self.markers
        ]
        names = ["contig", "start", "end", "name", "score", "strand"]
        return pl.DataFrame(rows, schema=names, orient="row").sort("contig", "start", "end")


def _tuples(record: dict[str, Any], cls: type) -> dict[str, Any]:
    """Lists as tuples, where the class has tuples."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    return {
        name: tuple(value) if kinds.get(name, "").startswith("tuple") else value
        for name, value in record.items()
    }


def _markers(records: list[dict[str, Any]]) -> tuple[Marker, ...]:
    return tuple(Marker(**_tuples(record, Marker)) for record in records)
