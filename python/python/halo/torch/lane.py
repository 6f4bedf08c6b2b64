"""One communicator, connected when it is first needed, and the order of the operations on it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from halo.communicator import Communicator
from halo.errors import HaloError
from halo.torch.work import HaloWork

Operation = Callable[[Communicator], Any]
Value = TypeVar("Value")

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

    def run(self, operation: Callable[[Communicator], Value]) -> Value:
        """Runs ``operation`` in its turn; returns its value when it has ended."""
        if self._may_run_at_once():
            return self._perform(operation)
        values: list[Value] = []
        work = HaloWork("an operation", self._name, values)
        self._enqueue(work, lambda communicator: values.append(operation(communicator)))
        work.wait()
        return values[0]

    def submit(self, work: HaloWork, operation: Operation, *, caller_waits: bool) -> HaloWork:
        """Runs ``operation`` in its turn and finishes ``work`` with its error, which ``work.wait`` raises."""
        if caller_waits and self._may_run_at_once():
            self._conclude(work, operation)
        else:
            self._enqueue(work, operation)
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
        """Fails what is queued and what is being run."""
        self._end(_ABORTED)
        while (item := self._take()) is not None:
            item[0].finish(self._closed(_ABORTED))
        self._queue.put(None)
        if self._communicator is not None:
            self._communicator.abort()
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

    def _may_run_at_once(self) -> bool:
        with self._state:
            self._check_open()
            if self._unfinished:
                return False
            self._unfinished = 1
            return True

    def _enqueue(self, work: HaloWork, operation: Operation) -> None:
        with self._state:
            self._check_open()
            self._unfinished += 1
            self._queue.put((work, operation))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"halo {self._name}", daemon=True)
                self._thread.start()

    def _check_open(self) -> None:
        if self._closed_because is not None:
            raise self._closed(self._closed_because)

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            self._conclude(*item)

    def _conclude(self, work: HaloWork, operation: Operation) -> None:
        try:
            self._perform(operation)
        except BaseException as error:
            work.finish(error)
        else:
            work.finish()

    def _perform(self, operation: Callable[[Communicator], Value]) -> Value:
        try:
            with self._turn:
                return operation(self._connected())
        except BaseException:
            self._has_failed = True
            raise
        finally:
            with self._state:
                self._unfinished -= 1
                aborted = self._closed_because == _ABORTED
            if aborted:
                self._disconnect_if_idle()

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
