"""What `halo.Communicator.allocate` gives: tensors and arrays over memory of the native module."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any

from halo._halo import NativeAllocation
from halo.errors import UsageError


def shape_of(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """The shape, checked before any other rank hears of it."""
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise UsageError("HALO-E0502", f"shape: {shape!r} is none", "pass a size or a tuple of sizes, 1 or more")
    return sizes


def itemsize(dtype: Any) -> int:
    """Bytes of one element of a torch or NumPy type."""
    if _is_torch(dtype):
        return dtype.itemsize
    return _numpy().dtype(dtype).itemsize


def over(native: NativeAllocation, shape: tuple[int, ...], dtype: Any) -> Any:
    """A tensor, or an array, that keeps the memory for as long as it or a view of it lives."""
    count = math.prod(shape)
    memory = (ctypes.c_ubyte * (count * itemsize(dtype))).from_address(native.address())
    # Whoever views the memory keeps `memory`, and that keeps what it lies in.
    memory.native = native
    if _is_torch(dtype):
        torch = sys.modules["torch"]
        flat = torch.frombuffer(memory, dtype=dtype)
    else:
        flat = _numpy().frombuffer(memory, dtype=dtype)
    return flat.reshape(shape)


def _is_torch(dtype: Any) -> bool:
    # Whoever has a type of torch's has imported it.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(dtype, torch.dtype)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise UsageError(
            "HALO-E0502", f"dtype: only torch's types without NumPy ({error})", "pass a torch.dtype, or install numpy"
        ) from None
    return numpy
