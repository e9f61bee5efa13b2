"""Compiled loops of the near-duplicate search: tokenising, numbering features, building and probing the index.

Import only when it is needed: loading numba takes half a second and the first call on a machine compiles for some
seconds (the result is cached on disk where a cache can be written). Every kernel releases the GIL, so plain threads
use all cores. Nothing here decides anything: `vectors.py` and `join.py` say what is computed and why it is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from safetyqc.dedup.tokens import HASH_SEED, HASH_STEP, LONE, MIX_1, MIX_2, PAIR, REMOVED, SEPARATOR, WORD

U64 = np.uint64
_SEED, _STEP, _MIX_1, _MIX_2, _PAIR = U64(HASH_SEED), U64(HASH_STEP), U64(MIX_1), U64(MIX_2), U64(PAIR)
_S33, _ONE, _ZERO = U64(33), U64(1), U64(0)
_WORTH = 1
BY_PYTHON = np.uint32(0xFFFFFFFF)
"""Marks, in a table of folded characters, those that `tokens.foldable` has to see in their text."""
_WORD, _LONE, _REMOVED, _SEPARATOR = np.uint8(WORD), np.uint8(LONE), np.uint8(REMOVED), np.uint8(SEPARATOR)
_SPACE = np.uint32(0x20)
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
def left_to_python(codes, bounds, folds, out):  # type: ignore[no-untyped-def]
    """Mark the texts with a character that can only be normalised together with its neighbours; count them."""
    count = 0
    for row in range(len(bounds) - 1):
        for at in range(bounds[row], bounds[row + 1]):
            code = codes[at]
            if code < len(folds) and folds[code] == BY_PYTHON:
                out[row] = True
                count += 1
                break
    return count


@compiled
def fold(code, folds, is_folded):  # type: ignore[no-untyped-def]
    """A character as the table `folds` has it, but for one of a text that is folded already."""
    return folds[code] if code < len(folds) and not is_folded else code


@compiled
def word_hashes(codes, bounds, folded, classes, folds, words, word_bounds):  # type: ignore[no-untyped-def]
    """Hash the words of each text into `words`; text r has words[word_bounds[r]:word_bounds[r + 1]].

    Characters are folded by the table `folds` but in texts that are `folded` already.
    """
    count = 0
    for row in range(len(bounds) - 1):
        value, inside = _SEED, False
        for at in range(bounds[row], bounds[row + 1]):
            code = fold(codes[at], folds, folded[row])
            kind = classes[code]
            if kind == _WORD:
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
def gram_hashes(codes, bounds, folded, classes, folds, grams, gram_bounds):  # type: ignore[no-untyped-def]
    """Hash the runs of three characters of each text, as `word_hashes` does its words (see `tokens.characters`)."""
    count = 0
    for row in range(len(bounds) - 1):
        first, second, seen, spaced = _SPACE, _SPACE, 0, False
        for at in range(bounds[row], bounds[row + 1]):
            code = fold(codes[at], folds, folded[row])
            kind = classes[code]
            if kind == _REMOVED:
                continue
            if kind == _SEPARATOR:
                spaced = seen > 0
                continue
            for step in range(2):
                if step == 0 and not spaced:
                    continue
                third = _SPACE if step == 0 else code
                seen += 1
                if seen >= 3:
                    value = (((_SEED ^ U64(first)) * _STEP) ^ U64(second)) * _STEP
                    grams[count] = mixed((value ^ U64(third)) * _STEP)
                    count += 1
                first, second = second, third
            spaced = False
        gram_bounds[row + 1] = count
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
def refill(slots, old_slots):  # type: ignore[no-untyped-def]
    """Move the features of a full table into a larger, empty one."""
    mask = U64(len(slots) - 1)
    for place in range(len(old_slots)):
        if old_slots[place].hash != _ZERO:
            slot = old_slots[place].hash & mask
            while slots[slot].hash != _ZERO:
                slot = (slot + _ONE) & mask
            slots[slot] = old_slots[place]


@compiled
def number_features(slots, used, hashes, bounds, first, out):  # type: ignore[no-untyped-def]
    """Give every feature its number, new ones the next; count its texts, and note the first and last of them.

    The texts are numbered from `first` on.
    """
    mask = U64(len(slots) - 1)
    for row in range(len(bounds) - 1):
        for at in range(bounds[row], bounds[row + 1]):
            feature = hashes[at]
            slot = feature & mask
            while slots[slot].hash != feature:
                if slots[slot].hash == _ZERO:
                    slots[slot].hash, slots[slot].number, slots[slot].first = feature, used, first + row
                    used += 1
                    break
                slot = (slot + _ONE) & mask
            out[at] = slots[slot].number
            slots[slot].texts += 1
            slots[slot].last = first + row
    return used


@compiled
def find_features(slots, hashes, missing, out):  # type: ignore[no-untyped-def]
    """Look up the number of every feature; those that the table does not hold get `missing`."""
    mask = U64(len(slots) - 1)
    for at in range(len(hashes)):
        slot = hashes[at] & mask
        out[at] = missing
        while slots[slot].hash != _ZERO:
            if slots[slot].hash == hashes[at]:
                out[at] = slots[slot].number
                break
            slot = (slot + _ONE) & mask


@compiled
def damp(count, damped):  # type: ignore[no-untyped-def]
    """1 + ln(count), from the table where it reaches."""
    return damped[count] if count < len(damped) else 1.0 + np.log(count)


@compiled
def sort_by_rank(keys, spare, places, size, highest):  # type: ignore[no-untyped-def]
    """Sort keys by their upper half (at most `highest`), a byte at a time; return the array that holds them sorted."""
    shift = 32
    while highest >> (shift - 32) > 0:
        places[:] = 0
        for at in range(size):
            places[np.int64(keys[at] >> U64(shift)) & 255] += 1
        before = 0
        for digit in range(256):
            count = places[digit]
            places[digit] = before
            before += count
        for at in range(size):
            byte = np.int64(keys[at] >> U64(shift)) & 255
            spare[places[byte]] = keys[at]
            places[byte] += 1
        keys, spare = spare, keys
        shift += 8
    return keys


@compiled
def weigh_rows(bounds, ids, counts, features, idf, damped, indexed, out, first):  # type: ignore[no-untyped-def]
    """Turn counts into unit rows, features from the most common to the rarest, written to `out` from row `first` on.

    `features` holds the rank and the frequency of each, `idf` that of each frequency. Features of rank `indexed` and
    above stand in one text only: they count in the norm and are then left out.
    """
    out_bounds, out_ranks, out_weights, out_squares, out_scales = out
    at = out_bounds[first]
    keys, spare, digits = np.empty(16, np.uint64), np.empty(16, np.uint64), np.empty(256, np.int64)
    for row in range(len(bounds) - 1):
        start, stop = bounds[row], bounds[row + 1]
        if stop - start > len(keys):
            keys, spare = np.empty(2 * (stop - start), np.uint64), np.empty(2 * (stop - start), np.uint64)
        kept, squares = 0, 0.0
        for place in range(start, stop):
            feature = features[ids[place]]
            if feature.rank < indexed:
                keys[kept] = (U64(feature.rank) << U64(32)) | U64(place)
                kept += 1
            else:
                weight = damp(counts[place], damped) * idf[feature.frequency]
                squares += weight * weight
        ordered = sort_by_rank(keys, spare, digits, kept, indexed)
        for place in range(kept):
            origin = np.int64(ordered[place] & U64(0xFFFFFFFF))
            weight = damp(counts[origin], damped) * idf[features[ids[origin]].frequency]
            squares += weight * weight
            out_ranks[at + place], out_weights[at + place] = ordered[place] >> U64(32), weight
        scale, out_squares[first + row] = 1.0 / np.sqrt(max(squares, 1e-300)), 0.0
        out_scales[first + row] = scale
        for place in range(at, at + kept):
            out_weights[place] *= scale
            out_squares[first + row] += np.float64(out_weights[place]) * out_weights[place]
        at += kept
        if out_bounds[first + row + 1] != at:
            raise ValueError("the room reserved for a row does not fit")


@compiled
def cut_rows(first, last, rows, groups, cuts, high, tails, write):  # type: ignore[no-untyped-def]
    """Write the tails of the rows first..last; without `write` only count how many groups each tail has.

    A tail holds the groups from cuts[0] on, and further those up to which the row has norm `high`: they may start a
    candidate. The others get a negative weight.
    """
    bounds, ranks, weights, squares = rows
    tail_bounds, tail_ranks, tail_weights, levels, sketches = tails
    for row in range(first, last):
        rest, level, size = squares[row], len(cuts), 0
        place = bounds[row + 1] - 1
        while place >= bounds[row]:
            group = np.int64(groups[ranks[place]])
            if group < cuts[0] and rest < high * high:
                break
            if write:
                level = note_levels(levels, row, level, rest, cuts, group)
            part = 0.0
            while place >= bounds[row] and groups[ranks[place]] == group:
                part += np.float64(weights[place]) * weights[place]
                place -= 1
            if write:
                at = tail_bounds[row] + size
                tail_ranks[at], tail_weights[at] = group, np.sqrt(part) if rest >= high * high else -np.sqrt(part)
            size += 1
            rest -= part
        if write:
            note_levels(levels, row, level, rest, cuts, -1)
            for at in range(bounds[row], bounds[row + 1]):
                bit = sketch_bit(groups[ranks[at]])
                sketches[row, bit >> 3] |= np.uint8(1 << (bit & 7))
        else:
            tail_bounds[row + 1] = size


@compiled
def note_levels(levels, row, level, rest, cuts, group):  # type: ignore[no-untyped-def]
    """Store the norm of what is left of a row for the cuts above `group`; return the next column to fill."""
    while level >= 0 and (level == len(cuts) or group < cuts[level]):
        levels[row, level] = np.uint8(min(255.0, np.ceil(255.0 * np.sqrt(max(rest, 0.0)) + 1e-3)))
        level -= 1
    return level


@compiled
def sketch_bit(group):  # type: ignore[no-untyped-def]
    """Which of the 256 bits of a sketch stands for a group."""
    return np.int64((U64(group) * _PAIR) >> U64(56))


@compiled
def sum_by_bits(start, stop, ranks, weights, groups, below, sums):  # type: ignore[no-untyped-def]
    """For each four bits of a sketch and each way to set them, the squares of a row's groups under `below` there."""
    sums[:] = 0.0
    for at in range(start, stop):
        group = np.int64(groups[ranks[at]])
        if group >= below:
            break
        bit = sketch_bit(group)
        sums[bit >> 2, 1 << (bit & 3)] += weights[at] * weights[at]
    for four in range(len(sums)):
        for bit in (1, 2, 4, 8):
            for others in range(1, bit):
                sums[four, bit + others] = sums[four, bit] + sums[four, others]


@compiled
def squares_met(sketch, sums):  # type: ignore[no-untyped-def]
    """Squared norm of the part of a row that another row can share at most, by the other's sketch."""
    low, high = np.float32(0.0), np.float32(0.0)
    for place in range(len(sketch)):
        low += sums[2 * place, sketch[place] & 15]
        high += sums[2 * place + 1, sketch[place] >> 4]
    return low + high


@compiled
def count_lists(start, stop, ranks, lengths):  # type: ignore[no-untyped-def]
    """Count how many of the tails in start..stop each group's list will hold."""
    for at in range(start, stop):
        lengths[ranks[at]] += 1


@compiled
def fill_lists(first, last, bounds, ranks, weights, ends, list_rows, list_weights):  # type: ignore[no-untyped-def]
    """Write the tails of the rows first..last into the groups' lists."""
    for row in range(first, last):
        for at in range(bounds[row], bounds[row + 1]):
            place = ends[ranks[at]]
            list_rows[place], list_weights[place] = row - first, weights[at]
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
def gather(tails, row, rest, cuts, limit, lists, sums, touched):  # type: ignore[no-untyped-def]
    """Add up, for one row, the products with every indexed row before `limit`, from the rarest group on.

    Once no row not yet met can be near, a list is read only where it is short enough to cost less than checking the
    rows that were met. Returns how many were met, the squared norm of what was not read, the group below which all of
    that is, and the column of `levels` that holds the norm of what the others have there.
    """
    bounds, ranks, weights = tails
    list_bounds, list_rows, list_weights = lists
    met, below, level = 0, cuts[0], 0
    for at in range(bounds[row], bounds[row + 1]):
        weight, may_start, rank = abs(weights[at]), weights[at] > 0.0, np.int64(ranks[at])
        start, stop = (list_bounds[rank], list_bounds[rank + 1]) if rank + 1 < len(list_bounds) else (0, 0)
        if not may_start and stop - start > _WORTH * met:
            below = rank + 1
            while level < len(cuts) and cuts[level] < below:
                level += 1
            break
        if rank >= cuts[0]:  # below, lists do not hold every row: what is read there only helps
            rest -= np.float64(weight) * weight
        for entry in range(start, stop):
            other = list_rows[entry]
            if other >= limit:
                break
            if sums[other] > 0.0:
                sums[other] += weight * abs(list_weights[entry])
            elif may_start and list_weights[entry] > 0.0:
                sums[other] = weight * list_weights[entry]
                touched[met] = other
                met += 1
    return met, rest, below, level


@compiled
def probe(first, last, rows, groups, tails, lists, base, size, least, most):  # type: ignore[no-untyped-def]
    """Find the indexed rows before each of the rows first..last whose cosine with it is at least `least`.

    Indexed are the rows base..base + size. Returns (indexed row, row, cosine) arrays; stops with more than `most`.
    """
    bounds, ranks, weights, squares = rows
    tail_bounds, tail_ranks, tail_weights, levels, sketches, cuts = tails
    sums, touched = np.zeros(size, np.float32), np.empty(size, np.int32)
    by_bits = np.empty((64, 16), np.float32)
    found, room = 0, 1024
    left, right, value = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.float64)
    for row in range(first, last):
        limit = min(row - base, size)
        slack = 1e-5 + 1.2e-7 * (tail_bounds[row + 1] - tail_bounds[row])  # what adding so many float32 can lose
        met, rest, below, level = gather(
            (tail_bounds, tail_ranks, tail_weights), row, squares[row], cuts, limit, lists, sums, touched
        )
        norm, summed = np.sqrt(max(rest, 0.0)), False
        for place in range(met):
            other = base + touched[place]
            other_norm = levels[other, level] / 255.0
            partial = np.float64(sums[touched[place]]) + slack
            sums[touched[place]] = 0.0
            if partial + norm * other_norm < least:
                continue
            a, b = bounds[row], bounds[row + 1]
            if not summed:
                sum_by_bits(a, b, ranks, weights, groups, below, by_bits)
                summed = True
            if partial + np.sqrt(squares_met(sketches[other], by_bits)) * other_norm < least:
                continue
            c, d = bounds[other], bounds[other + 1]
            dot = exact_dot(ranks[a:b], weights[a:b], squares[row], ranks[c:d], weights[c:d], squares[other], least)
            if dot >= least:
                if found == room:
                    room *= 2
                    left, right, value = grown(left, room), grown(right, room), grown(value, room)
                left[found], right[found], value[found] = other, row, dot
                found += 1
        if found > most:
            break
    return left[:found], right[:found], value[:found]


@compiled
def exact_cosines(left, right, rows, idf, damped, out):  # type: ignore[no-untyped-def]
    """Cosines of pairs of rows from the counts behind their rounded weights."""
    bounds, ranks, weights, scales = rows
    for pair in range(len(left)):
        i, j, dot = bounds[left[pair]], bounds[right[pair]], 0.0
        while i < bounds[left[pair] + 1] and j < bounds[right[pair] + 1]:
            if ranks[i] == ranks[j]:
                one, other = idf[ranks[i]] * scales[left[pair]], idf[ranks[i]] * scales[right[pair]]
                dot += one * damped_of(weights[i] / one, damped) * other * damped_of(weights[j] / other, damped)
                i += 1
                j += 1
            elif ranks[i] < ranks[j]:
                i += 1
            else:
                j += 1
        out[pair] = dot


@compiled
def damped_of(value, damped):  # type: ignore[no-untyped-def]
    """1 + ln(count) in full of what is off by seven digits: exact up to counts of some 300,000."""
    return 1.0 if value < 1.3 else damp(np.int64(np.exp(value - 1.0) + 0.5), damped)
