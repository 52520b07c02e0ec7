"""`weft envoy-config`: the configuration of an Envoy that asks Weft where requests go."""

from __future__ import annotations

from pathlib import Path

import click

from router.app import static_addresses
from router.commands.options import configured
from router.config import ConfigError, WeftConfig
from router.envoy.bootstrap import to_yaml
from router.envoy.settings import BodyMode, EnvoySettings, Fleet, Tls

DEFAULT_LISTEN = "0.0.0.0:8080"
DEFAULT_EXTPROC = "127.0.0.1:9002"


@click.command("envoy-config")
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Weft's configuration file.")
@click.option("--listen", default=DEFAULT_LISTEN, show_default=True, metavar="IP:PORT", help="Where clients come.")
@click.option(
    "--extproc", metavar="HOST:PORT", help=f"Weft's gRPC server.  [default: the file's, or {DEFAULT_EXTPROC}]"
)
@click.option("--weft", default="", metavar="HOST:PORT",
              help="Weft's HTTP server, for /metrics, /v1/models, /v1/programs and the like.")  # fmt: skip
@click.option("--admin", default="", metavar="IP:PORT", help="Envoy's admin interface; none without this.")
@click.option("--replica", "replicas", multiple=True, metavar="URL",
              help="A vLLM server that Envoy knows: it tries another where one fails. Repeatable.")  # fmt: skip
@click.option("--original-dst", is_flag=True, help="Envoy knows no replica, and goes where Weft says.")
@click.option("--fail-open", is_flag=True,
              help="Without Weft, take the known replica with the fewest requests; else: 503.")  # fmt: skip
@click.option("--body", type=click.Choice([each.value for each in BodyMode]), default=BodyMode.BUFFERED.value,
              show_default=True, help="How Weft gets bodies.")  # fmt: skip
@click.option("--access-log/--no-access-log", default=True, show_default=True,
              help="Whether Weft is told how requests end.")  # fmt: skip
@click.option("--tls-cert", default="", metavar="FILE", help="Serve TLS with this certificate.")
@click.option("--tls-key", default="", metavar="FILE")
@click.option("--tls-client-ca", default="", metavar="FILE", help="Let in only clients with a certificate of these.")
@click.option("--extproc-tls", is_flag=True, help="Speak TLS with Weft's gRPC server.")
@click.option("--extproc-ca", default="", metavar="FILE", help="Who signs its certificate; not verified without.")
@click.option("--extproc-name", default="", metavar="NAME", help="Whom it is for.")
@click.option("--extproc-cert", default="", metavar="FILE", help="Envoy's own certificate, if Weft asks for one.")
@click.option("--extproc-key", default="", metavar="FILE")
def command(
    config_file: Path | None,
    listen: str,
    extproc: str | None,
    weft: str,
    admin: str,
    replicas: tuple[str, ...],
    original_dst: bool,
    fail_open: bool,
    body: str,
    access_log: bool,
    tls_cert: str,
    tls_key: str,
    tls_client_ca: str,
    extproc_tls: bool,
    extproc_ca: str,
    extproc_name: str,
    extproc_cert: str,
    extproc_key: str,
) -> None:
    """Print the configuration of an Envoy that asks Weft where requests go.

    With `weft serve --extproc 127.0.0.1:9002` at its side: weft envoy-config > envoy.yaml; envoy -c envoy.yaml

    Limits and times, and replicas that stand in it, are taken from Weft's configuration file.
    """
    config = configured(config_file, None, replicas, None, None)
    _check_pair("--tls-cert", tls_cert, "--tls-key", tls_key)
    _check_pair("--extproc-cert", extproc_cert, "--extproc-key", extproc_key)
    to_weft = Tls(extproc_cert, extproc_key, extproc_ca, extproc_name)
    settings = EnvoySettings(
        listen=listen,
        extproc=extproc or config.extproc.listen or DEFAULT_EXTPROC,
        weft=weft,
        admin=admin,
        fleet=Fleet() if original_dst else _fleet(config),
        fail_open=fail_open,
        body=BodyMode(body),
        access_log=access_log,
        listen_tls=Tls(tls_cert, tls_key, tls_client_ca) if tls_cert else None,
        extproc_tls=to_weft if extproc_tls or to_weft != Tls() else None,
        max_wait_s=config.queue.max_wait_s,
        limits=config.limits,
    )
    try:
        click.echo(_preface(settings) + to_yaml(settings), nl=False)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _fleet(config: WeftConfig) -> Fleet:
    """The replicas, if there are no others than those that are named. Raises ConfigError."""
    if config.replicas_file is not None or config.dns or config.kubernetes:
        return Fleet()
    urls = tuple(address.url for address in static_addresses(config))
    return Fleet(replicas=urls, secure=any(url.startswith("https:") for url in urls))


def _check_pair(first: str, certificate: str, second: str, key: str) -> None:
    if bool(certificate) != bool(key):
        raise ConfigError(f"{first} and {second} belong together")


def _preface(settings: EnvoySettings) -> str:
    """What the reader must know of Weft's side."""
    if settings.fleet.is_known:
        return (
            "# Envoy knows the replicas. Let Weft name more than one: `extproc: {fallbacks: 2}` in its configuration.\n"
        )
    return "# Envoy goes to whatever address Weft names.\n"
