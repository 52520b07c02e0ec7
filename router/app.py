"""Everything that `weft serve` runs, put together."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from types import TracebackType

import aiohttp

from router.admin.programs import PROGRAMS_PATH, ProgramsApi
from router.admin.routes import local_routes
from router.config import ConfigError, PromptConfig, WeftConfig
from router.core.index.prefix_index import warm_up
from router.core.router import Router
from router.core.types import Outcome
from router.dispatcher import Dispatcher
from router.engine.context import EngineContext
from router.engine.discovery.address import AddressError, ReplicaAddress, parse_address
from router.engine.discovery.dns import DnsDiscovery
from router.engine.discovery.file import FileDiscovery, ReplicasFileError, read_replicas_file
from router.engine.discovery.source import Discovery, StaticDiscovery
from router.engine.health import HealthSettings
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
from router.following import make_programs
from router.intake import Intake
from router.profiles import make_profiles
from router.proxy.listener import Listener
from router.proxy.proxy import Proxy
from router.queueing import identity_settings, make_flow
from router.telemetry import Mishaps, Telemetry

ALL_OTHER_MODELS = "*"


class App:
    """A running router: ``async with App(config)``. Must be made inside the event loop that runs it."""

    def __init__(self, config: WeftConfig) -> None:
        """Raises ConfigError."""
        warm_up()
        loop = asyncio.get_running_loop()
        self.troubles = Troubles(loop.time)
        profiles = make_profiles(config.profiles, config.default_profile)
        self.router = Router(profiles, config.router, flow=make_flow(config), programs=make_programs(config))
        sources = discoveries(config, self.troubles)
        own_tokenizers = {model: prompt_source(f"models.{model}", each) for model, each in config.models.items()}
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self.dispatcher = Dispatcher(self.router, loop.time, self._note)
        self.prompts = self._prompt_maker(own_tokenizers)
        identity = identity_settings(config)
        self.intake = Intake(self.prompts, identity)
        self.proxy = Proxy(self.intake, self.dispatcher, config.limits, {})
        feed = Feed(self.router, self.dispatcher.replicas_changed, self.proxy.priorities.forget)
        context = EngineContext(feed, self.session, loop.time, self.troubles)
        self.members = Members(context, sources, _engine_settings(config))
        telemetry = Telemetry(self.router, self.proxy.stats, self._mishaps(), config.tenants)
        self.proxy.local_routes = local_routes(self.router, telemetry.render, int(time.time()))
        self.proxy.local_trees = {PROGRAMS_PATH: ProgramsApi(self.router.programs, identity, loop.time)}
        self.listener = Listener(self.proxy, config.listen)

    async def __aenter__(self) -> App:
        try:
            await self.listener.start()
        except (OSError, ValueError) as error:
            await self.session.close()
            raise ConfigError(f"listen: {error}") from error
        self.members.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Accepts nothing more, turns away who waits, lets running answers end, then stops."""
        self.dispatcher.drain()
        await self.listener.drain()
        self.proxy.close()
        await self.members.stop()
        self.dispatcher.close()
        for source in self._prompt_sources():
            if isinstance(source, LocalPrompts):
                source.close()
        await self.session.close()

    def _note(self, replica: str, outcome: Outcome) -> None:
        self.members.note(replica, outcome)

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
    if not sources:
        raise ConfigError("no replicas: give --replica URL, or `replicas`, `replicas_file` or `dns` in the file")
    return sources


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
