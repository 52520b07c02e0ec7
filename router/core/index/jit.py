"""What the compiled kernels of the index are made with.

Kernels are plain loops over arrays. They release the GIL, and are cached on disk beside their source. Numba
checks a cached kernel against its own source file alone, yet helpers from other files are compiled into it; so
a cache of the core that is older than any source file of this package is removed here, before the first kernel is
loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, typeof, types
from numba.extending import intrinsic

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    # Helpers take tuples of arrays: inlined, these cost nothing.
    "forceinline": True,
    # Kernels create no arrays, so there is nothing to count references of.
    "_nrt": False,
}


def _remove_stale_cache(package: Path) -> None:
    newest = max(source.stat().st_mtime for source in package.glob("*.py"))
    for index in package.parent.glob("*/__pycache__/*.nbi"):
        with suppress(OSError):
            if index.stat().st_mtime < newest:
                index.unlink()


_remove_stale_cache(Path(__file__).parent)


def kernel(function: _F) -> _F:
    """Compile ``function`` for the types that it is called with."""
    return cast(_F, njit(**_OPTIONS)(function))


def entry_point(function: _F, *examples: object) -> _F:
    """The machine code of a kernel for arguments of the examples' types, compiled now if need be.

    A call of it takes 0.1 µs, whereas a kernel's dispatcher looks at each array of each argument first: 3 µs
    for the tuples of the index. But nothing is checked, so the caller must pass C-contiguous arrays of just
    these types.
    """
    return cast(_F, cast(Any, function).compile(tuple(map(typeof, examples))))


as_int = cast(Callable[[Any], int], np.int64)
"""Inside kernels: an index or a count out of an array of unsigned integers."""


def _fold_multiply(typing_context, a, b):  # type: ignore[no-untyped-def]
    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, wide(64)), word)
        return builder.xor(builder.trunc(product, word), high)

    return types.uint64(types.uint64, types.uint64), build


def _lowest_bit(typing_context, word):  # type: ignore[no-untyped-def]
    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.uint64), build


def _prefetch(typing_context, array, index):  # type: ignore[no-untyped-def]
    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        view = context.make_array(signature.args[0])(context, builder, args[0])
        offset = builder.mul(args[1], view.itemsize)
        address = builder.add(builder.ptrtoint(view.data, ir.IntType(64)), offset)
        pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        load = builder.module.declare_intrinsic(
            "llvm.prefetch", (pointer,), ir.FunctionType(ir.VoidType(), [pointer, integer, integer, integer])
        )
        builder.call(load, [builder.inttoptr(address, pointer), integer(0), integer(3), integer(1)])
        return context.get_dummy_value()

    return types.none(array, types.int64), build


fold_multiply = cast(Callable[[Any, Any], np.uint64], intrinsic(_fold_multiply))
"""Inside kernels: XOR of the two halves of the 128-bit product of two uint64."""

lowest_bit = cast(Callable[[Any], int], intrinsic(_lowest_bit))
"""Inside kernels: position of the lowest set bit of a uint64 that is not zero."""

prefetch = cast(Callable[[Any, int], None], intrinsic(_prefetch))
"""Inside kernels: start loading ``array[index]`` into the cache. The index may lie outside: nothing is read."""
