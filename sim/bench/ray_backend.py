"""The same jobs on a Ray cluster, one core each. Weft must be installed on its nodes, and trace files be there too."""

from __future__ import annotations

import logging
import socket
from collections.abc import Generator, Sequence
from typing import Any

from sim.bench.finished import Finished, attempt
from sim.bench.job import Job

_REACHABLE_WITHIN_S = 5.0


class RayCluster:
    def __init__(self, address: str) -> None:
        """``address`` as Ray's own: ``auto``, ``local``, ``HOST:PORT`` or ``ray://HOST:PORT``.

        Raises ValueError when Ray is not installed or there is no cluster.
        """
        try:
            import ray
        except ImportError as error:
            raise ValueError("--ray needs Ray: pip install 'weft[ray]'") from error
        _check_reachable(address)
        alone: dict[str, Any] = (
            {"_node_ip_address": "127.0.0.1", "include_dashboard": False} if address == "local" else {}
        )
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"no Ray cluster at {address}: {error}") from error
        self._ray = ray

    def run(self, jobs: Sequence[Job]) -> Generator[Finished]:
        ray = self._ray
        remote = ray.remote(attempt)
        running = {remote.remote(job): job for job in jobs}
        try:
            while running:
                (done,), _ = ray.wait(list(running), num_returns=1)
                yield self._result(done, running.pop(done))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            ray.shutdown()

    def _result(self, done: Any, job: Job) -> Finished:
        try:
            finished: Finished = self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            return Finished(job, None, str(error))
        return finished


def _check_reachable(address: str) -> None:
    """Ray itself goes on trying for minutes. Raises ValueError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), _REACHABLE_WITHIN_S).close()
    except (OSError, ValueError) as error:
        raise ValueError(f"no Ray cluster at {address}: {error}") from error
