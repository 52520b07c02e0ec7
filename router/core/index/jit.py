"""What every compiled kernel of the index needs: the decorator, and the machine instructions Python has no word for.

Kernels release the GIL and are cached on disk beside this file. Numba checks a cached kernel against its own
source file alone, yet helpers from other files are compiled into it; so a cache that is older than any source
file of this package is removed here, before the first kernel is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_F = TypeVar("_F", bound=Callable[..., Any])


def _remove_stale_cache(package: Path) -> None:
    newest = max(source.stat().st_mtime for source in package.glob("*.py"))
    for index in (package / "__pycache__").glob("*.nbi"):
        with suppress(OSError):
            if index.stat().st_mtime < newest:
                index.unlink()


_remove_stale_cache(Path(__file__).parent)


def kernel(function: _F) -> _F:
    """Compile ``function``. It touches no Python object, so other threads run meanwhile."""
    compiled: _F = njit(nogil=True, cache=True)(function)
    return compiled


@intrinsic
def fold_multiply(typing_context, a, b):  # type: ignore[no-untyped-def]
    """XOR of the two halves of the 128-bit product of two uint64."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, wide(64)), word)
        return builder.xor(builder.trunc(product, word), high)

    return types.uint64(types.uint64, types.uint64), build


@intrinsic
def lowest_bit(typing_context, word):  # type: ignore[no-untyped-def]
    """Position of the lowest set bit of a uint64 that is not zero."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.uint64), build
