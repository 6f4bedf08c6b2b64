"""`halo.Communicator`: the collectives over Python's buffers."""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import weakref
from typing import Any, NamedTuple

from halo import _allocation
from halo._halo import NativeCommunicator
from halo._views import arithmetic, view
from halo.errors import HaloError, UsageError
from halo.registration import Registration


class Link(NamedTuple):
    """What carries payloads to one peer."""

    peer: int
    host: str
    transport: str
    reason: str


_open: weakref.WeakSet[Communicator] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # A rank that ends without a good-bye looks like a crash to its peers.
    for communicator in list(_open):
        communicator._close_quietly()


class Communicator:
    """A group of ranks that run collectives together.

    Buffers are torch CPU tensors, NumPy arrays, or anything with the buffer protocol; they must be contiguous.
    Floats of 8 to 64 bits, integers and booleans can be reduced; every other type can be moved. Every rank must issue
    the same operations in the same order. While an operation waits, other Python threads run.

    Args:
        rank: this rank, ``0`` to ``world - 1``.
        world: number of ranks.
        rendezvous: ``host:port`` where rank 0 listens.
        transport: ``auto``, ``rdma``, ``tcp`` or ``shm``; default: ``HALO_TRANSPORT``, else ``auto``.
        key: the secret all ranks share, text or bytes; default: ``HALO_KEY`` or ``HALO_KEY_FILE``.
        timeout: seconds that any wait may last.
        peer_timeout: seconds of silence after which a peer counts as lost.
        interface, address, rdma_device: what carries the data, where the choice made by itself is not wanted; several
            RDMA devices in a comma list.
        name: for logs and statistics.
        stats_file: where statistics are kept as JSON; ``{name}``, ``{rank}`` and ``{pid}`` are replaced.
        rounding: ``once``, at the end of a reduction of 16-bit or 8-bit floats, or after ``each`` step; the same on
            every rank; default: ``HALO_ROUNDING``, else ``once``.

    Raises:
        halo.HaloError: the ranks could not meet; see its ``code`` and ``help``.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        *,
        rendezvous: str | None = None,
        transport: str | None = None,
        key: str | bytes | None = None,
        timeout: float | None = None,
        peer_timeout: float | None = None,
        interface: str | None = None,
        address: str | None = None,
        rdma_device: str | None = None,
        name: str = "halo",
        stats_file: str | None = None,
        rounding: str | None = None,
        _store: Any = None,
    ) -> None:
        if not 0 <= rank < world:
            raise UsageError("HALO-E0202", f"invalid rank: {rank} of world {world}", "ranks are 0 to world - 1")
        self.rank = rank
        self.world = world
        self.name = name
        self._native = NativeCommunicator(
            rank,
            world,
            name=name,
            store=_store,
            rendezvous=rendezvous,
            transport=transport,
            key=key.encode() if isinstance(key, str) else key,
            timeout=timeout,
            peer_timeout=peer_timeout,
            interface=interface,
            address=address,
            rdma_device=rdma_device,
            stats_file=stats_file,
            rounding=rounding,
        )
        _open.add(self)

    @classmethod
    def from_store(cls, store: Any, rank: int, world: int, **settings: Any) -> Communicator:
        """Meets the other ranks through a store that all of them reach, such as a ``torch.distributed`` store.

        The store needs ``set(key, bytes)``, ``get(key)`` and ``check([key])``. Whoever can read it is trusted: without
        a key, rank 0 makes one and leaves it there. Communicators that share a store need different names.
        """
        return cls(rank, world, _store=store, **settings)

    def all_reduce(self, tensor: Any, op: str = "sum", *, out: Any = None) -> Any:
        """The reduction of all ranks' ``tensor``, in place or into ``out``; returns the result.

        ``op`` is ``sum``, ``prod``, ``max``, ``min`` or ``avg``. Floats are computed in float32 (float64 in itself) in
        rank order and rounded once, so all ranks get the same bits; integers wrap; of booleans, ``sum`` and ``max``
        are "or", ``prod`` and ``min`` are "and".
        """
        source = view(tensor, "tensor", writable=out is None)
        dtype = arithmetic(source, "tensor")
        target = source if out is None else self._output(out, source.dtype, source.name)
        self._native.all_reduce(source.memory, target.memory, dtype, op)
        return tensor if out is None else out

    def reduce(self, tensor: Any, op: str = "sum", *, out: Any = None, root: int = 0) -> Any:
        """The reduction of all ranks' ``tensor`` into the root's ``out``; other ranks pass none."""
        source = view(tensor, "tensor")
        dtype = arithmetic(source, "tensor")
        self._native.reduce(source.memory, self._roots_output(out, source, root), dtype, op, root)
        return out

    def all_gather(self, tensor: Any, *, out: Any) -> Any:
        """All ranks' ``tensor``, in rank order, into ``out``, which is ``world`` times as long."""
        source = view(tensor, "tensor")
        self._native.all_gather(source.memory, self._output(out, source.dtype, source.name).memory, source.dtype)
        return out

    def reduce_scatter(self, tensor: Any, op: str = "sum", *, out: Any) -> Any:
        """This rank's block of the reduction of all ranks' ``tensor``, which is ``world`` times as long as ``out``."""
        source = view(tensor, "tensor")
        dtype = arithmetic(source, "tensor")
        target = self._output(out, source.dtype, source.name)
        self._native.reduce_scatter(source.memory, target.memory, dtype, op)
        return out

    def broadcast(self, tensor: Any, root: int = 0) -> Any:
        """The root's ``tensor``, on every rank, in place."""
        target = view(tensor, "tensor", writable=self.rank != root)
        self._native.broadcast(target.memory, target.dtype, root)
        return tensor

    def gather(self, tensor: Any, *, out: Any = None, root: int = 0) -> Any:
        """All ranks' ``tensor``, in rank order, into the root's ``out``; other ranks pass none."""
        source = view(tensor, "tensor")
        self._native.gather(source.memory, self._roots_output(out, source, root), source.dtype, root)
        return out

    def scatter(self, tensor: Any = None, *, out: Any, root: int = 0) -> Any:
        """This rank's block of the root's ``tensor``, into ``out``; other ranks pass none.

        The root's ``tensor`` is ``world`` times as long.
        """
        target = view(out, "out", writable=True)
        source = None
        if self.rank == root:
            if tensor is None:
                raise UsageError("HALO-E0502", "tensor: the root needs one", "pass it on the root rank")
            given = view(tensor, "tensor")
            source = given.memory
            self._output(out, given.dtype, given.name)
        self._native.scatter(source, target.memory, target.dtype, root)
        return out

    def all_to_all(
        self, tensor: Any, *, out: Any, counts: list[int] | None = None, out_counts: list[int] | None = None
    ) -> Any:
        """Block i of ``out`` becomes rank i's block for this rank. Blocks are in rank order.

        All blocks have the same size, unless ``counts`` and ``out_counts`` say how many elements go to each rank and
        come from it; both, and on every rank.
        """
        source = view(tensor, "tensor")
        target = self._output(out, source.dtype, source.name)
        if counts is None and out_counts is None:
            self._native.all_to_all(source.memory, target.memory, source.dtype)
            return out
        if counts is None or out_counts is None:
            raise UsageError("HALO-E0502", "counts: only one of counts and out_counts is given", "give both, or none")
        to, from_ = ([count * source.itemsize for count in counts], [count * source.itemsize for count in out_counts])
        self._native.all_to_all_blocks(source.memory, target.memory, source.dtype, to, from_)
        return out

    def send(self, tensor: Any, to: int) -> None:
        """Sends ``tensor`` to one rank, which receives one of the same size and type."""
        source = view(tensor, "tensor")
        self._native.send(source.memory, source.dtype, to)

    def recv(self, tensor: Any, from_: int) -> Any:
        """Receives into ``tensor`` what one rank sends."""
        target = view(tensor, "tensor", writable=True)
        self._native.recv(target.memory, target.dtype, from_)
        return tensor

    def barrier(self) -> None:
        """Returns when every rank has called it."""
        self._native.barrier()

    def register(self, tensor: Any) -> Registration:
        """Makes a tensor's or buffer's memory known to the NIC, until what is returned is closed.

        Over rdma, long payloads that lie there are then written from where they lie, and peers write their parts of
        gathered and broadcast outputs straight there. Each rank registers what it likes; the same memory again, or
        part of it, costs a look-up. Over shm and tcp this is accepted and does nothing.
        """
        memory = view(tensor, "tensor", writable=True)
        return Registration(self._native.register(memory.memory, memory.owner))

    def allocate(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        """A zeroed tensor (``dtype`` is torch's) or NumPy array in memory that all ranks allocate together.

        Ranks of one host read an input there where it lies, which saves a copy from 64 KiB on when the output is
        another buffer; over rdma it is registered. Every rank calls it, with as many bytes, as it calls an operation.
        The memory is given back when the last view of it is gone.
        """
        sizes = _allocation.shape_of(shape)
        native = self._native.allocate(math.prod(sizes) * _allocation.itemsize(dtype))
        return _allocation.over(native, sizes, dtype)

    def split(self, color: int | None, key: int = 0) -> Communicator | None:
        """A communicator of the ranks that give the same ``color``, ordered by ``key``, then by rank.

        Every rank calls it; one that gives no color gets none. This communicator goes on working.
        """
        made = self._native.split(color, key)
        if made is None:
            return None
        split = Communicator.__new__(Communicator)
        split._native, split.rank, split.world = made
        split.name = split.statistics()["name"]
        _open.add(split)
        return split

    @property
    def links(self) -> list[Link]:
        """What carries payloads to each peer, and why."""
        return [Link(*link) for link in self._native.links()]

    def statistics(self) -> dict[str, Any]:
        """Operations, bytes and latencies so far."""
        return json.loads(self._native.statistics())

    def abort(self) -> None:
        """Ends what another thread waits for, with an error there; this communicator can then only be closed."""
        self._native.abort()

    def close(self) -> None:
        """Says good-bye to the peers. A second call does nothing."""
        _open.discard(self)
        self._native.close()

    def _close_quietly(self) -> None:
        # The process is ending; whoever used the communicator has been told of its failure already.
        with contextlib.suppress(Exception):
            self._native.close_if_idle()

    def __enter__(self) -> Communicator:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What has gone wrong inside (a Ctrl-C, say) is not to be hidden by what a failed communicator says again.
        with contextlib.suppress(HaloError) if kind is not None else contextlib.nullcontext():
            self.close()

    def __repr__(self) -> str:
        return f"<halo.Communicator {self.name!r} rank {self.rank} of {self.world}>"

    def _roots_output(self, out: Any, source: Any, root: int) -> tuple[int, int] | None:
        if self.rank != root:
            return None
        if out is None:
            raise UsageError("HALO-E0502", "out: the root needs one", "pass out= on the root rank")
        return self._output(out, source.dtype, source.name).memory

    @staticmethod
    def _output(out: Any, dtype: str, name: str) -> Any:
        target = view(out, "out", writable=True)
        if target.dtype != dtype:
            raise UsageError("HALO-E0502", f"out: {target.name}, but tensor is {name}", "give both the same type")
        return target
