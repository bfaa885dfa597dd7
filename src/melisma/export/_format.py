"""How an export format is described, and which stores it can hold."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from melisma.errors import MelismaError
from melisma.export._rows import Field
from melisma.export._selection import Selection
from melisma.methylome import CONTEXTS, parse_mark


class Names(NamedTuple):
    """What the words of a text format are: contigs, mark codes, and the letters of contexts.

    exact : whether the letters come from a genome (else from the contexts)
    """

    contigs: Sequence[str]
    marks: Sequence[str]
    exact: bool


_KEEP_MERGED = ("bedmethyl", "parquet")
Columns = Callable[[Names], list[Field | list[Field]]]


class ExportFormat(NamedTuple):
    """One export format.

    name : what `--to` takes; the same as the reader's, where there is one
    title : the format as its users call it
    suffix : how a sample's file name ends, without compression
    reader : what `melisma ingest --format` calls it, None: not read
    level_reader : the same of a store of levels, where it is another
    counts, levels : whether it can hold stores of counts, and of levels
    marks : whether it can say which mark a call is
    cytosines : whether it is for modified cytosines alone
    strands : whether it can say the strand; needs_strand : whether it must
    contexts : whether it can say CG, CHG, CHH; needs_context : whether it must
    uncovered : whether sites that a sample has not seen are written
    columns, header : of text formats
    """

    name: str
    title: str
    suffix: str
    reader: str | None
    counts: bool = True
    levels: bool = False
    marks: bool = False
    cytosines: bool = False
    strands: bool = False
    needs_strand: bool = False
    contexts: bool = False
    needs_context: bool = False
    uncovered: bool = False
    columns: Columns | None = None
    header: str = ""
    level_reader: str | None = None


def check_fits(form: ExportFormat, selection: Selection, *, genome: bool) -> None:
    """Refuse a store that a format cannot hold.

    Raises
    ------
    MelismaError
        The store has levels and the format holds counts, or several marks and it holds one, or
        what the format must say is not known.
    """
    if not selection.has_counts and not form.levels:
        raise MelismaError(
            f"{form.title} holds read counts, and the store has levels without counts: export it "
            "with --to matrix, parquet, anndata or bigwig."
        )
    marks = selection.marks
    if not form.marks and len(marks) > 1:
        raise MelismaError(
            f"{form.title} cannot say which mark a call is, and the store has "
            f"{', '.join(marks)}: choose one with --mark, or --to bedmethyl, which keeps them "
            "apart."
        )
    bases = {code: parse_mark(code).base for code in marks}
    other = next((code for code, base in bases.items() if base != "C"), None)
    if form.cytosines and other is not None:
        raise MelismaError(
            f"{form.title} is for cytosines, and {parse_mark(other).name} is a mark of "
            f"{bases[other]}: use --to bedmethyl, dss, parquet or anndata."
        )
    strands = selection.methylome.attrs["strands"]
    if form.needs_strand and strands == "unknown" and not genome:
        raise MelismaError(
            f"{form.title} needs strands, and the calls in the store have none: pass --genome with "
            "the reference, from which they follow."
        )


def check_context(form: ExportFormat, unknown: bool) -> None:
    """Refuse sites without a context where the format needs one and no genome gives it."""
    if form.needs_context and unknown:
        raise MelismaError(
            f"{form.title} needs each site's context ({', '.join(CONTEXTS[:3])}), and the store "
            "does not know it: pass --genome with the reference."
        )


def losses(form: ExportFormat, selection: Selection, *, genome: bool) -> list[str]:
    """What the store says and the format cannot: one sentence each, with how to get it back."""
    strands, marks = selection.methylome.attrs["strands"], selection.marks
    lost: list[str] = []
    if strands == "separate" and not form.strands:
        lost.append(
            f"{form.title} has no strand: pass --genome to `melisma ingest` to get the strands "
            "back."
        )
    if strands == "merged" and form.needs_strand:
        lost.append(
            f"CpGs of merged strands are written as their + strand cytosine in {form.title}."
        )
    elif strands == "merged" and form.counts and form.reader and form.name not in _KEEP_MERGED:
        lost.append(
            f"{form.title} does not say that strands are merged: `melisma ingest` takes them for "
            "unknown."
        )
    if strands == "unknown" and form.name == "bedmethyl" and not genome:
        lost.append("The strand is unknown and written '.', which readers take for merged strands.")
    code = marks[0]
    if not form.marks and code != "m":
        lost.append(
            f"{form.title} does not name the mark: pass --mark {code} to `melisma ingest` "
            f"({parse_mark(code).name})."
        )
    return lost
