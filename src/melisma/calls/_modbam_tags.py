"""MM, ML and MN tags of one read, as the arrays that `_modbam_kernels.count_read` takes."""

import re
from array import array
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pysam

from melisma.calls import _modbam_kernels as kernels
from melisma.errors import MelismaError
from melisma.methylome import MARKS, Mark, parse_mark

# A group's head in the SAM tags specification: base, strand, codes, how skipped bases count.
_HEAD = re.compile(r"([ACGTUN])([-+])([a-z]+|[0-9]+|[ACGTUN])([.?]?)")
_PAIR = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}


class Head(NamedTuple):
    """What a group's head says: its letter in the read, and a channel a code (-1: ignored)."""

    letter: str
    opposite: bool
    implicit: bool
    codes: tuple[str, ...]
    slots: tuple[int, ...]
    slot_letters: tuple[str, ...]


class Groups(NamedTuple):
    """All groups of one read, as `count_read` takes them."""

    on_strand: npt.NDArray[np.bool_]
    letters: npt.NDArray[np.uint8]
    implicit: npt.NDArray[np.bool_]
    deltas: npt.NDArray[np.int64]
    delta_start: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    slot_letters: npt.NDArray[np.uint8]
    slot_start: npt.NDArray[np.int64]
    quality: npt.NDArray[np.uint8]


class TagReader:
    """Reads the tags of a file's reads; remembers the heads, which repeat from read to read."""

    def __init__(self, file: str, mark: Mark | None) -> None:
        self._file, self._mark = file, mark
        self._heads: dict[str, Head] = {}

    def refuse(self, read: pysam.AlignedSegment, found: str) -> MelismaError:
        """The error that names this read and what was found in it."""
        return MelismaError(f"{self._file} read {read.query_name}: {found}")

    def groups(self, read: pysam.AlignedSegment, bases: int) -> Groups | None:
        """The groups of a read of so many bases; None where it has no MM tag.

        Raises
        ------
        MelismaError
            The tags are malformed, contradict each other or the sequence, or hold a code that
            is not supported.
        """
        names = ("MM", "ML") if read.has_tag("MM") else ("Mm", "Ml")
        if not read.has_tag(names[0]):
            return None
        self._check_length(read, bases)
        *texts, rest = str(read.get_tag(names[0])).split(";")
        if rest:
            raise self.refuse(read, f"its MM tag ends in {rest[-20:]!r} without the final ';'.")
        heads: list[Head] = []
        deltas: list[npt.NDArray[np.int64]] = []
        for text in texts:
            head, comma, numbers = text.partition(",")
            heads.append(self._heads.get(head) or self._remember(read, head))
            deltas.append(kernels.parse_deltas(np.frombuffer((comma + numbers).encode(), np.uint8)))
            if len(deltas[-1]) and deltas[-1][0] < 0:
                raise self.refuse(
                    read, f"its MM tag has {text[:30]!r}, not a base, strand, code and numbers."
                )
        self._check_repeats(read, heads)
        expected = sum(len(h.slots) * len(d) for h, d in zip(heads, deltas, strict=True))
        found = read.get_tag(names[1]) if read.has_tag(names[1]) else array("B")
        quality = found if isinstance(found, array) and found.typecode == "B" else array("B")
        if len(quality) != expected:
            raise self.refuse(
                read,
                f"its ML tag has {len(quality)} probabilities and its MM tag {expected}, which "
                "must be equal: call the modifications again.",
            )
        return _flat(heads, deltas, np.array(quality, np.uint8))

    def _check_length(self, read: pysam.AlignedSegment, bases: int) -> None:
        if read.has_tag("MN"):
            if read.get_tag("MN") != bases:
                raise self.refuse(
                    read,
                    f"MN says that its modifications were called on {read.get_tag('MN')} bases, "
                    f"and its sequence has {bases}: it was clipped after calling; align again "
                    "with soft clips (minimap2 -Y), or repair the tags.",
                )
        elif "H" in (read.cigarstring or ""):
            raise self.refuse(
                read,
                "it is hard-clipped and has no MN tag, so that its MM positions cannot be "
                "trusted: align again with soft clips (minimap2 -Y).",
            )

    def _check_repeats(self, read: pysam.AlignedSegment, heads: list[Head]) -> None:
        told = [(h.letter, h.opposite, code) for h in heads for code in h.codes]
        for letter, opposite, code in told:
            if told.count((letter, opposite, code)) > 1:
                named = f"{letter}{'-' if opposite else '+'}{code}"
                raise self.refuse(
                    read, f"its MM tag holds {named} twice: call the modifications again."
                )

    def _remember(self, read: pysam.AlignedSegment, text: str) -> Head:
        found = _HEAD.fullmatch(text)
        if found is None:
            raise self.refuse(
                read, f"its MM tag has {text[:30]!r}, not a base, strand, code and numbers."
            )
        letter, sign, written, skipped = found.groups()
        letter = "T" if letter == "U" else letter
        codes = (written,) if written[0].isdigit() else tuple(written)
        base = _PAIR[letter] if sign == "-" else letter
        slots = tuple(self._slot(read, text, code, base) for code in codes)
        slot_bases = [_slot_base(slot, base) for slot in slots]
        head = Head(
            letter=letter,
            opposite=sign == "-",
            implicit=skipped != "?",
            codes=codes,
            slots=slots,
            slot_letters=tuple(_PAIR[b] if sign == "-" else b for b in slot_bases),
        )
        self._heads[text] = head
        return head

    def _slot(self, read: pysam.AlignedSegment, text: str, code: str, base: str) -> int:
        """The channel of a code on a modified base; -1: it has no bearing on the wanted mark."""
        try:
            mark = parse_mark(code)
        except MelismaError as error:
            unsupported = str(error)
        else:
            if base in (mark.base, "N"):
                return MARKS.index(mark)
            unsupported = (
                f"The modification {text!r} is not supported, for {mark.name} is on {mark.base}: "
                "correct the tags."
            )
        if self._mark is None:
            said = f"{unsupported[0].lower()}{unsupported[1:-1]}"
            raise self.refuse(read, f"{said}, or choose one mark (--mark) to pass over the others.")
        return kernels.OTHER + kernels.BASES.index(base) if base in kernels.BASES else -1


def _slot_base(slot: int, base: str) -> str:
    return MARKS[slot].base if 0 <= slot < len(MARKS) else base


def _flat(
    heads: list[Head], deltas: list[npt.NDArray[np.int64]], quality: npt.NDArray[np.uint8]
) -> Groups:
    def offsets(sizes: list[int]) -> npt.NDArray[np.int64]:
        return np.cumsum([0, *sizes], dtype=np.int64)

    def codes(letters: list[str]) -> npt.NDArray[np.uint8]:
        return np.array([ord(letter) for letter in letters], np.uint8)

    opposite = [h.opposite for h in heads]
    return Groups(
        # A read without groups still covers its own strand.
        on_strand=np.array([not all(opposite) or not heads, any(opposite)]),
        letters=codes([h.letter for h in heads]),
        implicit=np.array([h.implicit for h in heads], np.bool_),
        deltas=np.concatenate([np.zeros(0, np.int64), *deltas]),
        delta_start=offsets([len(d) for d in deltas]),
        slots=np.array([s for h in heads for s in h.slots], np.int64),
        slot_letters=codes([b for h in heads for b in h.slot_letters]),
        slot_start=offsets([len(h.slots) for h in heads]),
        quality=quality,
    )
