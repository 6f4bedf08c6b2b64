"""`HaloProcessGroup`: PyTorch's interface of a group of ranks, on halo's communicators."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from halo.communicator import Communicator
from halo.errors import UsageError
from halo.torch.address import address_towards
from halo.torch.collectives import Collectives
from halo.torch.lane import Lane, Operation, Value
from halo.torch.messages import Inbox, send
from halo.torch.tensors import on_host, only
from halo.torch.work import HaloWork, JoinedWork

_SETTINGS = (
    "name",
    "transport",
    "key",
    "timeout",
    "peer_timeout",
    "interface",
    "address",
    "rdma_device",
    "stats_file",
    "rounding",
)


def foreign_group(what: str, group: Any) -> UsageError:
    """The error for a process group that another backend has made."""
    return UsageError(
        "HALO-E0561",
        f"{what}: the process group's backend is not halo but {getattr(group, 'name', lambda: group)()}",
        'make the group with backend="halo"',
    )


class HaloProcessGroup(Collectives):
    """A group of ranks whose collectives and messages go through halo.

    Nothing is connected before it is needed: the first collective connects all ranks, the first message from one rank
    to another connects those two. Tensors that are not contiguous, or not in host memory, are staged there.

    Args:
        store: where the ranks meet; this group's own part of torch.distributed's store.
        rank, size: of this process in the group, and of the group.
        group_name: PyTorch's name for it.
        timeout: PyTorch's deadline for the group; ``HALO_TIMEOUT`` wins where it is set.
        settings: what `halo.Communicator` takes, from ``pg_options``.
    """

    def __init__(
        self,
        store: torch.distributed.Store,
        rank: int,
        size: int,
        group_name: str,
        timeout: timedelta,
        settings: dict[str, Any] | None = None,
    ) -> None:
        # The constructor that takes the store too is not for Python's subclasses.
        super().__init__(rank, size)
        self._store = store
        self._rank, self._world = rank, size
        self._group_name, self._group_description = group_name, "undefined"
        self._settings: dict[str, Any] = {"name": f"torch:{group_name}"}
        if not (os.environ.get("HALO_ADDRESS") or os.environ.get("HALO_INTERFACE")):
            self._settings["address"] = address_towards(store)
        if not os.environ.get("HALO_TIMEOUT"):
            self._settings["timeout"] = timeout.total_seconds()
        self._collectives = Lane(group_name, self._connect_all)
        self._outboxes: dict[int, Lane] = {}
        self._inboxes: dict[int, tuple[Lane, Inbox]] = {}
        self._coalesced: list[HaloWork] | None = None
        self.when_connected: Callable[[Communicator], None] | None = None
        """Called with the communicator of all ranks, once."""
        if settings is not None:
            self.configure(settings)

    def configure(self, settings: dict[str, Any]) -> None:
        """Changes how the group will be connected: `halo.Communicator`'s settings by name, the same on every rank."""
        unknown = sorted(set(settings) - set(_SETTINGS)) if isinstance(settings, dict) else [type(settings).__name__]
        if unknown:
            raise UsageError(
                "HALO-E0563",
                f"process group {self._group_name}: pg_options has {', '.join(map(str, unknown))}",
                f"pg_options is a dict of {', '.join(_SETTINGS)}",
            )
        if any(lane.communicator is not None for lane in self._lanes()):
            raise UsageError(
                "HALO-E0563",
                f"process group {self._group_name} is connected already",
                "configure a group before its first operation",
            )
        self._settings.update(settings)

    def statistics(self) -> list[dict[str, Any]]:
        """The statistics of each communicator connected so far: the collectives', then the messages'."""
        communicators = [lane.communicator for lane in self._lanes()]
        return [communicator.statistics() for communicator in communicators if communicator is not None]

    def run(self, operation: Callable[[Communicator], Value]) -> Value:
        """Runs ``operation`` on the communicator of all ranks, in its turn; returns its value.

        The shortest way to halo's own interface: every rank calls it, with the same operations.
        """
        return self._collectives.run(operation)

    # Messages between two ranks.

    def send(self, tensors: Sequence[torch.Tensor], dstRank: int, tag: int = 0) -> HaloWork:
        tensor = only(tensors, "send")
        to, source = self._peer("send", dstRank), on_host(tensor)
        if to not in self._outboxes:
            self._outboxes[to] = self._pair(self._rank, to)
        # Rank 0 of a pair's communicator sends.
        operation: Operation = lambda communicator: send(communicator, source, 1, tag)  # noqa: E731
        return self._submit(self._outboxes[to], "send", operation, [tensor])

    def recv(self, tensors: Sequence[torch.Tensor], srcRank: int, tag: int = 0) -> HaloWork:
        tensor = only(tensors, "recv")
        source = self._peer("recv", srcRank)
        if source not in self._inboxes:
            self._inboxes[source] = self._pair(source, self._rank), Inbox(source)
        lane, inbox = self._inboxes[source]
        return self._submit(lane, "recv", lambda communicator: inbox.receive(communicator, tensor, 0, tag), [tensor])

    def recv_anysource(self, tensors: Sequence[torch.Tensor], tag: int = 0) -> HaloWork:
        raise self._not_offered("recv from any source", "name the source: torch.distributed.recv(tensor, src=...)")

    # The group's life.

    def shutdown(self) -> None:
        """Lets what has been issued end, and says good-bye to the peers; ``destroy_process_group`` calls it."""
        for lane in self._lanes():
            lane.close()

    def abort(self) -> None:
        """Fails what has been issued and has not ended, and leaves."""
        for lane in self._lanes():
            lane.abort()

    # What PyTorch asks every process group. The names are those of its C++ interface.

    def getBackendName(self) -> str:
        return "halo"

    def getGroupName(self) -> str:
        return self._group_name

    def setGroupName(self, name: str) -> None:
        self._group_name = name

    def getGroupDesc(self) -> str:
        return self._group_description

    def setGroupDesc(self, description: str) -> None:
        self._group_description = description

    def get_group_store(self) -> torch.distributed.Store:
        return self._store

    @property
    def _device_types(self) -> list[torch.device]:
        return [torch.device("cpu")]

    def _start_coalescing(self, device: torch.device) -> None:
        self._coalesced = []

    def _end_coalescing(self, device: torch.device) -> JoinedWork:
        works, self._coalesced = self._coalesced or [], None
        return JoinedWork(works)

    # How operations get to their communicator.

    def _collect(
        self, name: str, operation: Operation, result: Any, *, caller_waits: bool, timeout: timedelta = timedelta(0)
    ) -> HaloWork:
        return self._submit(self._collectives, name, operation, result, caller_waits, timeout)

    def _submit(
        self,
        lane: Lane,
        name: str,
        operation: Operation,
        result: Any,
        caller_waits: bool = False,
        timeout: timedelta = timedelta(0),
    ) -> HaloWork:
        work = HaloWork(name, self._group_name, result, timeout)
        if self._coalesced is not None:
            self._coalesced.append(work)
            caller_waits = False
        return lane.submit(work, operation, caller_waits=caller_waits)

    def _lanes(self) -> list[Lane]:
        return [self._collectives, *self._outboxes.values(), *(lane for lane, _ in self._inboxes.values())]

    def _connect_all(self) -> Communicator:
        store = torch.distributed.PrefixStore("collectives", self._store)
        communicator = Communicator.from_store(store, self._rank, self._world, **self._settings)
        if self.when_connected is not None:
            self.when_connected(communicator)
        return communicator

    def _pair(self, source: int, to: int) -> Lane:
        name = f"{self._settings['name']}:{source}-{to}"

        def connect() -> Communicator:
            store = torch.distributed.PrefixStore(f"messages/{source}-{to}", self._store)
            return Communicator.from_store(store, int(self._rank == to), 2, **{**self._settings, "name": name})

        return Lane(f"{self._group_name}, messages from rank {source} to rank {to},", connect)

    def _peer(self, operation: str, rank: int) -> int:
        if 0 <= rank < self._world and rank != self._rank:
            return rank
        raise UsageError(
            "HALO-E0305",
            f"{operation}: rank {rank} is not another rank of world {self._world}",
            "ranks are 0 to world - 1",
        )

    def _not_offered(self, what: str, instead: str) -> UsageError:
        return UsageError("HALO-E0560", f"process group {self._group_name}: {what} is not offered", instead)
