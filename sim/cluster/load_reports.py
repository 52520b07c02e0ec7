"""What routers are told of the replicas' load: scrapes at fixed intervals, each on its own way."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from sim.cluster.config import ClusterConfig
from sim.cluster.gateway import Gateway
from sim.cluster.replica import Replica
from sim.cluster.timeline import Timeline


class LoadReports:
    """Each router scrapes each replica; scrapes of different ones do not coincide."""

    def __init__(
        self,
        config: ClusterConfig,
        timeline: Timeline,
        random: Random,
        gateways: Sequence[Gateway],
        replicas: Sequence[Replica],
    ) -> None:
        self.lost = 0
        self._config = config
        self._timeline = timeline
        self._random = random
        self._gateways = gateways
        self._replicas = replicas
        self._samples = [0] * len(replicas)
        self._usage_sums = [0.0] * len(replicas)
        self._going_on = False

    def begin(self) -> None:
        """Until ``end``."""
        self.lost, self._going_on = 0, True
        for gateway in self._gateways:
            for replica in self._replicas:
                self._timeline.after(
                    self._config.report_interval_s * self._random.random(), self._scrape, gateway, replica
                )

    def end(self) -> None:
        self._going_on = False

    def mean_kv_usage(self, replica: int) -> float:
        """Over all reports so far."""
        samples = self._samples[replica]
        return self._usage_sums[replica] / samples if samples else 0.0

    def _scrape(self, gateway: Gateway, replica: Replica) -> None:
        if not self._going_on:
            return
        link, random = self._config.load_reports, self._random
        report = replica.report()
        self._samples[replica.number] += 1
        self._usage_sums[replica.number] += report.kv_usage
        if link.loss and random.random() < link.loss:
            self.lost += 1
        else:
            delay_s = link.delay_s + link.jitter_s * random.random()
            self._timeline.after(delay_s, gateway.on_load, str(replica.number), report)
        self._timeline.after(self._config.report_interval_s, self._scrape, gateway, replica)
