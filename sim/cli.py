"""``weft sim-replicas``: simulated vLLM replicas for trying out a router."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import fields
from pathlib import Path

import click
import uvloop

from router.core.types import Role
from sim.engine import EngineConfig, KvLoadFailurePolicy, Policy, load_profile, profile_names
from sim.kv_options import kv_options, make_kv_transfer
from sim.replica.kv_messages import EventForm
from sim.replica.replica import Replica
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings

_PORT = click.IntRange(0, 65_535)
_POSITIVE = click.IntRange(min=1)
_COUNT = click.IntRange(0, 1024)
_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


@click.command("sim-replicas")
@click.option("--count", type=_COUNT, help="Replicas for either leg; default: 4, or 0 with --prefill or --decode.")
@click.option("--prefill", type=_COUNT, default=0, help="Replicas for prefill legs.")
@click.option("--decode", type=_COUNT, default=0, help="Replicas for decode legs.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=_PORT, default=8101, show_default=True, help="Of the first; the others follow.")
@click.option("--kv-events-port", type=_PORT, default=5557, show_default=True, help="Of the first replica's events.")
@click.option("--kv-replay-port", type=_PORT, default=6557, show_default=True, help="Of the first replica's replay.")
@click.option("--kv-events/--no-kv-events", default=True, show_default=True, help="Whether they publish KV events.")
@click.option("--event-form", type=click.Choice(EventForm, case_sensitive=False),
              default=EventForm.MAP, show_default=True, help="Map since vLLM 0.24, array before.")  # fmt: skip
@click.option("--buffer-steps", type=_POSITIVE, default=10_000, show_default=True, help="Batches that can be replayed.")
@click.option("--profile", default="llama-3.1-8b-1xh100", show_default=True,
              help=f"Size and speed: a YAML file or one of {', '.join(profile_names())}.")  # fmt: skip
@click.option("--served-model-name", help="Default: the profile's.")
@click.option("--speed", type=_ABOVE_ZERO, default=1.0, show_default=True,
              help="Twice as fast with 2.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the words and lengths of answers.")
@click.option("--block-size", "block_size_tokens", type=_POSITIVE, help="Tokens; default: the profile's, as below.")
@click.option("--num-blocks", type=_POSITIVE, help="KV blocks, one of which is the null block.")
@click.option("--max-num-seqs", type=_POSITIVE)
@click.option("--max-num-batched-tokens", type=_POSITIVE)
@click.option("--max-model-len", "max_model_len_tokens", type=_POSITIVE,
              help="Lowered to what fits in --num-blocks.")  # fmt: skip
@click.option("--scheduling-policy", "policy", type=click.Choice(Policy, case_sensitive=False), help="Default: fcfs.")
@kv_options
def command(
    count: int | None,
    prefill: int,
    decode: int,
    host: str,
    port: int,
    kv_events_port: int,
    kv_replay_port: int,
    kv_events: bool,
    event_form: EventForm,
    buffer_steps: int,
    profile: str,
    served_model_name: str | None,
    speed: float,
    seed: int,
    kv_transfer: bool,
    kv_gbps: float,
    kv_latency_ms: float,
    kv_bytes_per_token: int | None,
    side_channel_host: str | None,
    side_channel_port: int,
    kv_storage: Path | None,
    **engine: int | float | Policy | KvLoadFailurePolicy | None,
) -> None:
    """Serve simulated vLLM replicas, each on its own port, until interrupted.

    They speak vLLM's protocols and schedule as vLLM does, but compute nothing: the profile says how long a step takes.
    """
    if count is None:
        count = 0 if prefill or decode else 4
    if not count + prefill + decode:
        raise click.UsageError("--count, --prefill and --decode are all 0")
    try:
        loaded = load_profile(profile)
        transfer = None
        if kv_transfer or prefill or decode or kv_storage is not None:
            transfer = make_kv_transfer(
                loaded,
                gbps=kv_gbps,
                latency_ms=kv_latency_ms,
                bytes_per_token=kv_bytes_per_token,
                host=side_channel_host or host,
                port=side_channel_port,
                storage=kv_storage,
            )
        settings = Settings(
            engine=_adjusted(loaded.engine, engine),
            model=served_model_name or loaded.model,
            host=host,
            port=port,
            kv_events_port=kv_events_port if kv_events else None,
            kv_replay_port=kv_replay_port,
            speed=speed,
            seed=seed,
            buffer_steps=buffer_steps,
            event_form=event_form,
            kv_transfer=transfer,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        uvloop.run(_serve(settings, count, prefill, decode))
    except OSError as error:
        raise click.ClickException(str(error)) from error


def _adjusted(
    config: EngineConfig, options: dict[str, int | float | Policy | KvLoadFailurePolicy | None]
) -> EngineConfig:
    """The profile's configuration with what the command line says otherwise."""
    given = {name: value for name, value in options.items() if value is not None}
    values = {each.name: getattr(config, each.name) for each in fields(config)} | given
    fitting_tokens = (values["num_blocks"] - 1) * values["block_size_tokens"]
    values["max_model_len_tokens"] = min(values["max_model_len_tokens"], fitting_tokens)
    return EngineConfig(**values)


async def _serve(settings: Settings, count: int, prefill: int, decode: int) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with serve_replicas(count, settings, prefill=prefill, decode=decode) as replicas:
        for replica in replicas:
            click.echo(_line(replica))
        await stopping.wait()


def _line(replica: Replica) -> str:
    """Begins with what ``weft serve --replica`` takes."""
    role = replica.settings.role
    address = replica.url if role is Role.BOTH else f"{replica.url},role={role}"
    where = f"{address}  {replica.settings.model}"
    if replica.kv_events_port is None:
        return where
    return f"{where}  KV events {replica.kv_events_port}, replay {replica.kv_replay_port}"
