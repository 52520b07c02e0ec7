"""`weft check`: validates a configuration, connects to each replica as `weft serve` would, and says what works."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
from rich.console import Console
from rich.table import Table

from router.app import App
from router.commands.options import configured, serve_options
from router.config import WeftConfig
from router.core.types import Health, IndexState, Prompt, ReplicaSpec, Role
from router.engine.api import read_body
from router.engine.discovery.kubernetes import KubernetesDiscovery
from router.engine.discovery.source import Discovery
from router.engine.kv_events.subscriber import KvSubscriber
from router.engine.member import Member
from router.engine.prompts.local import LocalPrompts
from router.engine.prompts.replica import ReplicaPrompts

SAMPLE_TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches the web.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}
SAMPLE_MESSAGES = [
    {"role": "system", "content": "You are a careful assistant."},
    {"role": "user", "content": "Größe 12 – naïve café, 東京, 🙂 \n\n  indented\tcode: x = {'a': [1, 2]}"},
    {"role": "assistant", "content": "Understood."},
    {"role": "user", "content": "Go on."},
]


class Finding(NamedTuple):
    replica: str
    subject: str
    works: bool | None
    """None: nothing wrong, but less than could be."""
    text: str


@click.command("check")
@serve_options
@click.option("--wait", "wait_s", default=5.0, show_default=True, help="Seconds to give replicas to answer.")
def command(
    config_file: Path | None,
    listen: str | None,
    replicas: tuple[str, ...],
    tokenizer: str | None,
    profile: str | None,
    pods: tuple[str, ...],
    pools: tuple[str, ...],
    programs: bool,
    wait_s: float,
) -> None:
    """Validate a configuration and connect to each replica.

    Ends with 0 when all works, 1 when something does not, 2 when the configuration is wrong.
    """
    config = configured(config_file, listen, replicas, tokenizer, profile, pods, pools, programs)
    elsewhere = {"listen": "127.0.0.1:0", "extproc": config.extproc.model_copy(update={"listen": ""})}
    findings = asyncio.run(examine(config.model_copy(update=elsewhere), wait_s))
    _show(findings)
    sys.exit(1 if any(finding.works is False for finding in findings) else 0)


async def examine(config: WeftConfig, wait_s: float) -> list[Finding]:
    """Runs the router for up to ``wait_s`` and reports on each replica. Raises ConfigError."""
    async with App(config) as app:
        await _until_known(app, wait_s)
        findings = [finding for source in app.sources for finding in _pods(source)]
        findings += [finding for member in app.members.by_name.values() for finding in _server(app, member)]
        for _, spec in app.router.fleet:
            if spec.models:
                findings.append(await _tokenizer(app, spec))
        if not app.members.by_name:
            findings.append(Finding("-", "discovery", False, "names no replica"))
        return findings


async def _until_known(app: App, wait_s: float) -> None:
    """Until every replica is healthy and the state of its events is settled, or the time is over."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + wait_s
    while loop.time() < end_s:
        await asyncio.sleep(0.1)
        members = app.members.by_name.values()
        if members and all(_settled(app, member) for member in members):
            return


def _settled(app: App, member: Member) -> bool:
    fleet = app.router.fleet
    for spec in member.specs:
        slot = fleet.slot(spec.name)
        subscriber = member.subscribers.get(spec.name)
        if slot is None or fleet.health[slot] is not Health.HEALTHY:
            return False
        if subscriber is not None and not subscriber.connected:
            return False
        if subscriber is not None and subscriber.source.replay_endpoint and _state(app, spec) is IndexState.DEGRADED:
            return False
    return bool(list(member.specs))


def _pods(source: Discovery) -> Iterator[Finding]:
    """What a Kubernetes discovery has found, and which pods it does not name."""
    if not isinstance(source, KubernetesDiscovery):
        return
    found = source.findings
    if source.problem or found is None:
        yield Finding(source.name, "discovery", False, source.problem or "the API server has not answered yet")
    if found is not None:
        named = len({address.host for address in found.addresses})
        matching = named + len(found.left_out)
        text = f"{matching} pods, {named} of them ready; replicas: {len(found.addresses)}"
        yield Finding(source.name, "discovery", bool(found.addresses) or None, text)
        for pod, reason in sorted(found.left_out.items()):
            yield Finding(pod, "pod", False if pod in found.wrong else None, reason)


def _server(app: App, member: Member) -> Iterator[Finding]:
    for spec in member.specs:
        slot = app.router.fleet.slot(spec.name)
        healthy = slot is not None and app.router.fleet.health[slot] is Health.HEALTHY
        if not spec.models:
            yield Finding(spec.name, "server", False, f"{spec.url} does not answer, or does not say what it serves")
            continue
        role = "" if spec.role is Role.BOTH else f", of role {spec.role}"
        yield Finding(spec.name, "server", healthy, f"{spec.url} is {'healthy' if healthy else 'not healthy'}{role}")
        yield Finding(spec.name, "model", True, _describe(spec))
        yield _events(app, spec, member.subscribers.get(spec.name))
    for note in member.notes:
        yield Finding(member.address.name, "note", None, note)


def _describe(spec: ReplicaSpec) -> str:
    names = ", ".join((*spec.models, *spec.adapters))
    capacity = f"{spec.capacity_blocks} blocks" if spec.capacity_blocks else "unknown capacity"
    return f"{names}; {capacity} of {spec.block_size_tokens} tokens; context {spec.max_model_len_tokens or 'unknown'}"


def _events(app: App, spec: ReplicaSpec, subscriber: KvSubscriber | None) -> Finding:
    if subscriber is None:
        text = "no KV events are published; Weft remembers what it sends there instead"
        return Finding(spec.name, "KV events", None, text)
    source = subscriber.source
    if not subscriber.connected:
        return Finding(spec.name, "KV events", False, f"{source.endpoint} cannot be reached")
    state = _state(app, spec)
    slot = app.router.fleet.slot(spec.name)
    held = app.router.index.held_blocks(slot) if slot is not None else 0
    seen = f"{subscriber.messages} live messages seen, {held} blocks known, index {state}"
    if not source.replay_endpoint:
        text = f"{source.endpoint} reached; no replay endpoint: lost events cannot be had again; {seen}"
        return Finding(spec.name, "KV events", None, text)
    return Finding(
        spec.name,
        "KV events",
        state is not IndexState.DEGRADED,
        f"{source.endpoint} reached, replay at {source.replay_endpoint}; {seen}",
    )


def _state(app: App, spec: ReplicaSpec) -> IndexState:
    slot = app.router.fleet.slot(spec.name)
    return IndexState.NONE if slot is None else app.router.fleet.index_states[slot]


async def _tokenizer(app: App, spec: ReplicaSpec) -> Finding:
    """Whether Weft's token ids for a sample chat are the replica's own."""
    source = app.prompts.by_model.get(spec.base_model, app.prompts.default)
    theirs = await _prompt(ReplicaPrompts(app.session, lambda _: spec.url, timeout_s=5.0), spec)
    if isinstance(source, ReplicaPrompts):
        if theirs is None:
            return Finding(spec.name, "tokenizer", False, f"{spec.url}/tokenize does not answer as expected")
        return Finding(spec.name, "tokenizer", True, "the replica tokenises itself (a directory is faster)")
    if not isinstance(source, LocalPrompts):
        return Finding(spec.name, "tokenizer", None, "text mode: KV events cannot be used, own routing is remembered")
    ours = await _prompt(source, spec)
    if theirs is None:
        return Finding(spec.name, "tokenizer", None, f"cannot be compared: {spec.url}/tokenize does not answer")
    if ours is None:
        reasons = ", ".join(source.skipped) or "no reason known"
        return Finding(spec.name, "tokenizer", False, f"the local tokenizer cannot make the prompt: {reasons}")
    if ours.token_ids.tolist() != theirs.token_ids.tolist():
        text = f"other token ids than the replica's ({len(ours)} against {len(theirs)}): is it the same model?"
        return Finding(spec.name, "tokenizer", False, text)
    return Finding(spec.name, "tokenizer", True, f"agrees with the replica's on a sample chat of {len(ours)} tokens")


async def _prompt(source: LocalPrompts | ReplicaPrompts, spec: ReplicaSpec) -> Prompt | None:
    body = {"model": spec.base_model, "messages": SAMPLE_MESSAGES, "tools": [SAMPLE_TOOL]}
    made = source.make(read_body("/v1/chat/completions", msgspec.json.encode(body)))
    return made if made is None or isinstance(made, Prompt) else await made


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("replica", "what", "", "finding"):
        table.add_column(heading, overflow="fold")
    marks = {True: "[green]ok[/]", False: "[red]FAILS[/]", None: "[yellow]note[/]"}
    for finding in findings:
        table.add_row(finding.replica, finding.subject, marks[finding.works], finding.text)
    Console().print(table)
