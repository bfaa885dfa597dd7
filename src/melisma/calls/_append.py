"""New samples into a store that is there, its rows and theirs merged a chunk at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import _columns, _merge, progress
from melisma._generations import clear_part, sweep, work_lock
from melisma._store import ArrayReader
from melisma.calls import _builds, _ingest, _join
from melisma.calls._ingest_levels import have_levels
from melisma.calls._records import unpack_key
from melisma.calls._sample import Options, SampleCalls, Source, fingerprint
from melisma.calls._samples_file import read_samples
from melisma.calls._source import BLOCK_BYTES
from melisma.calls._stored_sites import stored_sites
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import (
    MARKS,
    SITE_DTYPES,
    Writer,
    natural_order,
    open_methylome,
    other_attributes,
    parse_mark,
)
from melisma.samples import Current, changed_record, current

_THREADS = 2


class AppendSummary(NamedTuple):
    """What an append made: the store, its size, and what was left out of each new sample."""

    store: Path
    samples: int
    sites: int
    new_sites: int
    rows: int
    drops: dict[str, dict[str, int]]
    formats: dict[str, str]


def append(
    store: Path | str,
    sheet: pl.DataFrame | Path | str,
    *,
    genome: Path | str | None = None,
    merge_strands: bool | None = None,
    mark: str | None = None,
    format: str | None = None,
    min_probability: float | None = None,
    workers: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> AppendSummary:
    """Read new samples' calls into a store that is there.

    Sites that only the new samples have are merged in, with N = 0 in the old samples. The store
    gets a new generation: readers of the old one are not disturbed, and an append that is cut
    short leaves the store as it was; the same call then goes on with the samples that were read.

    Parameters
    ----------
    store : the store's folder
    sheet : the new samples, as `ingest` takes them
    genome, merge_strands, mark, format, min_probability : as for `ingest`; None: as the store
        was made
    workers : files read at a time (default: the processors)

    Raises
    ------
    MelismaError
        The sheet or a file is at fault, a sample is in the store already, or an option
        contradicts what the store was made with.
    """
    store = Path(store)
    table = sheet if isinstance(sheet, pl.DataFrame) else read_samples(sheet)
    attrs = open_methylome(store).attrs
    options = _options(store, attrs, genome, merge_strands, mark, min_probability)
    options = options._replace(block_bytes=block_bytes)
    format = format or attrs.get("ingest", {}).get("format")
    sources = _ingest._sources(table, store, format, genome=options.genome is not None)
    _refuse_present(store, sources)
    if have_levels(sources):
        raise MelismaError(
            f"{sources[0].path} has levels without counts, and only files with counts are appended "
            "yet: ingest all samples again."
        )
    with work_lock(store) as part, _ingest._work_folder(store):
        sweep(store)
        now = current(store)
        _refuse_present(store, sources)
        if "coverage" not in now.values:
            raise MelismaError(
                f"{store} holds levels (beta) without counts: files with counts cannot be appended "
                "to it. Ingest them apart."
            )
        sheet_name = "the sheet" if isinstance(sheet, pl.DataFrame) else str(sheet)
        new = _ingest._covariates(table)
        columns = _columns.appended(now.sheet, new, sheet_name)
        samples = _ingest._read_all(sources, options, workers or _ingest._processors())
        samples = _agreeing(store, now, sources, samples)
        if options.genome is None:
            names = [f"of {store}", *(source.sample for source in sources)]
            _builds.check_builds(names, [stored_sites(store, part / "stored"), *samples])
        record = _record(now, new, sources, samples, options)
        with progress.stage("Merging into the store", sum(s.calls for s in samples)) as advance:
            _write(store, now, columns, samples, options.genome, record, advance)
        clear_part(part)
    return _summary(store, now, sources, samples)


def _options(
    store: Path,
    attrs: Mapping[str, Any],
    genome: Path | str | None,
    merge_strands: bool | None,
    mark: str | None,
    min_probability: float | None,
) -> Options:
    """How the store's own samples were read; what contradicts it is refused."""
    made = attrs.get("ingest", {})
    code = None if mark is None else parse_mark(mark).code
    asked = {"merge_strands": merge_strands, "mark": code, "min_probability": min_probability}
    words = {"merge_strands": "--merge-strands", "mark": "--mark"}
    for name, value in asked.items():
        if value is not None and name in made and value != made[name]:
            option = words.get(name, "--min-probability")
            raise MelismaError(
                f"{store} was made with {option} {_shown(made[name])}, and {_shown(value)} is "
                f"asked for: leave {option} out, so that all samples are read alike."
            )
    chosen = {name: made.get(name) if value is None else value for name, value in asked.items()}
    file = _genome_file(store, attrs, genome)
    return Options(
        genome=None if file is None else _same_genome(store, attrs, file),
        genome_file=file,
        merge_strands=bool(chosen["merge_strands"]),
        mark=None if chosen["mark"] is None else MARKS.index(parse_mark(chosen["mark"])),
        min_probability=chosen["min_probability"] or 0.0,
    )


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _genome_file(store: Path, attrs: Mapping[str, Any], given: Path | str | None) -> Path | None:
    known = attrs.get("genome")
    if given is not None:
        if known is None and "ingest" in attrs:
            raise MelismaError(
                f"{store} was made without a genome: leave --genome out, or ingest all samples "
                "with it."
            )
        return Path(given)
    if known is None:
        return None
    recorded = attrs.get("ingest", {}).get("genome_file")
    if recorded is None or not Path(recorded).is_file():
        where = f", and {recorded} is not there" if recorded else ""
        raise MelismaError(
            f"The calls of {store} were compared with genome {known['name']}{where}: pass --genome."
        )
    return Path(recorded)


def _same_genome(store: Path, attrs: Mapping[str, Any], file: Path) -> Genome:
    """The genome at `file`, refused where its contigs are not those of the store's genome."""
    genome, known = Genome.open(file), attrs.get("genome")
    if known is None or genome.lengths == known["lengths"]:
        return genome
    lengths = known["lengths"]
    contig = next(
        (c for c in lengths if genome.lengths.get(c) != lengths[c]),
        next((c for c in genome.lengths if c not in lengths), ""),
    )
    found, expected = genome.lengths.get(contig), lengths.get(contig)
    raise MelismaError(
        f"{file} is not the genome {known['name']} that {store} was made with: its {contig} "
        f"{'is missing' if found is None else f'has {found:,} bases'}, and "
        f"{'there was none' if expected is None else f'{expected:,} are expected'}."
    )


def _refuse_present(store: Path, sources: Sequence[Source]) -> None:
    have = {str(name) for name in open_methylome(store)["sample"].values}
    present = [source.sample for source in sources if source.sample in have]
    if present:
        more = f" and {len(present) - 1:,} more of the sheet" if len(present) > 1 else ""
        raise MelismaError(
            f"{store} has a sample {present[0]!r}{more} already: list only new samples, or "
            "`melisma remove` the old ones first."
        )


def _agreeing(
    store: Path, now: Current, sources: Sequence[Source], samples: Sequence[SampleCalls]
) -> list[SampleCalls]:
    """The new samples with the store's names of contigs; other strands are refused."""
    names = [source.sample for source in sources]
    contigs = now.attrs["contigs"]
    samples = _join.name_alike(names, samples, contigs)
    stored = samples[0]._replace(
        contigs=dict.fromkeys(contigs, (0, 0)), strands=now.attrs["strands"]
    )
    _join.check_agreement([f"of {store}", *names], [stored, *samples])
    return samples


def _record(
    now: Current,
    new: Mapping[str, Sequence[Any]],
    sources: Sequence[Source],
    samples: Sequence[SampleCalls],
    options: Options,
) -> dict[str, Any]:
    """The attribute `ingest` with the new samples."""
    prints = [fingerprint(source, options) for source in sources]
    record = changed_record(now.attrs, "append", new, prints)
    old = record.get("samples", {})
    return record | {"samples": old | _ingest._sample_records(sources, samples)}


def _write(
    store: Path,
    now: Current,
    columns: Mapping[str, Sequence[Any]],
    samples: Sequence[SampleCalls],
    genome: Genome | None,
    record: dict[str, Any],
    advance: Callable[[float], Any],
) -> None:
    attrs = now.attrs
    reader = ArrayReader(
        now.folder, ["contig", "position", "strand", "mark", "context", *now.values]
    )
    found = {contig for sample in samples for contig in sample.contigs}
    contigs = _contig_order(attrs["contigs"], found, genome)
    marks = _mark_order(store, attrs["marks"], samples)
    largest = max(sample.largest for sample in samples)
    wide = largest > np.iinfo(np.uint16).max or reader.dtypes["coverage"].itemsize > 2
    dtype = np.dtype(np.uint32 if wide else np.uint16)
    dtypes: dict[str, np.dtype[Any]] = dict.fromkeys(now.values, dtype)
    contig_index = np.array([contigs.index(c) for c in attrs["contigs"]], dtype=np.int16)
    mark_index = np.array([marks.index(code) for code in attrs["marks"]], dtype=np.int8)
    n_old, n_new = len(now.sheet["sample"]), len(samples)
    with Writer(
        store,
        samples=columns,
        contigs=contigs,
        marks=marks,
        strands=attrs["strands"],
        values=dtypes,
        attrs=other_attributes(attrs) | {"ingest": record},
        threads=_THREADS,
    ) as writer:
        old = _merge.stored_rows(reader, now.values, contig_index, mark_index)
        new = _new_rows(samples, contigs, marks, genome, dtype, advance)
        for block in _merge.merge(old, new, dtypes, (n_old, n_new), writer.chunk):
            writer.append(block)


def _contig_order(old: Sequence[str], new: set[str], genome: Genome | None) -> list[str]:
    """The contigs of both in the genome's order, else in natural order; the store's order stays."""
    every = [*old, *sorted(new - set(old))]
    if len(every) > np.iinfo(SITE_DTYPES["contig"]).max:
        raise MelismaError(
            f"The store and the new samples have {len(every):,} contigs, and a store holds up to "
            f"{np.iinfo(SITE_DTYPES['contig']).max:,}: keep those of the assembly that matter."
        )
    known = set(every)
    ordered = natural_order(every) if genome is None else [c for c in genome.contigs if c in known]
    if [c for c in ordered if c in set(old)] == list(old):
        return ordered
    return [*old, *(c for c in ordered if c not in set(old))]


def _mark_order(store: Path, old: Sequence[str], samples: Sequence[SampleCalls]) -> list[str]:
    """The marks of both, in the order that keys are made of."""
    marks = [
        mark.code
        for k, mark in enumerate(MARKS)
        if mark.code in old or any(sample.marks >> k & 1 for sample in samples)
    ]
    if [code for code in marks if code in old] != list(old):
        raise MelismaError(
            f"{store} has its marks in the order {', '.join(old)}, and melisma writes them as "
            f"{', '.join(marks)}: ingest its samples again."
        )
    return marks


def _new_rows(
    samples: Sequence[SampleCalls],
    contigs: Sequence[str],
    marks: Sequence[str],
    genome: Genome | None,
    dtype: npt.DTypeLike,
    advance: Callable[[float], Any],
) -> Iterator[_merge.Rows]:
    """The new samples' sites in the store's order: key, context, M and N (sites, samples)."""
    mark_index = np.array([marks.index(m.code) if m.code in marks else 0 for m in MARKS], np.int8)
    here = {contig for sample in samples for contig in sample.contigs}
    for index, contig in enumerate(contigs):
        if contig not in here:
            continue
        for key, context, methylated, coverage in _join._joined(contig, samples, dtype, advance):
            position, strand, mark = unpack_key(key)
            if genome is not None:
                context = _join._contexts(genome, contig, position, strand)
            sites = {
                "contig": np.full(len(key), index, dtype=np.int16),
                "position": position,
                "strand": strand,
                "mark": mark_index[mark],
            }
            yield {
                "key": _merge.site_keys(sites),
                "context": context,
                "methylated": methylated,
                "coverage": coverage,
            }


def _summary(
    store: Path, now: Current, sources: Sequence[Source], samples: Sequence[SampleCalls]
) -> AppendSummary:
    opened = open_methylome(store)
    return AppendSummary(
        store=store,
        samples=opened.sizes["sample"],
        sites=opened.sizes["site"],
        new_sites=opened.sizes["site"] - now.attrs["contig_offsets"][-1],
        rows=sum(sample.rows for sample in samples),
        drops={s.sample: calls.drops for s, calls in zip(sources, samples, strict=True)},
        formats={source.sample: source.form.name for source in sources},
    )
