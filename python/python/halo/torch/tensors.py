"""What torch's tensors need before halo can use them: host memory, contiguous, of matching sizes and types."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from halo.errors import UsageError


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself where halo can use its memory, else a contiguous copy in host memory."""
    if tensor.layout != torch.strided:
        raise UsageError("HALO-E0502", f"tensor: its layout is {tensor.layout}", "pass a dense tensor")
    return tensor.detach().resolve_conj().resolve_neg().to("cpu").contiguous()


def place_for(tensor: torch.Tensor) -> torch.Tensor:
    """Host memory to write a result into: the tensor's own where possible. `give_back` brings it to the tensor."""
    usable = tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_neg() and not tensor.is_conj()
    return tensor.detach() if usable else torch.empty(tensor.shape, dtype=tensor.dtype)


def give_back(staged: torch.Tensor, tensor: torch.Tensor) -> None:
    """Copies a result to the tensor it is for, unless it is there already."""
    if staged.data_ptr() != tensor.data_ptr() or staged.device != tensor.device:
        tensor.detach().copy_(staged.view(tensor.shape))


def only(tensors: Sequence[torch.Tensor], operation: str) -> torch.Tensor:
    """torch's interface takes a list for every argument, from the time of several devices in one process."""
    if len(tensors) != 1:
        raise UsageError(
            "HALO-E0562", f"{operation}: {len(tensors)} tensors where one is needed", "call it once for each tensor"
        )
    return tensors[0]


def one_each(operation: str, tensors: Sequence[torch.Tensor], count: int, what: str) -> None:
    """Checks that a list has ``count`` tensors."""
    if len(tensors) != count:
        raise UsageError(
            "HALO-E0562",
            f"{operation}: {what} has {len(tensors)} tensors, {count} are needed",
            "pass one for each rank",
        )


def alike(operation: str, tensors: Sequence[torch.Tensor], count: int, like: torch.Tensor, what: str) -> None:
    """Checks a list of ``count`` tensors, each with as many elements, of the same type, as ``like``."""
    one_each(operation, tensors, count, what)
    for place, tensor in enumerate(tensors):
        if tensor.numel() != like.numel() or tensor.dtype != like.dtype:
            raise UsageError(
                "HALO-E0562",
                f"{operation}: {what}[{place}] is {describe(tensor)}, the others are {describe(like)}",
                "all must have the same number of elements and the same type, on every rank",
            )


def multiple(operation: str, long: torch.Tensor, short: torch.Tensor, world: int, what: str) -> None:
    """Checks that ``long`` has ``world`` times the elements of ``short``, and its type."""
    if long.numel() != world * short.numel() or long.dtype != short.dtype:
        raise UsageError(
            "HALO-E0562",
            f"{operation}: {what} is {describe(long)}, the other tensor is {describe(short)}",
            f"{what} must have {world} times its elements, one block for each rank, and the same type",
        )


def split_counts(operation: str, tensor: torch.Tensor, sizes: Sequence[int], world: int, what: str) -> list[int]:
    """The number of elements of each rank's block of ``tensor``, which is split along its first dimension.

    Without ``sizes`` all blocks are equal.
    """
    rows = tensor.shape[0] if tensor.dim() else 0
    sizes = list(sizes) or [rows // world] * world
    if len(sizes) != world or sum(sizes) != rows:
        raise UsageError(
            "HALO-E0562",
            f"{operation}: {what} has {rows} rows, to be split into {sizes}",
            f"split sizes are {world} numbers, one for each rank, whose sum is the length of the first dimension",
        )
    row = tensor.numel() // rows if rows else 0
    return [size * row for size in sizes]


def describe(tensor: torch.Tensor) -> str:
    return f"{tensor.numel()} x {str(tensor.dtype).removeprefix('torch.')}"
