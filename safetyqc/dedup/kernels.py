"""Compiled loops of the near-duplicate search: tokenising, numbering features, building and probing the index.

Import only when it is needed: loading numba takes half a second and the first call on a machine compiles for some
seconds (the result is cached on disk where a cache can be written). Every kernel releases the GIL, so plain threads
use all cores. Nothing here decides anything: `vectors.py` and `pairs.py` say what is computed and why it is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from safetyqc.dedup.tokens import HASH_SEED, HASH_STEP, LONE, MIX_1, MIX_2, PAIR, REMOVED, WORD

U64 = np.uint64
_SEED, _STEP, _MIX_1, _MIX_2, _PAIR = U64(HASH_SEED), U64(HASH_STEP), U64(MIX_1), U64(MIX_2), U64(PAIR)
_S33, _ONE, _ZERO = U64(33), U64(1), U64(0)
_WORTH = 8
_WORD, _LONE, _REMOVED = np.uint8(WORD), np.uint8(LONE), np.uint8(REMOVED)
Array = NDArray[Any]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the GIL; without a disk cache where no folder for it can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@compiled
def mixed(value):  # type: ignore[no-untyped-def]
    """Spread every bit over all 64, as `tokens._mixed` does."""
    value = (value ^ (value >> _S33)) * _MIX_1
    value = (value ^ (value >> _S33)) * _MIX_2
    value = value ^ (value >> _S33)
    return value if value != _ZERO else _ONE


@compiled
def word_hashes(codes, bounds, classes, words, word_bounds):  # type: ignore[no-untyped-def]
    """Hash the words of each text into `words`; text r has words[word_bounds[r]:word_bounds[r + 1]]."""
    count = 0
    for row in range(len(bounds) - 1):
        value, inside = _SEED, False
        for at in range(bounds[row], bounds[row + 1]):
            code = codes[at]
            kind = classes[code]
            if kind == _WORD:
                if code >= 65 and code <= 90:
                    code = code + np.uint32(32)
                value = (value ^ U64(code)) * _STEP
                inside = True
                continue
            if kind == _REMOVED:
                continue
            if inside:
                words[count] = mixed(value)
                count += 1
                value, inside = _SEED, False
            if kind == _LONE:
                words[count] = mixed((_SEED ^ U64(code)) * _STEP)
                count += 1
        if inside:
            words[count] = mixed(value)
            count += 1
        word_bounds[row + 1] = count
    return count


@compiled
def count_features(words, word_bounds, hashes, counts, bounds, fingerprints):  # type: ignore[no-untyped-def]
    """Count the different words and pairs of each text, in order of appearance.

    `fingerprints` gets 128 bits of the word sequence of each text, all zero where it has no word.
    """
    longest = 0
    for row in range(len(word_bounds) - 1):
        longest = max(longest, word_bounds[row + 1] - word_bounds[row])
    size = 16
    while size < 4 * longest:
        size *= 2
    slots, places = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    filled = 0
    for row in range(len(word_bounds) - 1):
        start, stop = word_bounds[row], word_bounds[row + 1]
        size = 16
        while size < 4 * (stop - start):
            size *= 2
        mask = U64(size - 1)
        slots[:size] = _ZERO
        low, high = _ZERO, _ZERO
        for at in range(start, stop):
            low = mixed(low * _PAIR + words[at])
            high = mixed((high ^ words[at]) * _STEP)
            for order in range(2):
                if order == 0:
                    feature = words[at]
                elif at + 1 < stop:
                    feature = mixed(words[at] * _PAIR + words[at + 1])
                else:
                    break
                slot = feature & mask
                while slots[slot] != feature:
                    if slots[slot] == _ZERO:
                        slots[slot], places[slot] = feature, filled
                        hashes[filled], counts[filled] = feature, 0
                        filled += 1
                        break
                    slot = (slot + _ONE) & mask
                counts[places[slot]] += 1
        fingerprints[row, 0], fingerprints[row, 1] = low, high
        bounds[row + 1] = filled
    return filled


@compiled
def refill(slots, ids, old_slots, old_ids):  # type: ignore[no-untyped-def]
    """Move the features of a full table into a larger, empty one."""
    mask = U64(len(slots) - 1)
    for place in range(len(old_slots)):
        feature = old_slots[place]
        if feature != _ZERO:
            slot = feature & mask
            while slots[slot] != _ZERO:
                slot = (slot + _ONE) & mask
            slots[slot], ids[slot] = feature, old_ids[place]


@compiled
def number_features(slots, ids, used, hashes, bounds, copies, frequencies, out):  # type: ignore[no-untyped-def]
    """Give every feature its number, new ones the next, and count in how many texts it stands (`copies` of row r)."""
    mask = U64(len(slots) - 1)
    for row in range(len(bounds) - 1):
        for at in range(bounds[row], bounds[row + 1]):
            feature = hashes[at]
            slot = feature & mask
            while slots[slot] != feature:
                if slots[slot] == _ZERO:
                    slots[slot], ids[slot] = feature, used
                    used += 1
                    break
                slot = (slot + _ONE) & mask
            out[at] = ids[slot]
            frequencies[ids[slot]] += copies[row]
    return used


@compiled
def rank_by_frequency(frequencies):  # type: ignore[no-untyped-def]
    """Number features anew from the most common (0) to the rarest; equal ones keep their order."""
    places = np.zeros(frequencies.max() + 2, np.int64)
    for frequency in frequencies:
        places[frequency] += 1
    before = 0
    for frequency in range(len(places) - 1, -1, -1):
        places[frequency], before = before, before + places[frequency]
    ranks = np.empty(len(frequencies), np.uint32)
    for feature in range(len(frequencies)):
        ranks[feature] = places[frequencies[feature]]
        places[frequencies[feature]] += 1
    return ranks


@compiled
def weigh_rows(bounds, ids, counts, ranks, idf, damped, indexed, out, first):  # type: ignore[no-untyped-def]
    """Turn counts into unit rows, features from the most common to the rarest, written to `out` from row `first` on.

    Features of rank `indexed` and above stand in one text only: they count in the norm and are then left out.
    """
    out_bounds, out_ranks, out_weights, out_squares = out
    at = out_bounds[first]
    keys = np.empty(16, np.uint64)
    for row in range(len(bounds) - 1):
        start, stop = bounds[row], bounds[row + 1]
        if stop - start > len(keys):
            keys = np.empty(2 * (stop - start), np.uint64)
        kept, squares = 0, 0.0
        for place in range(start, stop):
            rank, count = ranks[ids[place]], counts[place]
            if rank < indexed:
                keys[kept] = (U64(rank) << U64(32)) | U64(count)
                kept += 1
            else:
                weight = (damped[count] if count < len(damped) else 1.0 + np.log(count)) * idf[rank]
                squares += weight * weight
        keys[:kept].sort()
        for place in range(kept):
            rank, count = np.int64(keys[place] >> U64(32)), np.int64(keys[place] & U64(0xFFFFFFFF))
            weight = (damped[count] if count < len(damped) else 1.0 + np.log(count)) * idf[rank]
            squares += weight * weight
            out_ranks[at + place], out_weights[at + place] = rank, weight
        scale, out_squares[first + row] = 1.0 / np.sqrt(max(squares, 1e-300)), 0.0
        for place in range(at, at + kept):
            out_weights[place] *= scale
            out_squares[first + row] += np.float64(out_weights[place]) * out_weights[place]
        at += kept
        if out_bounds[first + row + 1] != at:
            raise ValueError("the room reserved for a row does not fit")


@compiled
def split_rows(bounds, weights, low, starts, heads):  # type: ignore[no-untyped-def]
    """Find where the indexed tail of each row starts: at the feature that brings the norm so far to `low`."""
    for row in range(len(bounds) - 1):
        squares, at = 0.0, bounds[row]
        while at < bounds[row + 1]:
            longer = squares + np.float64(weights[at]) * weights[at]
            if longer >= low * low:
                break
            squares = longer
            at += 1
        starts[row], heads[row] = at, np.sqrt(squares)


@compiled
def count_lists(first, last, bounds, ranks, starts, lengths):  # type: ignore[no-untyped-def]
    """Count how many of the rows first..last each feature's list will hold."""
    for row in range(first, last):
        for at in range(starts[row], bounds[row + 1]):
            lengths[ranks[at]] += 1


@compiled
def fill_lists(first, last, bounds, ranks, weights, starts, heads, high, ends, list_rows, list_weights):  # type: ignore[no-untyped-def]
    """Write the rows' tails into the features' lists; a weight that may not start a candidate is stored negative."""
    for row in range(first, last):
        squares = heads[row] * heads[row]
        for at in range(starts[row], bounds[row + 1]):
            squares += np.float64(weights[at]) * weights[at]
            place = ends[ranks[at]]
            list_rows[place] = row - first
            list_weights[place] = weights[at] if squares >= high * high else -weights[at]
            ends[ranks[at]] = place + 1


@compiled
def exact_dot(a_ranks, a_weights, a_squares, b_ranks, b_weights, b_squares, least):  # type: ignore[no-untyped-def]
    """Cosine of two rows, merged from the rarest feature on; -1 once it cannot reach `least` any more.

    The squares are what is left of the rows' squared norms; their product bounds what is left of the cosine.
    """
    i, j = len(a_ranks) - 1, len(b_ranks) - 1
    dot = 0.0
    while i >= 0 and j >= 0:
        if a_ranks[i] == b_ranks[j]:
            x, y = np.float64(a_weights[i]), np.float64(b_weights[j])
            dot += x * y
            a_squares -= x * x
            b_squares -= y * y
            i -= 1
            j -= 1
            continue
        if a_ranks[i] > b_ranks[j]:
            x = np.float64(a_weights[i])
            a_squares -= x * x
            i -= 1
        else:
            y = np.float64(b_weights[j])
            b_squares -= y * y
            j -= 1
        missing = least - dot
        if missing > 0.0 and missing * missing > a_squares * b_squares + 1e-9:
            return -1.0
    return dot


@compiled
def grown(array, room):  # type: ignore[no-untyped-def]
    """A longer copy of an array; what is new is not set."""
    out = np.empty(room, array.dtype)
    out[: len(array)] = array
    return out


@compiled
def list_of(rank, list_ranks):  # type: ignore[no-untyped-def]
    """Place of a feature's list: its rank where every feature has a list, else by binary search; -1 if it has none."""
    if len(list_ranks) == 0:
        return np.int64(rank)
    low, high = 0, len(list_ranks)
    while low < high:
        middle = (low + high) // 2
        if list_ranks[middle] < rank:
            low = middle + 1
        else:
            high = middle
    return low if low < len(list_ranks) and list_ranks[low] == rank else -1


@compiled
def gather(bounds, ranks, weights, row, rest, start, limit, high, lists, sums, touched):  # type: ignore[no-untyped-def]
    """Add up, for one row, the products with every indexed row before `limit`, from the rarest feature on.

    Once the rest of the row is shorter than `high`, no row not yet met can be near; then a list is read only where it
    is short enough to cost less than checking the rows that were met. Returns how many were met, and the squared norm
    of the features not read, which are the row's head from here on.
    """
    list_ranks, list_bounds, list_rows, list_weights = lists
    met = 0
    for at in range(bounds[row + 1] - 1, start - 1, -1):
        weight = weights[at]
        may_start = rest >= high * high
        rest -= np.float64(weight) * weight
        place = list_of(ranks[at], list_ranks)
        if place < 0:
            continue
        entries = range(list_bounds[place], list_bounds[place + 1])
        if not may_start and len(entries) > _WORTH * met:
            return met, rest + np.float64(weight) * weight
        for entry in entries:
            other = list_rows[entry]
            if other >= limit:
                break
            if sums[other] > 0.0:
                sums[other] += weight * abs(list_weights[entry])
            elif may_start and list_weights[entry] > 0.0:
                sums[other] = weight * list_weights[entry]
                touched[met] = other
                met += 1
    return met, rest


@compiled
def probe(first, last, rows, tails, lists, others, other_heads, base, own, least, high, most):  # type: ignore[no-untyped-def]
    """Find the indexed rows whose cosine with one of the rows first..last is at least `least`.

    With `own`, rows and indexed rows are one set, the indexed ones starting at `base`, and a row meets only those
    before it. Returns (indexed row, row, cosine) arrays; stops early with more than `most` of them.
    """
    bounds, ranks, weights, squares = rows
    starts = tails
    other_bounds, other_ranks, other_weights, other_squares = others
    size = len(other_heads)
    sums, touched = np.zeros(size, np.float32), np.empty(size, np.int32)
    found, room = 0, 1024
    left, right, value = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.float64)
    for row in range(first, last):
        limit = min(row - base, size) if own else size
        slack = 1e-5 + 1.2e-7 * (bounds[row + 1] - starts[row])  # what adding so many float32 can lose
        met, rest = gather(bounds, ranks, weights, row, squares[row], starts[row], limit, high, lists, sums, touched)
        head = np.sqrt(max(rest, 0.0))
        for place in range(met):
            other = touched[place]
            partial = np.float64(sums[other]) + slack
            sums[other] = 0.0
            if partial + max(head, other_heads[other]) < least:
                continue
            a, b = bounds[row], bounds[row + 1]
            c, d = other_bounds[base + other], other_bounds[base + other + 1]
            dot = exact_dot(
                ranks[a:b], weights[a:b], squares[row],
                other_ranks[c:d], other_weights[c:d], other_squares[base + other], least,
            )  # fmt: skip
            if dot >= least:
                if found == room:
                    room *= 2
                    left, right, value = grown(left, room), grown(right, room), grown(value, room)
                left[found], right[found], value[found] = base + other, row, dot
                found += 1
        if found > most:
            break
    return left[:found], right[:found], value[:found]
