"""``weft sim-replicas``: simulated vLLM replicas for trying out a router."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import fields

import click
import uvloop

from sim.engine import EngineConfig, Policy, load_profile, profile_names
from sim.replica.kv_messages import EventForm
from sim.replica.replica import Replica
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings

_PORT = click.IntRange(0, 65_535)
_POSITIVE = click.IntRange(min=1)


@click.command("sim-replicas")
@click.option("--count", type=click.IntRange(1, 1024), default=4, show_default=True, help="Number of replicas.")
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
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="Twice as fast with 2.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the words and lengths of answers.")
@click.option("--block-size", "block_size_tokens", type=_POSITIVE, help="Tokens; default: the profile's, as below.")
@click.option("--num-blocks", type=_POSITIVE, help="KV blocks, one of which is the null block.")
@click.option("--max-num-seqs", type=_POSITIVE)
@click.option("--max-num-batched-tokens", type=_POSITIVE)
@click.option("--max-model-len", "max_model_len_tokens", type=_POSITIVE,
              help="Lowered to what fits in --num-blocks.")  # fmt: skip
@click.option("--scheduling-policy", "policy", type=click.Choice(Policy, case_sensitive=False), help="Default: fcfs.")
def command(
    count: int,
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
    **engine: int | Policy | None,
) -> None:
    """Serve simulated vLLM replicas, each on its own port, until interrupted.

    They speak vLLM's protocols and schedule as vLLM does, but compute nothing: the profile says how long a step takes.
    """
    try:
        loaded = load_profile(profile)
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
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        uvloop.run(_serve(count, settings))
    except OSError as error:
        raise click.ClickException(str(error)) from error


def _adjusted(config: EngineConfig, options: dict[str, int | Policy | None]) -> EngineConfig:
    """The profile's configuration with what the command line says otherwise."""
    given = {name: value for name, value in options.items() if value is not None}
    values = {each.name: getattr(config, each.name) for each in fields(config)} | given
    fitting_tokens = (values["num_blocks"] - 1) * values["block_size_tokens"]
    values["max_model_len_tokens"] = min(values["max_model_len_tokens"], fitting_tokens)
    return EngineConfig(**values)


async def _serve(count: int, settings: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with serve_replicas(count, settings) as replicas:
        for replica in replicas:
            click.echo(_line(replica))
        await stopping.wait()


def _line(replica: Replica) -> str:
    where = f"{replica.url}  {replica.settings.model}"
    if replica.kv_events_port is None:
        return where
    return f"{where}  KV events {replica.kv_events_port}, replay {replica.kv_replay_port}"
