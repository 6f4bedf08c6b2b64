"""Addresses and lengths of buffers, after every check that memory safety needs.

torch tensors are asked for their pointer; everything else goes through the buffer protocol, taken by ctypes because
CPython's stable interface offers it only from 3.11 on.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from halo.errors import UsageError

_FORMATS = {"f": "f32", "e": "f16"}
_TORCH = {"torch.float32": "f32", "torch.float16": "f16", "torch.bfloat16": "bf16"}


class View(NamedTuple):
    """A buffer as the native module takes it."""

    memory: tuple[int, int]
    """Address and bytes."""
    dtype: str
    """``f32``, ``f16``, ``bf16``, or ``u8`` for everything that is only moved."""
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
    return View((_address(memory), memory.nbytes), _FORMATS.get(kind, "u8"), f"format {memory.format!r}", memory)


def _tensor(tensor: Any, argument: str) -> View:
    if tensor.device.type != "cpu":
        raise _refuse(argument, f"the tensor is on {tensor.device}", "pass a CPU tensor, e.g. tensor.cpu()")
    if not tensor.is_contiguous():
        raise _refuse(argument, "the tensor is not contiguous", "pass tensor.contiguous()")
    if tensor.layout.__str__() != "torch.strided":
        raise _refuse(argument, f"the tensor's layout is {tensor.layout}", "pass a dense tensor")
    name = str(tensor.dtype)
    memory = (tensor.data_ptr(), tensor.numel() * tensor.element_size())
    return View(memory, _TORCH.get(name, "u8"), name, tensor)


def _address(memory: memoryview) -> int:
    raw = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(memory), ctypes.byref(raw), _PyBUF_SIMPLE)
    try:
        return raw.buf or 0
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(raw))


def arithmetic(view: View, argument: str) -> str:
    """The type to reduce in."""
    if view.dtype == "u8":
        raise _refuse(argument, f"{view.name} cannot be reduced", "reduce float32, float16 or bfloat16")
    return view.dtype
