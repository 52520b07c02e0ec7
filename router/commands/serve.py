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
from router.config import WeftConfig

logger = logging.getLogger("weft")


@click.command("serve")
@serve_options
def command(
    config_file: Path | None,
    listen: str | None,
    replicas: tuple[str, ...],
    tokenizer: str | None,
    profile: str | None,
) -> None:
    """Route OpenAI traffic to vLLM replicas.

    Without a file: weft serve --replica http://a:8000 --replica http://b:8000
    """
    config = configured(config_file, listen, replicas, tokenizer, profile)
    _raise_descriptor_limit()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvloop.run(serve(config))


async def serve(config: WeftConfig) -> None:
    """Runs until SIGTERM or SIGINT, then drains. Raises ConfigError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with App(config):
        gc.collect()
        # What start-up made lives for ever; looking at it again and again would stop traffic for tens of ms.
        gc.freeze()
        logger.info("weft listens on %s", config.listen)
        await stop.wait()
        logger.info("draining: running answers may take %g s to end", config.limits.drain_s)


def _raise_descriptor_limit() -> None:
    """Each client takes a file descriptor, each replica several: use as many as the system allows."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
