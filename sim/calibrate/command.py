"""``weft sim calibrate``: fits an engine profile to a live vLLM replica."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import click
import uvloop

from sim.calibrate.calibrate import Calibration, calibrate
from sim.calibrate.errors import CalibrationError
from sim.calibrate.profile_file import profile_yaml
from sim.calibrate.table import table
from sim.engine import EngineConfig, load_profile, profile_names

KEEP_ALIVE_S = 2.0
"""vLLM closes a connection that was idle for 5 s. One that it is just closing is not to be used."""


def _server(ctx: click.Context, param: click.Parameter, url: str) -> str:
    """Without the slash at the end, and without the /v1 that clients' base URLs have."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"{url!r} is not like http://host:8000")
    return url.rstrip("/").removesuffix("/v1")


@click.command("calibrate")
@click.argument("url", callback=_server)
@click.option("--out", type=click.Path(dir_okay=False, writable=True, path_type=Path),
              help="Where the profile goes; default: standard output.")  # fmt: skip
@click.option("--model", help="Of those that the server serves; default: the first.")
@click.option("--api-key", envvar="VLLM_API_KEY", help="Sent as a bearer token; also from VLLM_API_KEY.")
@click.option("--base", default="llama-3.1-8b-1xh100", show_default=True,
              help=f"For what cannot be learned: a YAML file or one of {', '.join(profile_names())}.")  # fmt: skip
@click.option("--seed", type=int, default=None, help="Of the prompts' tokens; default: new ones each time.")
def command(url: str, out: Path | None, model: str | None, api_key: str | None, base: str, seed: int | None) -> None:
    """Fit an engine profile to the vLLM replica at URL.

    Sends it a hundred requests or so, cold and cached, alone and at once, and fits the engine model's step times to the
    answers. Use an idle replica. The profile is for --profile of weft sim-replicas and weft bench.
    """
    try:
        engine = load_profile(base).engine
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--base") from error
    if out is not None and not out.absolute().parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no directory", param_hint="--out")
    try:
        found = uvloop.run(_calibrate(url, engine, model, api_key, seed))
        click.echo(f"\n{table(found)}\n", err=True)
        for warning in found.warnings:
            click.echo(f"warning: {warning}", err=True)
        if out is None:
            click.echo(profile_yaml(found), nl=False)
        else:
            out.write_text(profile_yaml(found), encoding="utf-8")
            click.echo(f"wrote {out}", err=True)
    except (CalibrationError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def _calibrate(
    url: str, base: EngineConfig, model: str | None, api_key: str | None, seed: int | None
) -> Calibration:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        return await calibrate(session, url, base, model=model, seed=seed, say=lambda text: click.echo(text, err=True))
