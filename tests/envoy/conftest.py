"""One Envoy for all tests of this room; where none is installed they are skipped."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import uvloop
from envoy_rig import Envoy

from router.envoy.process import EnvoyMissingError, find_envoy


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def envoy_binary():
    try:
        return find_envoy()
    except EnvoyMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def envoy(envoy_binary):
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="weft-test-") as directory:
        running = Envoy(Path(directory))
        yield running
        running.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key) of ``localhost``, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    directory = tmp_path_factory.mktemp("tls")
    paths = directory / "certificate.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return paths
