"""Messages from one rank to one other, told apart by tags.

Each direction between two ranks has a communicator of its own, which only these two connect, when the first message is
sent: other ranks need not take part, collectives and messages do not wait for each other, and neither do the two
directions. Messages of different tags may be received in another order than they were sent.
"""

from __future__ import annotations

import collections
import struct
from typing import NamedTuple

import torch

from halo.communicator import Communicator
from halo.errors import MismatchError
from halo.torch.tensors import describe, give_back, place_for

# Before every message: its tag, its number of elements, its type's name.
_HEADER = struct.Struct("<qq48s")


class _Message(NamedTuple):
    tag: int
    elements: int
    dtype: str


def send(communicator: Communicator, tensor: torch.Tensor, to: int, tag: int) -> None:
    """Sends a contiguous tensor in host memory."""
    communicator.send(_HEADER.pack(tag, tensor.numel(), _name(tensor.dtype).encode()), to)
    communicator.send(tensor, to)


class Inbox:
    """What one rank has sent to this one, some of it before it was asked for."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._unasked: dict[int, collections.deque[torch.Tensor]] = collections.defaultdict(collections.deque)

    def receive(self, communicator: Communicator, tensor: torch.Tensor, from_: int, tag: int) -> None:
        """Receives the next message with this tag into ``tensor``; keeps those of other tags for later."""
        if self._unasked[tag]:
            self._deliver(self._unasked[tag].popleft(), tensor, tag)
            return
        while True:
            header = bytearray(_HEADER.size)
            communicator.recv(header, from_)
            given, elements, name = _HEADER.unpack(header)
            message = _Message(given, elements, name.rstrip(b"\0").decode())
            if message.tag == tag and (message.elements, message.dtype) == (tensor.numel(), _name(tensor.dtype)):
                place = place_for(tensor)
                communicator.recv(place, from_)
                give_back(place, tensor)
                return
            kept = torch.empty(message.elements, dtype=getattr(torch, message.dtype))
            communicator.recv(kept, from_)
            if message.tag == tag:
                self._deliver(kept, tensor, tag)
                return
            self._unasked[message.tag].append(kept)

    def _deliver(self, kept: torch.Tensor, tensor: torch.Tensor, tag: int) -> None:
        if kept.numel() != tensor.numel() or kept.dtype != tensor.dtype:
            raise MismatchError(
                "HALO-E0566",
                f"recv: rank {self._source} sent {describe(kept)} with tag {tag}, into a tensor of {describe(tensor)}",
                "send and receive tensors of the same number of elements and type; this message is lost, later ones "
                "are not",
                self._source,
            )
        give_back(kept, tensor)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
