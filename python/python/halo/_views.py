"""Addresses and lengths of buffers, after every check that memory safety needs.

torch tensors are asked for their pointer; everything else goes through the buffer protocol, taken by ctypes because
CPython's stable interface offers it only from 3.11 on.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from halo._halo import element_types
from halo.errors import UsageError

# What the native module can reduce. Every other type is only moved, as bytes.
_REDUCED = {name for name, reduced in element_types() if reduced}


def _those_reduced(names: dict[str, str]) -> dict[str, str]:
    return {theirs: ours for theirs, ours in names.items() if ours in _REDUCED}


# Format characters of the buffer protocol by size, see Python's struct module; C's long and size_t have 8 bytes.
_FORMATS = _those_reduced(
    {"e": "f16", "f": "f32", "d": "f64", "?": "bool"}
    | {"b": "i8", "h": "i16", "i": "i32", "l": "i64", "q": "i64", "n": "i64"}
    | {"B": "u8", "H": "u16", "I": "u32", "L": "u64", "Q": "u64", "N": "u64"}
)
_TORCH = _those_reduced(
    {"torch.float16": "f16", "torch.bfloat16": "bf16", "torch.float32": "f32", "torch.float64": "f64"}
    | {"torch.bool": "bool", "torch.uint8": "u8", "torch.uint16": "u16", "torch.uint32": "u32", "torch.uint64": "u64"}
    | {"torch.int8": "i8", "torch.int16": "i16", "torch.int32": "i32", "torch.int64": "i64"}
    | {"torch.float8_e4m3fn": "f8e4m3", "torch.float8_e5m2": "f8e5m2"}
    | {"torch.float8_e4m3fnuz": "f8e4m3fnuz", "torch.float8_e5m2fnuz": "f8e5m2fnuz"}
)


class View(NamedTuple):
    """A buffer as the native module takes it."""

    memory: tuple[int, int]
    """Address and bytes."""
    dtype: str
    """The native module's name for the type; ``u8`` for everything that is only moved."""
    reduced: bool
    """Whether there is arithmetic for it."""
    itemsize: int
    """Bytes of one element."""
    name: str
    """The type as its owner calls it, for messages."""
    owner: Any
    """Keeps the memory where it is."""


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer, see the buffer protocol's documentation."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_PyBUF_SIMPLE = 0


def _refuse(argument: str, why: str, help: str) -> UsageError:
    return UsageError("HALO-E0502", f"{argument}: {why}", help)


def view(value: Any, argument: str, writable: bool = False) -> View:
    """The view of a tensor, an array or any other contiguous buffer."""
    if hasattr(value, "data_ptr") and hasattr(value, "element_size"):
        return _tensor(value, argument)
    try:
        memory = memoryview(value)
    except (TypeError, ValueError, BufferError) as error:
        raise _refuse(
            argument,
            f"{type(value).__name__} is no buffer ({error})",
            "pass a torch CPU tensor, a NumPy array, or an object with the buffer protocol",
        ) from None
    if not memory.c_contiguous:
        raise _refuse(
            argument, "the buffer is not contiguous", "pass a contiguous copy, e.g. numpy.ascontiguousarray(x)"
        )
    if writable and memory.readonly:
        raise _refuse(argument, "the buffer is read-only", "pass a writable buffer, such as a bytearray or an array")
    kind = memory.format.lstrip("@=<")
    dtype = _FORMATS.get(kind)
    place = (_address(memory), memory.nbytes)
    return View(place, dtype or "u8", dtype is not None, memory.itemsize, f"format {memory.format!r}", memory)


def _tensor(tensor: Any, argument: str) -> View:
    if tensor.device.type != "cpu":
        raise _refuse(argument, f"the tensor is on {tensor.device}", "pass a CPU tensor, e.g. tensor.cpu()")
    if not tensor.is_contiguous():
        raise _refuse(argument, "the tensor is not contiguous", "pass tensor.contiguous()")
    if tensor.layout.__str__() != "torch.strided":
        raise _refuse(argument, f"the tensor's layout is {tensor.layout}", "pass a dense tensor")
    name = str(tensor.dtype)
    if tensor.is_conj() or tensor.is_neg():
        raise _refuse(
            argument, "the tensor is conjugated or negated lazily", "pass tensor.resolve_conj().resolve_neg()"
        )
    memory = (tensor.data_ptr(), tensor.numel() * tensor.element_size())
    dtype = _TORCH.get(name)
    return View(memory, dtype or "u8", dtype is not None, tensor.element_size(), name, tensor)


def _address(memory: memoryview) -> int:
    raw = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(memory), ctypes.byref(raw), _PyBUF_SIMPLE)
    try:
        return raw.buf or 0
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(raw))


def arithmetic(view: View, argument: str) -> str:
    """The type to reduce in."""
    if not view.reduced:
        raise _refuse(argument, f"{view.name} cannot be reduced", f"reduce one of: {', '.join(sorted(_REDUCED))}")
    return view.dtype
