"""An array's manifest: which probe reads which position, and at which bead addresses.

Read are Illumina's own CSV manifests (450k, EPIC, EPIC v2: the `[Assay]` section; MAPINFO is the
1-based position of the CpG's + strand C whatever strand the probe is designed on), tables in the
style of the Zhou lab (`CpG_chrm`, `CpG_beg`, `CpG_end`, 0-based), any table with a probe, a contig
and a position column, and BED with the probe as its name.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from melisma import progress
from melisma.calls._source import check_file, head_lines, text_blocks
from melisma.errors import MelismaError

# Column names, lower case, first match first.
_PROBE = ("ilmnid", "probeid", "probe_id", "probe", "name", "id_ref", "id", "cpg", "cg")
_CONTIG = ("cpg_chrm", "chr", "chrom", "#chrom", "chromosome", "seqnames", "contig")
_ONE_BASED = ("mapinfo", "pos", "position", "cpg_position", "bp")
_ZERO_BASED = ("cpg_beg", "start", "chromstart", "chrom_start", "beg")
_BUILD = ("genome_build", "genome", "build")
_ADDRESSES = {
    "address_a": ("addressa_id", "address_a"),
    "address_b": ("addressb_id", "address_b"),
    "design": ("infinium_design_type", "infinium_design", "type"),
    "colour": ("color_channel", "channel", "color"),
}
_UNPLACED = ("", "0", "NA", "*", "nan", "chr0")
# EPIC v2 writes several probes of one CpG as cg00000029_TC21, cg00000029_BC21.
_REPLICATE = r"_[TB][CO]\d+$"
_SNP = r"^(rs|nv)[-\d]"
_FEWEST_PLACED = 0.5


class Manifest(NamedTuple):
    """What a manifest says of each probe.

    table : probe (unique), name (without EPIC v2's suffix), contig and position (0-based; null:
        not placed), and where the file has them address_a, address_b, design, colour
    build : the genome build that the file names, as it names it
    """

    path: Path
    table: pl.DataFrame
    build: str | None

    @property
    def has_addresses(self) -> bool:
        """Whether raw intensities can be assigned to probes with it."""
        return set(_ADDRESSES) <= set(self.table.columns)


def plain_name(probe: pl.Expr) -> pl.Expr:
    """A probe's name without the suffix by which EPIC v2 tells replicates apart."""
    return probe.str.replace(_REPLICATE, "")


def read_manifest(path: Path | str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    MelismaError
        The file is missing, has no probe or position column, or names a probe twice.
    """
    path = Path(path)
    check_file(path)
    lines = [line.decode("utf-8-sig", "replace") for line in head_lines(path, 200)]
    skip = next((i + 1 for i, line in enumerate(lines) if line.startswith("[Assay]")), 0)
    while skip < len(lines) and lines[skip].startswith("##"):
        skip += 1
    if skip >= len(lines):
        raise MelismaError(f"{path} holds no manifest: it has no line after its heading.")
    separator = max("\t,;", key=lines[skip].count)
    names = [name.strip().strip('"') for name in lines[skip].split(separator)]
    columns = _columns(path, names)
    bed = columns is None
    if columns is None:
        columns = {"probe": 3, "contig": 0, "position": 1}
    text = _read(path, separator, len(names), columns, skip + (not bed))
    position = re.sub(r"_hg\d\d$", "", names[columns["position"]].lower())
    one_based = not bed and position in _ONE_BASED
    illumina = not bed and names[columns["position"]].lower() == "mapinfo"
    progress.note(
        f"{path}: positions were read as {'1' if one_based else '0'}-based"
        + (" (MAPINFO)." if illumina else ", by its header." if not bed else ", as in BED.")
    )
    return _checked(path, text, one_based=one_based)


def _columns(path: Path, names: Sequence[str]) -> dict[str, int] | None:
    """Which column holds what; None: BED without a header."""
    lower = [re.sub(r"_hg\d\d$", "", name.lower()) for name in names]

    def first(known: Sequence[str]) -> int | None:
        return next((lower.index(name) for name in known if name in lower), None)

    wanted = {
        "probe": first(_PROBE),
        "contig": first(_CONTIG),
        "position": first((*_ONE_BASED[:1], *_ZERO_BASED[:1], *_ONE_BASED[1:], *_ZERO_BASED[1:])),
    }
    if len(names) > 3 and names[1].isdigit() and names[2].isdigit():
        return None
    missing = [name for name, column in wanted.items() if column is None]
    if missing:
        raise MelismaError(
            f"{path} is no manifest that is read: it has no {' and no '.join(missing)} column "
            f"among {', '.join(names[:8])}; it should have IlmnID, CHR and MAPINFO, or probe, "
            "chrom and position."
        )
    found = {name: column for name, column in wanted.items() if column is not None}
    others = {"name": first(("name",)), "build": first(_BUILD)} | {
        name: first(known) for name, known in _ADDRESSES.items()
    }
    return found | {name: column for name, column in others.items() if column is not None}


def _read(
    path: Path, separator: str, width: int, columns: dict[str, int], skip: int
) -> pl.DataFrame:
    """The wanted columns as words; Illumina's control section at the end is left out."""
    read: list[pl.DataFrame] = []
    for block in text_blocks(path, 1 << 24):
        text = bytes(block.text[: block.end])
        if not read:
            text = text.split(b"\n", skip)[skip] if skip else text
        end = text.find(b"[Controls]")
        if text and end:
            read.append(
                pl.read_csv(
                    text if end < 0 else text[:end],
                    has_header=False,
                    separator=separator,
                    schema={f"column_{i + 1}": pl.String for i in range(width)},
                    columns=sorted(set(columns.values())),
                    truncate_ragged_lines=True,
                )
            )
        if end >= 0:
            break
    if not read:
        raise MelismaError(f"{path} holds no manifest: it has a header and no probes.")
    table = pl.concat(read)
    return table.select(
        pl.col(f"column_{column + 1}").str.strip_chars(' \r"').alias(name)
        for name, column in columns.items()
    )


def _checked(path: Path, text: pl.DataFrame, *, one_based: bool) -> Manifest:
    number = pl.col("position").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    position = number - int(one_based)
    placed = position.ge(0) & ~pl.col("contig").is_in(_UNPLACED) & pl.col("contig").is_not_null()
    # Illumina writes 1 and X; UCSC, and EPIC v2, chr1 and chrX.
    contig = pl.col("contig").str.replace(r"^(\d+|X|Y)$", "chr$1").str.replace(r"^MT?$", "chrM")
    name = pl.col("name") if "name" in text.columns else plain_name(pl.col("probe"))
    table = text.filter(pl.col("probe").is_not_null() & (pl.col("probe") != "")).select(
        "probe",
        plain_name(pl.coalesce(name, "probe")).alias("name"),
        pl.when(placed).then(contig).alias("contig"),
        pl.when(placed).then(position).cast(pl.Int32).alias("position"),
        *(column for column in _ADDRESSES if column in text.columns),
    )
    twice = table.filter(pl.col("probe").is_duplicated())
    if len(twice):
        raise MelismaError(
            f"{path} has {twice['probe'][0]!r} more than once: a manifest has one row a probe."
        )
    if not table["position"].count():
        raise MelismaError(f"{path} gives no probe a position: is this the full manifest?")
    builds = text["build"].drop_nulls().unique().to_list() if "build" in text.columns else []
    builds = [build for build in builds if re.search(r"\d\d", build)]
    return Manifest(path, table, builds[0] if len(builds) == 1 else None)


def place(manifest: Manifest, probes: Sequence[str], source: Path) -> tuple[pl.DataFrame, dict]:
    """Where the manifest has a matrix's probes.

    Parameters
    ----------
    probes : names as the matrix has them
    source : the matrix, for the error

    Returns
    -------
    DataFrame with row (into `probes`), probe (without suffix), contig, position of the placed
    ones, and how many others there are, by reason.

    Raises
    ------
    MelismaError
        The manifest has fewer than half of the probes.
    """
    asked = pl.DataFrame({"probe": list(probes)}, schema={"probe": pl.String})
    asked = asked.with_row_index("row").with_columns(plain_name(pl.col("probe")).alias("name"))
    by_name = manifest.table.unique("name", keep="first", maintain_order=True)
    exact = asked["probe"].is_in(manifest.table["probe"].implode()).sum()
    named = asked["name"].is_in(by_name["name"].implode()).sum()
    found = max(exact, named)
    methylation = asked.filter(~pl.col("probe").str.contains(_SNP) & ~_is_control())
    if found < _FEWEST_PLACED * len(methylation):
        raise MelismaError(
            f"{manifest.path} has {found / len(asked):.0%} of the {len(asked):,} probes of "
            f"{source}, and {source} has {found / len(manifest.table):.0%} of the manifest's: is "
            "this the manifest of another array?"
        )
    # Half of EPIC v2's plain names would be lost to the exact match, never the other way round.
    on, table = ("probe", manifest.table) if exact >= named else ("name", by_name)
    joined = asked.join(
        table.select(on, "contig", "position", found=pl.lit(True)), on=on, how="left"
    )
    reason = (
        pl.when(pl.col("probe").str.contains(_SNP))
        .then(pl.lit("SNP probes (rs)"))
        .when(_is_control())
        .then(pl.lit("control probes (ctl)"))
        .when(pl.col("found").is_null() & pl.col("probe").str.starts_with("ch."))
        .then(pl.lit("non-CpG probes (ch) not in the manifest"))
        .when(pl.col("found").is_null())
        .then(pl.lit("probes not in the manifest"))
        .when(pl.col("position").is_null())
        .then(pl.lit("probes without a position in the manifest"))
    )
    joined = joined.with_columns(reason.alias("reason")).sort("row")
    placed = joined.filter(pl.col("reason").is_null())
    drops = joined["reason"].drop_nulls().value_counts(sort=True)
    return placed.select("row", pl.col("name").alias("probe"), "contig", "position"), dict(
        drops.iter_rows()
    )


def unplaced(probes: Sequence[str]) -> tuple[pl.DataFrame, dict]:
    """The same without a manifest: contig null, position -1; only rs and ctl are left out."""
    asked = pl.DataFrame({"probe": list(probes)}, schema={"probe": pl.String})
    asked = asked.with_row_index("row")
    snp, control = pl.col("probe").str.contains(_SNP), _is_control()
    drops = {
        "SNP probes (rs)": len(asked.filter(snp)),
        "control probes (ctl)": len(asked.filter(control & ~snp)),
    }
    kept = asked.filter(~snp & ~control).select(
        "row",
        plain_name(pl.col("probe")).alias("probe"),
        pl.lit(None, pl.String).alias("contig"),
        pl.lit(-1, pl.Int32).alias("position"),
    )
    return kept, {why: n for why, n in drops.items() if n}


def _is_control() -> pl.Expr:
    return pl.col("probe").str.contains(r"^ctl[-_.]")
