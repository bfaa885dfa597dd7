"""Kernels over sorted calls: strands merged, bases checked, samples joined."""

import numpy as np
from numba import njit

_A, _C, _G, _T, _N = 65, 67, 71, 84, 78
# Tallies of `check_bases`, in this order: calls left out, then reads compared and where they fit.
PAST_END, OFF_BASE, ON_N, NOT_CG, COMPARED, IN_PLACE, BEFORE, AFTER, ON_CG_C, ON_CG_G = range(10)
# A site of great depth, such as a repeat or a mitochondrial base, speaks for no more than this.
_MOST_READS = 100
# How far `settle` moves a call: modkit's rows of one position are in the order of their codes.
_FARTHEST = 16


@njit(cache=True, nogil=True)
def _carries(bases, i, base, other, strand, merged):
    """Whether bases[i] can carry a mark of `base` (`other` is its complement) on that strand."""
    if i < 0 or i >= bases.size:
        return False
    if strand > 0 or (strand == 0 and merged):
        return bases[i] == base
    if strand < 0:
        return bases[i] == other
    return bases[i] == base or bases[i] == other


@njit(cache=True, nogil=True)
def check_bases(key, coverage, bases, first, length, is_adenine, merged, only_cg, keep, tally):
    """Compare each call with the reference base, and give strand-less calls their strand.

    key : int64 (calls,), changed in place where the strand is taken from the base
    coverage : uint32 (calls,)
    bases : uint8, the reference from position `first` on, one base beyond the calls either side
    length : of the contig
    is_adenine : bool (marks,), whether a mark sits on A (else on C)
    merged : whether strand 0 means both strands, placed on the + strand's base
    only_cg : whether calls outside CG are left out
    keep : bool (calls,), set to whether the call lies on its base
    tally : int64 (10,), added to; see the constants above
    """
    for row in range(key.size):
        position, mark = key[row] >> 5, key[row] & 7
        strand = ((key[row] >> 3) & 3) - 1
        i = position - first
        base, other = (_A, _T) if is_adenine[mark] else (_C, _G)
        keep[row] = False
        if position < length and bases[i] == _N:
            tally[ON_N] += 1
            continue
        reads = min(np.int64(coverage[row]), _MOST_READS)
        tally[COMPARED] += reads
        tally[BEFORE] += reads * _carries(bases, i - 1, base, other, strand, merged)
        tally[AFTER] += reads * _carries(bases, i + 1, base, other, strand, merged)
        if position >= length:
            tally[PAST_END] += 1
            continue
        if not _carries(bases, i, base, other, strand, merged):
            tally[OFF_BASE] += 1
            continue
        tally[IN_PLACE] += reads
        on_c = bases[i] == _C and i + 1 < bases.size and bases[i + 1] == _G
        on_g = bases[i] == _G and i > 0 and bases[i - 1] == _C
        tally[ON_CG_C] += reads * on_c
        tally[ON_CG_G] += reads * on_g
        if only_cg and not (on_c or on_g):
            tally[NOT_CG] += 1
            continue
        keep[row] = True
        if strand == 0 and not merged:
            strand = 1 if bases[i] == base else -1
            key[row] = (position << 5) | ((strand + 1) << 3) | mark


@njit(cache=True, nogil=True)
def settle(key, methylated, coverage, context):
    """Sort calls that are out of order by a few places only, in place; False: one was not.

    context : int8 (calls,) or (0,)
    """
    for row in range(1, key.size):
        i = row
        while i and key[i] < key[i - 1]:
            if row - i == _FARTHEST:
                return False
            key[i], key[i - 1] = key[i - 1], key[i]
            methylated[i], methylated[i - 1] = methylated[i - 1], methylated[i]
            coverage[i], coverage[i - 1] = coverage[i - 1], coverage[i]
            if context.size:
                context[i], context[i - 1] = context[i - 1], context[i]
            i -= 1
    return True


@njit(cache=True, nogil=True)
def fold_strands(key):
    """Place every CpG call on the + strand's C with strand 0, in place."""
    for row in range(key.size):
        position = key[row] >> 5
        if ((key[row] >> 3) & 3) == 0:
            position -= 1
        key[row] = (position << 5) | (1 << 3) | (key[row] & 7)


@njit(cache=True, nogil=True)
def sum_repeats(key, methylated, coverage):
    """Sum the counts of equal neighbouring keys, in place; returns how many keys are left."""
    kept = 0
    for row in range(key.size):
        if kept and key[kept - 1] == key[row]:
            methylated[kept - 1] += methylated[row]
            coverage[kept - 1] += coverage[row]
        else:
            key[kept], methylated[kept], coverage[kept] = key[row], methylated[row], coverage[row]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def join_samples(keys, counts_m, counts_n, contexts, head, filled, finished, out):
    """Join the samples' sorted calls into rows of sites until a buffer or the output ends.

    keys : int64 (samples, buffer), each ascending in [head, filled)
    counts_m, counts_n : uint32 (samples, buffer)
    contexts : int8 (samples, buffer), or (samples, 0): unknown
    head, filled : int64 (samples,); head is moved on
    finished : bool (samples,), whether a buffer will not be filled again
    out : (key int64 (sites,), context int8 (sites,), M (sites, samples), N (sites, samples))
    Returns the number of sites written.
    """
    out_key, out_context, out_m, out_n = out
    n_samples = keys.shape[0]
    largest = np.int64(np.iinfo(np.int64).max)
    current = np.empty(n_samples, dtype=np.int64)
    for s in range(n_samples):
        if head[s] < filled[s]:
            current[s] = keys[s, head[s]]
        elif finished[s]:
            current[s] = largest
        else:
            return 0
    rows = 0
    while rows < out_key.size:
        key = largest
        for s in range(n_samples):
            key = min(key, current[s])
        if key == largest:
            break
        context, empty = 3, False
        for s in range(n_samples):
            if current[s] != key:
                out_m[rows, s] = 0
                out_n[rows, s] = 0
                continue
            i = head[s]
            out_m[rows, s] = counts_m[s, i]
            out_n[rows, s] = counts_n[s, i]
            if contexts.shape[1] and context == 3:
                context = contexts[s, i]
            i += 1
            head[s] = i
            if i < filled[s]:
                current[s] = keys[s, i]
            else:
                current[s] = largest
                empty = empty or not finished[s]
        out_key[rows] = key
        out_context[rows] = context
        rows += 1
        if empty:
            break
    return rows


@njit(cache=True, nogil=True)
def coincidences(mine, theirs, move):
    """How many of the sorted keys, moved by some bases, are among the other sorted keys.

    One walk over both: a search for each took a third of an ingest of small files.
    """
    found = 0
    k = 0
    for key in mine:
        wanted = key + (move << 5)
        while k < len(theirs) and theirs[k] < wanted:
            k += 1
        if k == len(theirs):
            break
        found += theirs[k] == wanted
    return found
