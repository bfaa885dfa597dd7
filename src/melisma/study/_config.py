"""study.toml, checked before anything is computed."""

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from melisma.errors import MelismaError
from melisma.quality import LIMITS

IDENTITY = "identity"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSection(_Section):
    """`[input]`: the sample sheet and, where there is one, the genome's FASTA.

    `matrix` is one matrix of levels for all samples, `manifest` the arrays' manifest;
    `annotation` (GTF or GFF3) and `islands` (BED) are what called places are annotated with.
    """

    samples: Path
    matrix: Path | None = None
    manifest: Path | None = None
    genome: Path | None = None
    annotation: Path | None = None
    islands: Path | None = None


class IngestSection(_Section):
    """`[ingest]`: as the options of `melisma ingest`."""

    merge_strands: bool = False
    mark: str | None = None


class DesignSection(_Section):
    """`[design]`, or several `[[design]]`: a formula, its contrasts and blocks.

    `block` is a column of the sample sheet, or "identity": the people that the identity check
    finds from the calls.
    """

    name: str = ""
    formula: str
    contrasts: tuple[str, ...] = Field(min_length=1)
    block: str | None = None
    drop_missing: bool = False

    @field_validator("contrasts", mode="before")
    @classmethod
    def _one_contrast(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def _limit(name: str) -> Any:
    return Field(default=LIMITS[name][0], ge=0, allow_inf_nan=False)


class QcSection(_Section):
    """`[qc]`: the contigs that tell conversion, the limits of the checks, and the gate."""

    strict: bool = False
    spike_in: str | None = None
    methylated_control: str | None = None
    min_coverage: float = _limit("min_coverage")
    min_sites: float = _limit("min_sites")
    min_shared_sites: float = _limit("min_shared_sites")
    max_conversion_failure: float = _limit("max_conversion_failure")
    min_control_level: float = _limit("min_control_level")
    max_strand_difference: float = _limit("max_strand_difference")
    max_outliers: float = _limit("max_outliers")
    max_sex_contradictions: float = _limit("max_sex_contradictions")
    max_identity_contradictions: float = _limit("max_identity_contradictions")

    @property
    def limits(self) -> dict[str, float]:
        """The checks' limits by name."""
        return {name: getattr(self, name) for name in LIMITS}


class SitesSection(_Section):
    """`[sites]`: the false discovery rate at which sites are called."""

    q: float = Field(default=0.05, gt=0, lt=1)


class RegionsSection(_Section):
    """`[regions]`: the false discovery rate, the relabellings and their seed.

    `bed` or `tiles` names the regions to test in place of a search.
    """

    q: float = Field(default=0.05, gt=0, lt=1)
    relabellings: int | None = Field(default=None, ge=1)
    seed: int = 1
    context: str | None = None
    no_replicates: bool = False
    bed: Path | None = None
    tiles: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _search_or_given(self) -> "RegionsSection":
        if self.bed and self.tiles:
            raise ValueError("`bed` and `tiles` both say which regions to test: give one")
        if (self.bed or self.tiles) and (self.relabellings or self.context or self.no_replicates):
            raise ValueError(
                "`relabellings`, `context` and `no_replicates` belong to the search: leave them "
                "out with `bed` or `tiles`"
            )
        return self


class SequenceSection(_Section):
    """`[sequence]`: a model of the marks from sequence, of the study's store or of another sheet.

    As the options of `melisma train`; `samples` is a sheet of its own, whose store is made beside
    the study's.
    """

    samples: Path | None = None
    genome: Path | None = None
    environment: tuple[str, ...] = ()
    mark: str | None = None
    width: int = Field(default=201, ge=3)
    surroundings: tuple[int, ...] = ()
    block: int = Field(default=1_000_000, ge=1)
    channels: int = Field(default=64, ge=4)
    members: int = Field(default=1, ge=1)
    epochs: int = Field(default=8, ge=1)
    min_coverage: int = Field(default=5, ge=1)
    seed: int = Field(default=1, ge=0)


class OutputSection(_Section):
    """`[output]`: the folder that `melisma run` fills; relative to the study."""

    folder: Path | None = None


class StudyConfig(_Section):
    """A study, as its TOML file says it."""

    title: str = "Study"
    input: InputSection
    ingest: IngestSection = IngestSection()
    design: tuple[DesignSection, ...] = ()
    qc: QcSection = QcSection()
    sites: SitesSection = SitesSection()
    regions: RegionsSection = RegionsSection()
    sequence: SequenceSection | None = None
    output: OutputSection = OutputSection()

    @field_validator("design", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _distinct_names(self) -> "StudyConfig":
        names = [design.name for design in self.design]
        if len(names) > 1 and (len(set(names)) < len(names) or "" in names):
            raise ValueError("several designs need a `name` each, all different")
        return self


def read_study(path: Path | str) -> StudyConfig:
    """Read and check a study.toml; its paths become absolute.

    Raises
    ------
    MelismaError
        The file is missing or not TOML, or a key is unknown, missing or of the wrong kind.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MelismaError(f"There is no study file at {path}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise MelismaError(f"{path} is not a TOML file: {error}.") from None
    try:
        study = StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise MelismaError(_sentence(path, error)) from None
    folder = path.resolve().parent
    return study.model_copy(
        update={
            name: _absolute(section, folder)
            for name in ("input", "regions", "sequence", "output")
            if (section := getattr(study, name)) is not None
        }
    )


def _absolute(section: _Section, folder: Path) -> _Section:
    """The section with its paths under the study's folder."""
    paths = {name: value for name, value in section if isinstance(value, Path)}
    return section.model_copy(update={name: folder / path for name, path in paths.items()})


def _sentence(path: Path, error: ValidationError) -> str:
    # An unknown key explains a missing one, so it is said first.
    errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = first["loc"][:-1]
        known = _known_keys(tuple(str(part) for part in section))
        return f"{path}: {place} is not a key of a study; known here are {', '.join(known)}."
    if first["type"] == "missing":
        return f"{path}: {place} is missing."
    message = re.sub(r"^Value error, ", "", first["msg"])
    return f"{path}: {place or 'the study'}: {message[0].lower() + message[1:]}."


def _known_keys(section: tuple[str, ...]) -> list[str]:
    sections: dict[str, type[_Section]] = {
        "input": InputSection,
        "ingest": IngestSection,
        "design": DesignSection,
        "qc": QcSection,
        "sites": SitesSection,
        "regions": RegionsSection,
        "sequence": SequenceSection,
        "output": OutputSection,
    }
    model = sections[section[0]] if section else StudyConfig
    return list(model.model_fields)
