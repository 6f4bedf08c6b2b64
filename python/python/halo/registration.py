"""`halo.Registration`: memory that a NIC reads and writes where it lies."""

from __future__ import annotations

from halo._halo import NativeRegistration


class Registration:
    """Memory registered with :meth:`halo.Communicator.register`, until it is closed or collected.

    It keeps the tensor or buffer alive. As a context manager it is closed at the end of the block.
    """

    def __init__(self, native: NativeRegistration) -> None:
        self._native = native

    @property
    def used(self) -> bool:
        """Whether a NIC makes use of it: over rdma, and as long as it is open."""
        return self._native.is_used()

    def close(self) -> None:
        """Gives it back. An operation under way keeps it until it is done; a second call does nothing."""
        self._native.close()

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
