"""A real kube-apiserver on a real etcd, for as long as a test needs it. No kubelet, no controllers: pods stay as told.

``KUBEBUILDER_ASSETS`` names the directory with both programs, as it does for envtest.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ASSETS = Path(os.environ.get("KUBEBUILDER_ASSETS", "/usr/local/kubebuilder/bin"))
PROGRAMS = ("etcd", "kube-apiserver")
ADMIN_TOKEN = "admin-token"
WEFT_TOKEN = "weft-token"


def available() -> bool:
    return all((ASSETS / program).exists() for program in PROGRAMS)


@dataclass
class RealServer:
    """``call`` speaks as the administrator; ``weft_token`` is of a user without any rights."""

    url: str
    ca_file: Path
    weft_token: Path
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": kind}
        async with self.session.request(method, self.url + path, json=body, headers=headers, ssl=False) as answer:
            said = await answer.json(content_type=None)
            assert answer.status < 300, said
            return said


@asynccontextmanager
async def real_api_server(directory: Path) -> AsyncIterator[RealServer]:
    client, peer, secure = _free_ports(3)
    etcd_url = f"http://127.0.0.1:{client}"
    token = directory / "token"
    token.write_text(WEFT_TOKEN)
    (directory / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,1,"system:masters"\n{WEFT_TOKEN},weft,2\n')
    key = _account_key(directory)
    etcd = _start(
        directory / "etcd.log",
        *("etcd", "--unsafe-no-fsync", f"--data-dir={directory / 'etcd'}"),
        *(f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}"),
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
    )
    server = _start(
        directory / "kube-apiserver.log",
        *("kube-apiserver", f"--etcd-servers={etcd_url}", "--bind-address=127.0.0.1", f"--secure-port={secure}"),
        *(f"--cert-dir={directory / 'certificates'}", f"--token-auth-file={directory / 'tokens.csv'}"),
        *(
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
        ),
        *("--service-account-issuer=https://test", "--api-audiences=test"),
        *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
    )
    try:
        async with aiohttp.ClientSession() as session:
            ca_file = directory / "certificates" / "apiserver.crt"
            real = RealServer(f"https://127.0.0.1:{secure}", ca_file, token, session)
            await _until_ready(real, server)
            yield real
    finally:
        for process in (server, etcd):
            process.kill()  # asked nicely, the server waits a minute for its watches to end
        for process in (server, etcd):
            process.wait()


def _account_key(directory: Path) -> Path:
    """What tokens of service accounts are signed with; the server does not start without."""
    key = directory / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    return key


def _start(log: Path, program: str, *arguments: str) -> subprocess.Popen[bytes]:
    with open(log, "wb") as file:
        return subprocess.Popen([str(ASSETS / program), *arguments], stdout=file, stderr=file)


async def _until_ready(real: RealServer, server: subprocess.Popen[bytes]) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with asyncio.timeout(60):
        while server.poll() is None:
            try:
                async with real.session.get(f"{real.url}/readyz", headers=headers, ssl=False) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError(f"kube-apiserver ended: {real.ca_file.parent.parent / 'kube-apiserver.log'}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
