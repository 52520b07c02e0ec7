"""Marks that prompts leave on their way through the block hashes, and the kernels that lay, find and take them.

    table   key -> number of programs that passed here    the index's `Table`; its entry is the mark's number
    owners  [mark] XOR of their numbers                   where one passed alone, it is that one
    steps   [mark] the step of it that laid the mark      0: unknown
    ends    [mark] END: that step's prompt ended here; NEAR_END: up to 8 blocks later; 0: it went on

A key is a block hash XOR the key of tenant and model. A prompt leaves marks where it ends, near its end (its last words
may be missing from the next prompt, such as a template's ``<think>``), and at the regular depths on its way: those
that need no more than four binary digits and then zeros, which are 1 to 16 blocks and then 8 in each octave, some 90
in 200,000 tokens of 16 a block. Who passed a regular depth has marked all of them before it, so the deepest one that
is known is found by bisection, and then only the blocks up to the next one are looked up one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.index.jit import as_int, entry_point, kernel
from router.core.index.table import Table, delete, enlarge, find, find_or_insert, new_table
from router.core.types import Hashes

Entries = NDArray[np.uint32]
"""Numbers of marks."""

Key = int | np.uint64

NEAR_END = 1
END = 2

_PER_OCTAVE = 8
_BEFORE_END = (0, 1, 2, 4, 8)
_MOST = 256
"""Marks of one prompt at most, which would then have 2^30 blocks."""


class Marks(NamedTuple):
    """See the module's drawing."""

    table: Table
    owners: NDArray[np.uint32]
    steps: NDArray[np.uint32]
    ends: NDArray[np.uint8]


class Found(NamedTuple):
    """What `find_marks` answers, in this order."""

    depth: int
    """Blocks up to the deepest mark that the prompt meets."""
    mark: int
    """That mark; 0: none."""
    owner: int
    """The program that passed it alone; 0: several did."""
    step: int
    end: int
    common: int
    """Blocks within which all others but the owner have parted from the prompt."""
    exact_owner: int
    """The program that alone sent the same prompt before."""
    exact_step: int


class Kernels(NamedTuple):
    """See where they are defined."""

    find_marks: Callable[[Marks, Hashes, Key, Key, NDArray[np.int64]], None]
    lay_marks: Callable[[Marks, Hashes, Key, Key, int, int, int, int, Entries], int]
    take_marks: Callable[[Marks, Entries, int], None]


def new_marks() -> Marks:
    table = new_table()
    room = len(table.nodes)
    return Marks(table, np.zeros(room, np.uint32), np.zeros(room, np.uint32), np.zeros(room, np.uint8))


def make_room(marks: Marks) -> None:
    """Enlarges the arrays until one more prompt's marks fit."""
    while marks.table.size + _MOST >= len(marks.table.nodes):
        enlarge(marks.table)
        for column in (marks.owners, marks.steps, marks.ends):
            column.resize(len(marks.table.nodes), refcheck=False)


def answer() -> NDArray[np.int64]:
    """Room for a `Found`."""
    return np.zeros(len(Found._fields), np.int64)


def scratch() -> Entries:
    """Room for the marks of a prompt."""
    return np.empty(_MOST, np.uint32)


@kernel
def _depth(rank: int) -> int:
    """Blocks up to the regular depth of this rank, from 0 on."""
    if rank < 2 * _PER_OCTAVE:
        return rank + 1
    beyond = rank - 2 * _PER_OCTAVE
    return (_PER_OCTAVE + 1 + beyond % _PER_OCTAVE) << (beyond // _PER_OCTAVE + 1)


@kernel
def _is_regular(depth: int) -> bool:
    while depth > 2 * _PER_OCTAVE:
        if depth & 1:
            return False
        depth >>= 1
    return True


@kernel
def _owner(marks: Marks, mark: int) -> int:
    return as_int(marks.owners[mark]) if mark != 0 and marks.table.nodes[mark].value == 1 else 0


@kernel
def find_marks(marks: Marks, hashes: Hashes, scope: Key, exact: Key, found: NDArray[np.int64]) -> None:
    """``exact`` is the key of the whole prompt."""
    table, blocks = marks.table, len(hashes)
    known, unknown = -1, 0
    while _depth(unknown) <= blocks:
        unknown = 2 * unknown + 1
    depth, mark = 0, 0
    while unknown - known > 1:
        middle = (known + unknown) // 2
        at = _depth(middle)
        met = find(table, hashes[at - 1] ^ scope) if at <= blocks else 0
        if met != 0:
            known, depth, mark = middle, at, met
        else:
            unknown = middle
    for at in range(min(blocks, _depth(known + 1) - 1), depth, -1):
        met = find(table, hashes[at - 1] ^ scope)
        if met != 0:
            depth, mark = at, met
            break
    same = find(table, np.uint64(exact))
    found[0], found[1], found[2] = depth, mark, _owner(marks, mark)
    found[3], found[4] = marks.steps[mark], marks.ends[mark]
    found[5] = _common_blocks(table, hashes, scope, known)
    found[6], found[7] = _owner(marks, same), marks.steps[same]


@kernel
def _common_blocks(table: Table, hashes: Hashes, scope: Key, known: int) -> int:
    """Who marked the last regular depth that several have passed, and not the next one, parted in between."""
    common, own = -1, known + 1
    while own - common > 1:
        middle = (common + own) // 2
        if table.nodes[find(table, hashes[_depth(middle) - 1] ^ scope)].value > 1:
            common = middle
        else:
            own = middle
    return _depth(common + 1) - 1 if common >= 0 else 0


@kernel
def lay_marks(
    marks: Marks,
    hashes: Hashes,
    scope: Key,
    exact: Key,
    program: int,
    step: int,
    passed: int,
    met: int,
    laid: Entries,
) -> int:
    """Marks a prompt behind its first ``passed`` blocks, to where its program has marked it; 0 for a new program, to
    which ``met`` is the deepest mark that it meets, if any. Writes the marks that are new to the program to ``laid``;
    returns how many. There must be room."""
    blocks, count, rank = len(hashes), 0, 0
    while _depth(rank) <= passed:
        rank += 1
    while _depth(rank) <= blocks:
        laid[count] = _pass(marks, hashes[_depth(rank) - 1] ^ scope, program, step)
        count += 1
        rank += 1
    for left in _BEFORE_END:
        if blocks - left > passed and not _is_regular(blocks - left):
            laid[count] = _pass(marks, hashes[blocks - left - 1] ^ scope, program, step)
            count += 1
    for i in range(count):
        met = 0 if laid[i] == met else met
    if met != 0:
        laid[count] = _pass(marks, marks.table.nodes[met].key, program, step)
        count += 1
    for left in _BEFORE_END:
        if blocks - left > passed or (left == 0 and blocks > 0):
            _set_end(marks, find(marks.table, hashes[blocks - left - 1] ^ scope), step, END if left == 0 else NEAR_END)
    laid[count] = _pass(marks, np.uint64(exact), program, step)
    return count + 1


@kernel
def _pass(marks: Marks, key: np.uint64, program: int, step: int) -> int:
    mark = find_or_insert(marks.table, key)
    node = marks.table.nodes[mark]
    if node.value == 0:
        marks.owners[mark] = 0
        marks.steps[mark] = step
        marks.ends[mark] = 0
    node.value += 1
    marks.owners[mark] ^= np.uint32(program)
    return mark


@kernel
def _set_end(marks: Marks, mark: int, step: int, end: int) -> None:
    if marks.table.nodes[mark].value == 1:
        marks.steps[mark] = step
        marks.ends[mark] = end


@kernel
def take_marks(marks: Marks, laid: Entries, program: int) -> None:
    """Takes a program's marks away. Where others passed too, it is no longer known which step did."""
    for i in range(len(laid)):
        mark = as_int(laid[i])
        node = marks.table.nodes[mark]
        node.value -= 1
        marks.owners[mark] ^= np.uint32(program)
        marks.steps[mark] = 0
        marks.ends[mark] = 0
        if node.value == 0:
            delete(marks.table, mark)


@cache
def compiled() -> Kernels:
    """Compile everything, once in a process; fast when the cache on disk has it."""
    marks, hashes, key, entries = new_marks(), np.empty(0, np.uint64), np.uint64(0), scratch()
    return Kernels(
        entry_point(find_marks, marks, hashes, key, key, answer()),
        entry_point(lay_marks, marks, hashes, key, key, 0, 0, 0, 0, entries),
        entry_point(take_marks, marks, entries, 0),
    )
