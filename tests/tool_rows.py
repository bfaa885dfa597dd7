"""Calls as rows of each text format, written from the tools' documents, for round trips."""

from typing import NamedTuple


class Call(NamedTuple):
    """One cytosine: 0-based position, strand 1 or -1, the three bases from it on, M and N."""

    contig: str
    position: int
    strand: int
    bases: str
    methylated: int
    coverage: int

    @property
    def context(self):
        """CG, CHG or CHH, from the bases."""
        return "CG" if self.bases[1] == "G" else "CHG" if self.bases[2] == "G" else "CHH"


class Dialect(NamedTuple):
    """How a tool writes a call, and what of it comes back; `merged`: a row is a whole CpG."""

    row: object
    strand: bool = True
    context: bool = False
    merged: bool = False
    header: str = ""


def _level(call):
    return call.methylated / call.coverage if call.coverage else 0.0


def _sign(call):
    return "+" if call.strand > 0 else "-"


def _bed(call, name, width=1):
    start, end = call.position, call.position + width
    sign = "." if width > 1 else _sign(call)
    return f"{call.contig}\t{start}\t{end}\t{name}\t{call.coverage}\t{sign}\t{start}\t{end}\t0,0,0"


def _bedmethyl(call, between=" "):
    rest = [f"{call.coverage}", f"{100 * _level(call):.2f}", f"{call.methylated}"]
    rest += [f"{call.coverage - call.methylated}", "0", "1", "2", "0", "3"]
    return _bed(call, "m") + "\t" + between.join(rest)


def _modbam2bed(call, more, width=1):
    percent = f"{100 * _level(call):.2f}" if call.coverage else "nan"
    unmethylated = call.coverage - call.methylated
    counts = f"{call.coverage + 4}\t{percent}\t{unmethylated}\t{call.methylated}\t3{more}"
    return f"{_bed(call, '5mC', width)}\t{counts}"


def _six(call, start, end, percent):
    """Contig, start, end, percentage and both counts."""
    counts = f"{call.methylated}\t{call.coverage - call.methylated}"
    return f"{call.contig}\t{start}\t{end}\t{percent}\t{counts}"


def _bismark(call, first, last):
    return _six(call, call.position + first, call.position + last, f"{100 * _level(call):.15g}")


def _methyldackel(call, width=1):
    percent = 100 * call.methylated // max(call.coverage, 1)
    return _six(call, call.position, call.position + width, percent)


def _report(call):
    counts = f"{call.methylated}\t{call.coverage - call.methylated}"
    place = f"{call.contig}\t{call.position + 1}\t{_sign(call)}"
    return f"{place}\t{counts}\t{call.context}\t{call.bases}"


def _methylkit(call, width=0):
    place = f"{call.contig}.{call.position + 1}\t{call.contig}\t{call.position + 1}"
    percents = (100 * _level(call), 100 - 100 * _level(call) if call.coverage else 0)
    shown = "\t".join(f"{percent:{width}.2f}" for percent in percents)
    return f"{place}\t{'F' if call.strand > 0 else 'R'}\t{call.coverage}\t{shown}"


def _allc(call, more=""):
    place = f"{call.contig}\t{call.position + 1}\t{_sign(call)}\t{call.bases}"
    return f"{place}\t{call.methylated}\t{call.coverage}\t1{more}"


def _cgmap(call):
    place = f"{call.contig}\t{'C' if call.strand > 0 else 'G'}\t{call.position + 1}"
    counts = f"{_level(call):.2f}\t{call.methylated}\t{call.coverage}"
    return f"{place}\t{call.context}\t{call.bases[:2]}\t{counts}"


def _biscuit(call, context="", after="", width=1):
    beta = f"{_level(call):.3f}" if call.coverage else "."
    place = f"{call.contig}\t{call.position}\t{call.position + width}"
    return f"{place}{context}\t{beta}\t{call.coverage}{after}"


def _biscuit_context(call):
    base = "C" if call.strand > 0 else "G"
    return _biscuit(call, f"\t{base}\t{call.context}\t{call.bases[:2]}\tAA{call.bases}")


def _dnmtools(call):
    word = {"CG": "CpG", "CHG": "CCG" if call.bases[1] == "C" else "CXG", "CHH": "CHH"}
    place = f"{call.contig}\t{call.position}\t{_sign(call)}\t{word[call.context]}"
    return f"{place}\t{_level(call):.6g}\t{call.coverage}"


def _encode(call):
    percent = (200 * call.methylated + call.coverage) // max(2 * call.coverage, 1)
    return f"{_bed(call, '.')}\t{call.coverage}\t{percent}"


ENCODE = Dialect(_encode)
_METHYLKIT_HEADER = "chrBase\tchr\tbase\tstrand\tcoverage\tfreqC\tfreqT\n"
_TRACK = 'track type="bedGraph" description="calls"\n'
# By format: each way in which its rows are written. `ENCODE` is apart, as M does not always come
# back from a whole percentage.
DIALECTS = {
    "bedmethyl": [Dialect(_bedmethyl), Dialect(lambda call: _bedmethyl(call, "\t"))],
    "modbam2bed": [
        Dialect(lambda call: _modbam2bed(call, "")),
        Dialect(lambda call: _modbam2bed(call, "\t1")),
        Dialect(lambda call: _modbam2bed(call, "\t1\t0")),
        Dialect(lambda call: _modbam2bed(call, "\t1\t0", 2), strand=False, merged=True),
    ],
    "bismark-cov": [Dialect(lambda call: _bismark(call, 1, 1), strand=False)],
    "bismark-zero-cov": [Dialect(lambda call: _bismark(call, 0, 1), strand=False)],
    "bismark-merged-cov": [Dialect(lambda call: _bismark(call, 1, 2), strand=False, merged=True)],
    "bismark-report": [
        Dialect(_report, context=True),
        Dialect(lambda call: f"{_report(call)}\tACGT\tACGTA\tAACGTA", context=True),
    ],
    "methyldackel": [Dialect(_methyldackel, strand=False, header=_TRACK)],
    "methyldackel-merged": [
        Dialect(lambda call: _methyldackel(call, 2), strand=False, merged=True, header=_TRACK),
        Dialect(lambda call: _methyldackel(call, 3), strand=False, merged=True, header=_TRACK),
    ],
    "methylkit": [
        Dialect(_methylkit, header=_METHYLKIT_HEADER),
        Dialect(lambda call: _methylkit(call, 6), header=_METHYLKIT_HEADER),
    ],
    "allc": [
        Dialect(_allc, context=True),
        Dialect(lambda call: _allc(call, "\t9,12\t0,1"), context=True),
    ],
    "cgmap": [Dialect(_cgmap, context=True)],
    "biscuit": [Dialect(_biscuit, strand=False)],
    "biscuit-context": [Dialect(_biscuit_context, context=True)],
    "biscuit-merged": [
        Dialect(
            lambda call: _biscuit(call, after="\tC:0.500:2,G:.:0", width=2),
            strand=False,
            merged=True,
        )
    ],
    "dnmtools": [Dialect(_dnmtools, context=True)],
    "dss": [
        Dialect(
            lambda call: f"{call.contig}\t{call.position + 1}\t{call.coverage}\t{call.methylated}",
            strand=False,
            header="chr\tpos\tN\tX\n",
        )
    ],
}


def written(dialect, calls, end="\n"):
    """The calls as a file's text."""
    return (dialect.header + "".join(dialect.row(call) + "\n" for call in calls)).replace("\n", end)


def comes_back(dialect, calls):
    """What `calls_files.sites` shows of the calls after ingest."""
    return [
        (
            call.contig,
            call.position,
            call.strand if dialect.strand else 0,
            "m",
            call.context if dialect.context else "unknown",
            [(call.methylated, call.coverage)],
        )
        for call in calls
        if call.coverage
    ]
