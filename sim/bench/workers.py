"""Processes of this machine, each running one job at a time. A process that dies takes only its own job with it."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from threading import Thread

from sim.bench.finished import Finished, attempt
from sim.bench.job import Job

_SPAWN = get_context("spawn")


class Workers:
    def __init__(self, count: int) -> None:
        self._count = count

    def run(self, jobs: Sequence[Job]) -> Generator[Finished]:
        waiting = deque(jobs)
        busy = {}
        try:
            for _ in range(min(self._count, len(jobs))):
                worker = _Worker(waiting.popleft())
                busy[worker.connection] = worker
            while busy:
                for connection in wait(list(busy)):
                    worker = busy.pop(connection)  # type: ignore[call-overload]
                    finished = worker.result()
                    if waiting:
                        worker = worker.next(waiting.popleft())
                        busy[worker.connection] = worker
                    else:
                        worker.end()
                    yield finished
        finally:
            for worker in busy.values():
                worker.kill()


class _Worker:
    """A process and the job that it has."""

    def __init__(self, job: Job) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self._job = job
        self._process: BaseProcess = _SPAWN.Process(target=_work, args=(theirs,), daemon=True)
        # A Ctrl-C goes to all processes of the terminal. It is for the parent alone: children inherit the block, which
        # the start of the resource tracker would lift.
        ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        with suppress(BrokenPipeError):  # Dead already: `result` says so.
            self.connection.send(job)

    def result(self) -> Finished:
        """What became of the job."""
        try:
            finished: Finished = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return Finished(self._job, None, f"its process ended with exit code {self._process.exitcode}")
        return finished

    def next(self, job: Job) -> _Worker:
        """The worker that has the job: this one, or another if it is dead."""
        if self._process.exitcode is not None:
            return _Worker(job)
        self._job = job
        try:
            self.connection.send(job)
        except BrokenPipeError:
            self.end()
            return _Worker(job)
        return self

    def end(self) -> None:
        self.connection.close()
        self._process.join()

    def kill(self) -> None:
        self._process.kill()
        self.end()


def _work(connection: Connection) -> None:
    """Runs jobs until nobody wants more."""
    Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            connection.send(attempt(connection.recv()))
        except (EOFError, BrokenPipeError):
            return


def _end_with_parent() -> None:
    """However it ends: a long job would go on for nobody."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
