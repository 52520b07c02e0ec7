"""A fleet of simulated replicas behind production routers, serving programs in virtual time.

    program ─ready─► call ─proxy─► Gateway (Router) ─network─► Replica (Engine) ─network─► client ─► next steps
                                     ▲    ▲                     │  │    │
                                     │    └── load reports ─────┼──┘    │
                                     └─────── KV feed ──────────┼───────┘
                                                                └─ KV blocks (HandOver) ─► another replica

The policy is the router's own, the caches and step times are the engine model's; here is only what connects them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random

import sim.engine as engine
from router.core import types as core
from router.core.router import Router
from sim.cluster.call import Call, add_prefill, make_call, make_work
from sim.cluster.config import ClusterConfig
from sim.cluster.fleet_memory import FleetMemory
from sim.cluster.gateway import Gateway
from sim.cluster.hand_over import HandOver
from sim.cluster.kv_feeds import KvFeeds
from sim.cluster.load_reports import LoadReports
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
        numbers = range(config.replicas)
        self._replicas = [Replica(number, config.engine, self._timeline, self) for number in numbers]
        self._gateways = [Gateway(make_router(i), self._timeline, self._dispatch) for i in range(config.routers)]
        for gateway in self._gateways:
            for replica in self._replicas:
                gateway.add_replica(self._spec(replica))
        self._feeds = KvFeeds(config, self._timeline, self._random, self._gateways)
        self._reports = LoadReports(config, self._timeline, self._random, self._gateways, self._replicas)
        self._hand_over = None
        if config.transfer is not None:
            transfers = Random(f"{seed} transfers")
            self._hand_over = HandOver(
                config.transfer, config.transfer_failures, self._timeline, self._replicas, transfers, self._retry
            )

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
        if programs:
            self._reports.begin()
        self._timeline.run()
        return self._finish()

    def step_began(self, replica: Replica, result: engine.StepResult) -> None:
        block_size = self._config.engine.block_size_tokens
        for work in result.admitted:
            if not work.preemptions:
                call = self._calls[work]
                lookups = call.hashes[: (work.prompt_tokens - 1) // block_size]
                known_tokens = self._memory.prefix_blocks(lookups) * block_size
                call.record.recomputed_tokens += max(0, known_tokens - work.cached_tokens - work.fetched_tokens)
        if self._hand_over is not None:
            for work in result.fetching:
                self._hand_over.fetch(self._calls[work])

    def step_ended(self, replica: Replica, result: engine.StepResult) -> None:
        if result.events:
            self._publish(replica, result.events)
        network_s = self._config.network_s
        for work in result.emitted:
            call = self._calls[work]
            if call.record.first_token_s < 0 and work is call.work:
                call.record.first_token_s = self._timeline.now + network_s
                self._timeline.after(network_s, self._gateways[call.record.router].response_started, call)
        for work in result.finished:
            call = self._calls.pop(work)
            if call.prefill is None or work is call.work:
                self._timeline.after(network_s, self._end, call)
            else:
                call.prefill.record.scheduled_s, call.prefill.record.ended_s = work.scheduled_s, self._timeline.now
                self._timeline.after(network_s, self._prefilled, call)
                self._timeline.after(self._config.engine.kv_lease_duration_s, replica.expire_leases)

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

    def _dispatch(self, call: Call, ticket: core.Ticket) -> None:
        record, leg = call.record, ticket.prefill
        decision, first = _decision(ticket), _decision(leg or ticket)
        record.replica, record.dispatched_s = int(decision.replica.name), self._timeline.now
        record.expected_cached_tokens = first.cached_tokens
        if leg is None:
            self._submit(call, record.replica, call.work)
        elif self._hand_over is None:
            raise ValueError(f"the router disaggregates call {call.request.id}, but the cluster has no transfer model")
        else:
            replica = int(first.replica.name)
            self._submit(call, replica, add_prefill(call, replica))

    def _submit(self, call: Call, number: int, work: engine.Request) -> None:
        self._calls[work] = call
        way_s = self._config.network_s + self._config.engine.frontend.delay_s(work.prompt_tokens)
        self._timeline.after(way_s, self._replicas[number].submit, work)

    def _prefilled(self, call: Call) -> None:
        self._gateways[call.record.router].prefill_ended(call)
        call.work.remote_tokens = call.work.prompt_tokens
        self._submit(call, call.record.replica, call.work)

    def _retry(self, call: Call) -> None:
        """The answer was an error, as the prompt's KV blocks could not be fetched: the same replica computes it all."""
        del self._calls[call.work]
        call.work = make_work(call)
        self._timeline.after(self._config.network_s, self._submit, call, call.record.replica, call.work)

    def _end(self, call: Call) -> None:
        record, work, now = call.record, call.work, self._timeline.now
        first = work if call.prefill is None else call.prefill.work
        record.scheduled_s = first.scheduled_s
        record.ended_s = now
        record.prompt_tokens = work.prompt_tokens
        record.cached_tokens = first.cached_tokens
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
        elif not self._unfinished:
            self._reports.end()

    def _publish(self, replica: Replica, events: list[engine.KvEvent]) -> None:
        for event in events:
            if isinstance(event, engine.BlocksStored):
                hashes = self._calls[event.request].hashes
                self._memory.add(hashes[event.first_block : event.first_block + event.blocks])
        self._feeds.send(replica.number, events, self._calls)

    def _finish(self) -> Run:
        run = self._run
        run.lost_reports = self._reports.lost
        for replica in self._replicas:
            run.replicas.append(
                ReplicaRecord(
                    replica.busy_s,
                    replica.computed_tokens,
                    replica.engine.preemptions,
                    self._reports.mean_kv_usage(replica.number),
                    self._config.role(replica.number),
                    replica.engine.expired_leases,
                )
            )
        run.lost_kv_batches = self._feeds.lost
        for gateway in self._gateways:
            run.router_cost.decisions += gateway.cost.decisions
            run.router_cost.cpu_ns += gateway.cost.cpu_ns
        return run

    def _spec(self, replica: Replica) -> core.ReplicaSpec:
        config = self._config
        return core.ReplicaSpec(
            name=str(replica.number),
            url=f"http://{replica.number}",
            role=config.role(replica.number),
            models=(config.model,),
            block_size_tokens=config.engine.block_size_tokens,
            capacity_blocks=config.engine.usable_blocks,
            max_model_len_tokens=config.engine.max_model_len_tokens,
            reports_events=config.kv_events is not None,
        )


def _decision(ticket: core.Ticket) -> core.Decision:
    if ticket.decision is None:
        raise LookupError(f"request {ticket.request.id} was not decided")
    return ticket.decision
