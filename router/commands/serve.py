"""`weft serve`: the router."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
from pathlib import Path

import click
import uvloop

from router.app import App
from router.commands.options import configured, serve_options
from router.commands.with_envoy import DEFAULT_ADDRESS, Front, behind_envoy, envoy_at, installed_envoy, nothing
from router.config import WeftConfig
from router.envoy.front import workplace

logger = logging.getLogger("weft")


@click.command("serve")
@serve_options
@click.option("--extproc", metavar="HOST:PORT", help="Where an Envoy asks for replicas (gRPC: ext-proc, access log).")
@click.option("--envoy", metavar="[IP:PORT]", is_flag=False, flag_value=DEFAULT_ADDRESS,
              help=f"Run an Envoy in front, for clients to come to.  [without a value: {DEFAULT_ADDRESS}]")  # fmt: skip
def command(
    config_file: Path | None,
    listen: str | None,
    replicas: tuple[str, ...],
    tokenizer: str | None,
    profile: str | None,
    pods: tuple[str, ...],
    pools: tuple[str, ...],
    programs: bool,
    extproc: str | None,
    envoy: str | None,
) -> None:
    """Route OpenAI traffic to vLLM replicas.

    Without a file: weft serve --replica http://a:8000 --replica http://b:8000
    """
    config = configured(config_file, listen, replicas, tokenizer, profile, pods, pools, programs)
    if extproc:
        config = config.model_copy(update={"extproc": config.extproc.model_copy(update={"listen": extproc})})
    _raise_descriptor_limit()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if envoy is None:
        uvloop.run(serve(config))
        return
    binary = installed_envoy()
    with workplace() as place:
        config = behind_envoy(config, place)
        uvloop.run(serve(config, envoy_at(envoy, binary, place, config)))


async def serve(config: WeftConfig, front: Front = nothing) -> None:
    """Runs until SIGTERM or SIGINT, or until what stands in front has gone; then drains. Raises ConfigError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with App(config) as app, front(app) as gone:
        gc.collect()
        # What start-up made lives for ever; looking at it again and again would stop traffic for tens of ms.
        gc.freeze()
        logger.info("weft listens on %s", config.listen)
        if config.extproc.listen:
            logger.info("ext-proc listens on %s", config.extproc.listen)
        await _either(stop, gone)
        logger.info("draining: running answers may take %g s to end", config.limits.drain_s)


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()


def _raise_descriptor_limit() -> None:
    """Each client takes a file descriptor, each replica several: use as many as the system allows."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
