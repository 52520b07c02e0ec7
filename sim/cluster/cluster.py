"""A fleet of simulated replicas behind production routers, serving programs in virtual time.

    program ─ready─► call ─proxy─► Gateway (Router) ─network─► Replica (Engine) ─network─► client ─► next steps
                                     ▲    ▲                        │    │
                                     │    └── load reports ────────┘    │
                                     └─────── KV feed ──────────────────┘

The policy is the router's own, the caches and step times are the engine model's; here is only what connects them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import sim.engine as engine
from router.core import types as core
from router.core.index.hashing import chain_seed
from router.core.router import Router
from sim.cluster.call import Call, make_call
from sim.cluster.config import ClusterConfig, Link
from sim.cluster.fleet_memory import FleetMemory
from sim.cluster.gateway import Gateway
from sim.cluster.kv_batches import make_batch
from sim.cluster.kv_feed import KvFeed
from sim.cluster.progress import Progress
from sim.cluster.record import ProgramRecord, ReplicaRecord, Run
from sim.cluster.replica import Replica
from sim.cluster.timeline import Timeline
from sim.cluster.tokens import Renderer
from sim.workloads.hints import Hint, session_hint
from sim.workloads.program import Program, Step


class Cluster:
    """Serves programs, from beginning to end."""

    def __init__(
        self,
        config: ClusterConfig,
        make_router: Callable[[int], Router],
        *,
        seed: int = 0,
        hint: Hint = session_hint,
    ) -> None:
        """``make_router(i)`` makes the i-th router; whatever is random in it must be seeded for runs to repeat."""
        self._config = config
        self._hint = hint
        self._timeline = Timeline()
        self._random = Random(seed)
        self._memory = FleetMemory()
        self._run = Run()
        self._began_s = 0.0
        self._calls: dict[engine.Request, Call] = {}
        """Those that are in a replica."""
        self._sent = self._unfinished = 0
        self._backlog: deque[Program] = deque()
        self._chain_seed = chain_seed(config.model)
        numbers = range(config.replicas)
        self._replicas = [Replica(number, config.engine, self._timeline, self) for number in numbers]
        self._usage_samples = [0] * config.replicas
        self._usage_sums = [0.0] * config.replicas
        self._gateways = [Gateway(make_router(i), self._timeline, self._dispatch) for i in range(config.routers)]
        for gateway in self._gateways:
            for replica in self._replicas:
                gateway.add_replica(self._spec(replica))
        self._feeds = self._connect(config.kv_events) if config.kv_events is not None else []

    def run(self, programs: Sequence[Program], in_flight: int | None = None) -> Run:
        """Serve all programs, each from its arrival on; with ``in_flight``, at most so many at a time, in their order.

        A later call goes on from there: arrivals count from the end of the run before, and what is told of replicas
        from the very start. Raises ValueError when a program is malformed or a prompt is too long for the engine.
        """
        if len({program.id for program in programs}) < len(programs):
            raise ValueError("two programs have the same id: give each its own")
        self._run = Run()
        self._unfinished = len(programs)
        self._began_s = self._timeline.now
        self._backlog.extend(programs)
        for _ in range(min(in_flight or len(programs), len(programs))):
            self._start_next()
        self._begin_reports()
        self._timeline.run()
        return self._finish()

    def step_began(self, replica: Replica, result: engine.StepResult) -> None:
        block_size = self._config.engine.block_size_tokens
        for work in result.admitted:
            if not work.preemptions:
                call = self._calls[work]
                lookups = call.hashes[: (work.prompt_tokens - 1) // block_size]
                known_tokens = self._memory.prefix_blocks(lookups) * block_size
                call.record.recomputed_tokens = max(0, known_tokens - work.cached_tokens)

    def step_ended(self, replica: Replica, result: engine.StepResult) -> None:
        if result.events:
            self._publish(replica, result.events)
        network_s = self._config.network_s
        for work in result.emitted:
            call = self._calls[work]
            if call.record.first_token_s < 0:
                call.record.first_token_s = self._timeline.now + network_s
                self._timeline.after(network_s, self._gateways[call.record.router].response_started, call)
        for work in result.finished:
            self._timeline.after(network_s, self._end, self._calls.pop(work))

    def _start_next(self) -> None:
        program = self._backlog.popleft()
        self._timeline.at(self._began_s + program.arrival_s, self._start, program)

    def _start(self, program: Program) -> None:
        progress = Progress(program, self._timeline.now, Renderer(self._config.engine.block_size_tokens))
        for step in progress.first_steps():
            self._timeline.after(step.wait_s, self._send, progress, step)

    def _send(self, progress: Progress, step: Step) -> None:
        config, now = self._config, self._timeline.now
        call = make_call(progress, step, self._sent, now, config.model)
        self._sent += 1
        self._hint(call.request, progress.program, step)
        call.record.router = self._random.randrange(config.routers) if config.routers > 1 else 0
        self._timeline.after(config.proxy_s, self._gateways[call.record.router].submit, call)

    def _dispatch(self, call: Call, name: str) -> None:
        replica = self._replicas[int(name)]
        call.record.replica, call.record.dispatched_s = replica.number, self._timeline.now
        self._calls[call.work] = call
        way_s = self._config.network_s + self._config.engine.frontend.delay_s(call.work.prompt_tokens)
        self._timeline.after(way_s, replica.submit, call.work)

    def _end(self, call: Call) -> None:
        record, work, now = call.record, call.work, self._timeline.now
        record.scheduled_s = work.scheduled_s
        record.ended_s = now
        record.prompt_tokens = work.prompt_tokens
        record.cached_tokens = work.cached_tokens
        record.output_tokens = work.output_tokens
        self._run.calls.append(record)
        self._gateways[record.router].response_ended(call)
        for step in call.progress.ended(call.step):
            self._timeline.after(step.wait_s, self._send, call.progress, step)
        if call.progress.complete:
            self._complete(call.progress)

    def _complete(self, progress: Progress) -> None:
        self._run.programs.append(ProgramRecord(progress.program, progress.started_s, self._timeline.now))
        self._unfinished -= 1
        if self._backlog:
            self._start_next()

    def _publish(self, replica: Replica, events: list[engine.KvEvent]) -> None:
        block_size = self._config.engine.block_size_tokens
        for event in events:
            if isinstance(event, engine.BlocksStored):
                hashes = self._calls[event.request].hashes
                self._memory.add(hashes[event.first_block : event.first_block + event.blocks])
        if self._feeds:
            batch = make_batch(events, self._calls, block_size, self._chain_seed)
            for feed in self._feeds[replica.number]:
                feed.send(batch)

    def _begin_reports(self) -> None:
        """Scrapes of different replicas and routers do not coincide."""
        interval_s = self._config.report_interval_s
        for gateway in self._gateways:
            for replica in self._replicas:
                self._timeline.after(interval_s * self._random.random(), self._scrape, gateway, replica)

    def _scrape(self, gateway: Gateway, replica: Replica) -> None:
        if not self._unfinished:
            return
        config, link = self._config, self._config.load_reports
        report = replica.report()
        self._usage_samples[replica.number] += 1
        self._usage_sums[replica.number] += report.kv_usage
        if link.loss and self._random.random() < link.loss:
            self._run.lost_reports += 1
        else:
            delay_s = link.delay_s + link.jitter_s * self._random.random()
            self._timeline.after(delay_s, gateway.on_load, str(replica.number), report)
        self._timeline.after(config.report_interval_s, self._scrape, gateway, replica)

    def _finish(self) -> Run:
        run = self._run
        for replica in self._replicas:
            samples = self._usage_samples[replica.number]
            usage = self._usage_sums[replica.number] / samples if samples else 0.0
            run.replicas.append(
                ReplicaRecord(replica.busy_s, replica.computed_tokens, replica.engine.preemptions, usage)
            )
        run.lost_kv_batches = sum(feed.lost for feeds in self._feeds for feed in feeds)
        for gateway in self._gateways:
            run.router_cost.decisions += gateway.cost.decisions
            run.router_cost.cpu_ns += gateway.cost.cpu_ns
        return run

    def _spec(self, replica: Replica) -> core.ReplicaSpec:
        config = self._config
        return core.ReplicaSpec(
            name=str(replica.number),
            url=f"http://{replica.number}",
            models=(config.model,),
            block_size_tokens=config.engine.block_size_tokens,
            capacity_blocks=config.engine.usable_blocks,
            max_model_len_tokens=config.engine.max_model_len_tokens,
            reports_events=config.kv_events is not None,
        )

    def _connect(self, link: Link) -> list[list[KvFeed]]:
        """For each replica a feed to each router."""
        return [[self._feed(link, gateway, replica) for gateway in self._gateways] for replica in self._replicas]

    def _feed(self, link: Link, gateway: Gateway, replica: Replica) -> KvFeed:
        return KvFeed(
            link,
            self._config.replay_s,
            self._timeline,
            Random(self._random.random()),
            partial(gateway.on_kv_events, str(replica.number)),
            partial(gateway.degrade, str(replica.number)),
        )
