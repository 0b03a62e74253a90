"""Scratch memory on the stack, so that the compiler can keep small vectors in registers.

A heap array, even a local one, is memory that LLVM must write and read back at every step: 45 ns a
SAM step of a two-dimensional loss instead of 38. ``benchmarks/step.py`` measures what is left.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def stack_memory(typing_context: Any, size: Any) -> Any:
    """A pointer to `size` float64s on the caller's stack; `size` is a compile-time constant."""
    if not isinstance(size, types.IntegerLiteral):
        return None

    def allocate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = ir.Constant(ir.IntType(64), size.literal_value)
        return cgutils.alloca_once(builder, ir.DoubleType(), size=count)

    return types.CPointer(types.float64)(size), allocate
