"""Everything that `weft serve` runs, put together."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

import aiohttp

from flow.warm_ups.warm_ups import WarmUps
from router.admin.programs import PROGRAMS_PATH, ProgramsApi
from router.admin.routes import local_routes
from router.config import ConfigError, KubernetesConfig, PromptConfig, WeftConfig
from router.core.index.prefix_index import warm_up
from router.core.router import Router
from router.core.types import LoadReport, Outcome
from router.disaggregating import make_disaggregation
from router.dispatcher import Dispatcher
from router.engine.context import EngineContext
from router.engine.discovery.address import AddressError, ReplicaAddress, parse_address
from router.engine.discovery.dns import DnsDiscovery
from router.engine.discovery.file import FileDiscovery, ReplicasFileError, read_replicas_file
from router.engine.discovery.kubernetes import KubernetesDiscovery
from router.engine.discovery.kubernetes_api import Cluster, ClusterError, own_namespace, this_cluster
from router.engine.discovery.kubernetes_pods import PodRules
from router.engine.discovery.kubernetes_state import Wanted
from router.engine.discovery.source import Discovery, StaticDiscovery
from router.engine.health import HealthSettings
from router.engine.kv_transfer.connector import make_connector
from router.engine.member import EngineSettings
from router.engine.members import Members
from router.engine.prompts.local import LocalPrompts
from router.engine.prompts.maker import PromptMaker, PromptSource
from router.engine.prompts.replica import ReplicaPrompts
from router.engine.prompts.template import ChatTemplateError
from router.engine.prompts.text import TextPrompts
from router.engine.prompts.tokenizer import TokenizerError
from router.engine.trouble import Troubles
from router.feed import Feed
from router.following import make_programs, make_warm_ups
from router.intake import Intake
from router.profiles import make_profiles
from router.proxy.listener import Listener
from router.proxy.proxy import Proxy
from router.queueing import identity_settings, make_flow
from router.telemetry import Mishaps, Telemetry
from router.warming import Warming

if TYPE_CHECKING:
    from router.picking import Picking

ALL_OTHER_MODELS = "*"


class App:
    """A running router: ``async with App(config)``. Must be made inside the event loop that runs it."""

    def __init__(self, config: WeftConfig) -> None:
        """Raises ConfigError."""
        warm_up()
        loop = asyncio.get_running_loop()
        self.troubles = Troubles(loop.time)
        profiles = make_profiles(config.profiles, config.default_profile)
        flow, programs, warm_ups = make_flow(config), make_programs(config), make_warm_ups(config)
        if warm_ups is not None:
            flow.watchers = (warm_ups,)
        disaggregation = make_disaggregation(config, profiles)
        self.router = Router(profiles, config.router, flow=flow, programs=programs, disaggregation=disaggregation)
        self.sources = discoveries(config, self.troubles)
        own_tokenizers = {model: prompt_source(f"models.{model}", each) for model, each in config.models.items()}
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self.dispatcher = Dispatcher(self.router, loop.time, self._note)
        self.prompts = self._prompt_maker(own_tokenizers)
        identity = identity_settings(config)
        self.intake = Intake(self.prompts, identity)
        connector = None if disaggregation is None else make_connector(config.disaggregation.connector)
        self.proxy = Proxy(self.intake, self.dispatcher, config.limits, {}, connector)
        self.warming = None if warm_ups is None else self._warming(warm_ups)
        self.picking = self._picking(config)
        feed = Feed(self.router, self.dispatcher.replicas_changed, self._down, self._reported)
        context = EngineContext(feed, self.session, loop.time, self.troubles)
        self.members = Members(context, self.sources, _engine_settings(config))
        picking = None if self.picking is None else self.picking.metrics
        telemetry = Telemetry(
            self.router, self.proxy.stats, self._mishaps(), config.tenants, picking, warm_ups, loop.time
        )
        self.proxy.local_routes = local_routes(self.router, telemetry.render, int(time.time()))
        programs_api = ProgramsApi(self.router.programs, identity, loop.time, self.dispatcher.program_declared)
        self.proxy.local_trees = {PROGRAMS_PATH: programs_api}
        self.listener = Listener(self.proxy, config.listen)
        self._has_proxy = config.listen != "none"

    async def __aenter__(self) -> App:
        try:
            await self._listen()
        except ConfigError:
            if self.warming is not None:
                await self.warming.close()
            await self.session.close()
            raise
        self.members.start()
        return self

    async def _listen(self) -> None:
        """Raises ConfigError."""
        if self._has_proxy:
            try:
                await self.listener.start()
            except (OSError, ValueError) as error:
                raise ConfigError(f"listen: {error}") from error
        if self.picking is not None:
            try:
                await self.picking.start()
            except ConfigError:
                await self.listener.drain()
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Accepts nothing more, turns away who waits, lets running answers end, then stops."""
        self.dispatcher.drain()
        if self.warming is not None:
            await self.warming.close()
        await asyncio.gather(self.listener.drain(), *([] if self.picking is None else [self.picking.stop()]))
        self.proxy.close()
        await self.members.stop()
        self.dispatcher.close()
        for source in self._prompt_sources():
            if isinstance(source, LocalPrompts):
                source.close()
        await self.session.close()

    def _note(self, replica: str, outcome: Outcome) -> None:
        self.members.note(replica, outcome)
        if self.warming is not None:
            self.warming.look()

    def _warming(self, warm_ups: WarmUps) -> Warming:
        warm_ups.router = self.router
        clock = asyncio.get_running_loop().time
        warming = Warming(warm_ups, self.proxy, clock, self.dispatcher.replicas_changed)
        self.proxy.routed = warming.keep
        return warming

    def _picking(self, config: WeftConfig) -> Picking | None:
        """Who does not serve an Envoy needs no gRPC."""
        if not config.extproc.listen:
            return None
        from router.picking import Picking

        clock = asyncio.get_running_loop().time
        shared = (self.intake, self.dispatcher, self.router.fleet, self.proxy.priorities)
        return Picking(config, *shared, self._note, clock)

    def _down(self, replica: str) -> None:
        self.proxy.priorities.forget(replica)
        if self.picking is not None:
            self.picking.down(replica)

    def _reported(self, replica: str, report: LoadReport) -> None:
        if self.picking is not None:
            self.picking.reported(replica, report)

    def _mishaps(self) -> Mishaps:
        return Mishaps(
            troubles=lambda: self.troubles.counts,
            prompts_skipped=self._prompts_skipped,
            hints_ignored=lambda: self.intake.warnings,
        )

    def _prompt_maker(self, own: dict[str, PromptSource | None]) -> PromptMaker:
        """Models without a source of their own are tokenised by their replicas."""
        replica = ReplicaPrompts(self.session, self._url_of)
        sources = {model: source or replica for model, source in own.items()}
        maker = PromptMaker(sources.pop(ALL_OTHER_MODELS, replica))
        maker.by_model.update(sources)
        return maker

    def _url_of(self, model: str | None) -> str | None:
        """A healthy replica to tokenise with."""
        fleet = self.router.fleet
        found = fleet.resolve(model or "")
        if found is None:
            return None
        serving = fleet.serving(found.base) & fleet.routable
        urls = [spec.url for slot, spec in fleet if serving[slot]]
        return random.choice(urls) if urls else None

    def _prompt_sources(self) -> set[PromptSource]:
        return {self.prompts.default, *self.prompts.by_model.values()}

    def _prompts_skipped(self) -> Counter[str]:
        skipped: Counter[str] = Counter()
        for source in self._prompt_sources():
            skipped += source.skipped
        return skipped


def prompt_source(key: str, config: PromptConfig) -> PromptSource | None:
    """How one model's prompts become tokens here; None: the replica tokenises. Raises ConfigError."""
    if config.tokenizer == "text":
        return TextPrompts()
    if config.tokenizer == "replica":
        return None
    if config.path is None:
        raise ConfigError(f"{key}.path: needed by `tokenizer: local`; a directory with tokenizer.json")
    try:
        template = config.chat_template.read_text(encoding="utf-8") if config.chat_template else None
        return LocalPrompts(config.path, chat_template=template, template_defaults=config.chat_template_kwargs)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}.chat_template: {error}") from error
    except (TokenizerError, ChatTemplateError) as error:
        raise ConfigError(f"{key}.path: {error}") from error


def discoveries(config: WeftConfig, troubles: Troubles) -> list[Discovery]:
    """Where replicas come from. Raises ConfigError."""
    sources: list[Discovery] = []
    if config.replicas:
        sources.append(StaticDiscovery(static_addresses(config)))
    if config.replicas_file is not None:
        try:
            read_replicas_file(config.replicas_file)
        except ReplicasFileError as error:
            raise ConfigError(f"replicas_file: {error}") from error
        sources.append(FileDiscovery(config.replicas_file, troubles))
    for each in config.dns:
        port = None if each.record == "SRV" else each.port
        sources.append(DnsDiscovery(each.name, port, troubles, each.interval_s))
    for position, section in enumerate(config.kubernetes):
        try:
            sources.append(_kubernetes(section, troubles))
        except ClusterError as error:
            raise ConfigError(f"{config.source}: kubernetes.{position}.{error}") from error
    if not sources:
        ways = "`replicas`, `replicas_file`, `dns` or `kubernetes`"
        raise ConfigError(f"no replicas: give --replica URL, or {ways} in the file")
    return sources


def _kubernetes(section: KubernetesConfig, troubles: Troubles) -> KubernetesDiscovery:
    """Raises ClusterError."""
    if section.api:
        cluster = Cluster(section.api.rstrip("/"), section.token_file, section.ca_file)
    else:
        cluster = this_cluster(os.environ)
    wanted = Wanted(section.namespace or own_namespace(), section.selector, section.inference_pool, section.pool_group)
    rules = PodRules(section.ports, section.scheme, section.events, section.replay, tuple(section.labels))
    return KubernetesDiscovery(cluster, wanted, rules, troubles)


def static_addresses(config: WeftConfig) -> list[ReplicaAddress]:
    """The replicas of the command line and of ``replicas``. Raises ConfigError."""
    try:
        addresses = StaticDiscovery(parse_address(text) for text in config.replicas).addresses
    except AddressError as error:
        raise ConfigError(f"replicas: {error}") from error
    return list(addresses)


def _engine_settings(config: WeftConfig) -> EngineSettings:
    engine = config.engine
    return EngineSettings(
        metrics_interval_s=engine.metrics_interval_s,
        health=HealthSettings(interval_s=engine.health_interval_s),
    )
