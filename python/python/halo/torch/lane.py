"""One communicator, connected when it is first needed, and the order of the operations on it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from halo.communicator import Communicator
from halo.errors import HaloError
from halo.torch.work import HaloWork

Operation = Callable[[Communicator], Any]

_DESTROYED = "it has been destroyed"
_ABORTED = "it has been aborted"


class Lane:
    """Runs operations one at a time, in the order they were issued.

    An operation that its caller waits for runs in the caller's own thread when nothing is queued before it: handing it
    over would cost more than a small collective takes. Every other one runs in the lane's thread, which is started by
    the first of them.

    Args:
        name: for messages and the thread.
        connect: makes the communicator; called once, by the first operation, on whichever thread runs that.
    """

    def __init__(self, name: str, connect: Callable[[], Communicator]) -> None:
        self._name = name
        self._connect = connect
        self._communicator: Communicator | None = None
        self._failed_to_connect: Exception | None = None
        self._has_failed = False
        # Held by whoever runs an operation.
        self._turn = threading.Lock()
        # Guards everything below.
        self._state = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[HaloWork, Operation] | None] = queue.SimpleQueue()
        self._unfinished = 0
        self._thread: threading.Thread | None = None
        self._closed_because: str | None = None

    def submit(self, work: HaloWork, operation: Operation, *, caller_waits: bool) -> HaloWork:
        """Runs ``operation``, now or in its turn, and finishes ``work``; errors are raised by ``work.wait``."""
        with self._state:
            if self._closed_because is not None:
                raise self._closed(self._closed_because)
            at_once = caller_waits and self._unfinished == 0
            self._unfinished += 1
            if not at_once:
                self._queue.put((work, operation))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name=f"halo {self._name}", daemon=True)
                    self._thread.start()
        if at_once:
            self._run(work, operation)
        return work

    @property
    def communicator(self) -> Communicator | None:
        """The communicator, once it has been needed."""
        return self._communicator

    def close(self) -> None:
        """Lets what has been issued end, and says good-bye to the peers. An aborted lane is left as it is."""
        self._end(_DESTROYED)
        if self._closed_because != _DESTROYED:
            return
        if self._thread is not None:
            self._thread.join()
        with self._turn:
            self._disconnect()

    def abort(self) -> None:
        """Fails what is queued. What is being run ends by itself, at the latest at its deadline."""
        self._end(_ABORTED)
        while (item := self._take()) is not None:
            item[0].finish(self._closed(_ABORTED))
        self._queue.put(None)
        self._disconnect_if_idle()

    def _take(self) -> tuple[HaloWork, Operation] | None:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    def _end(self, because: str) -> None:
        with self._state:
            if self._closed_because is None:
                self._closed_because = because
                self._queue.put(None)

    def _closed(self, because: str) -> HaloError:
        return HaloError(
            "HALO-E0564", f"process group {self._name}: {because}", "make a new one with torch.distributed.new_group"
        )

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            self._run(*item)

    def _run(self, work: HaloWork, operation: Operation) -> None:
        error: BaseException | None = None
        try:
            with self._turn:
                operation(self._connected())
        except BaseException as caught:
            error = caught
            self._has_failed = True
        with self._state:
            self._unfinished -= 1
            aborted = self._closed_because == _ABORTED
        if aborted:
            self._disconnect_if_idle()
        work.finish(error)

    def _connected(self) -> Communicator:
        if self._failed_to_connect is not None:
            # Meeting again would need every rank to try again.
            raise self._failed_to_connect
        if self._communicator is None:
            try:
                self._communicator = self._connect()
            except Exception as error:
                self._failed_to_connect = error
                raise
        return self._communicator

    def _disconnect_if_idle(self) -> None:
        if self._turn.acquire(blocking=False):
            try:
                self._disconnect()
            finally:
                self._turn.release()

    def _disconnect(self) -> None:
        if self._communicator is None:
            return
        try:
            self._communicator.close()
        except HaloError:
            # A communicator that has failed says so again when it is closed; its operations have told already.
            if not self._has_failed:
                raise
