"""Talks to the Kubernetes API server: one list, one watch, and what is wrong when it refuses.

Inside a cluster the server, its CA and Weft's own token come from where every pod finds them. The token is read for
each request and the CA for each connection, since both are replaced while Weft runs.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from router.engine.discovery.kubernetes_mirror import Status

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the credentials of its service account."""

CONNECT_S = 5.0
LIST_S = 30.0
WATCH_S = 60
"""The server ends a watch after this, at no cost: the next continues it. One that it does not end is dead."""
OVERTIME_S = 10.0


class ClusterError(Exception):
    """Weft is not told where the API server is. The message begins with the key."""


class ApiError(Exception):
    """The API server refuses, or cannot be reached. The message says what to do."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        """The answer's status; 0: there was none."""


@dataclass(slots=True, frozen=True)
class Cluster:
    """An API server and how to be let in."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None


@dataclass(slots=True, frozen=True)
class Collection:
    """Objects of one kind in one namespace."""

    plural: str
    namespace: str
    group: str = ""
    version: str = "v1"
    labels: str = ""
    name: str = ""
    """Only the object of this name; empty: all."""

    @property
    def path(self) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{self.namespace}/{self.plural}"

    @property
    def query(self) -> dict[str, str]:
        query = {"labelSelector": self.labels, "fieldSelector": f"metadata.name={self.name}" if self.name else ""}
        return {key: value for key, value in query.items() if value}

    def __str__(self) -> str:
        return f"{self.plural}{f'.{self.group}' if self.group else ''} in namespace {self.namespace}"


def this_cluster(environment: Mapping[str, str], account: Path = ACCOUNT) -> Cluster:
    """The cluster that Weft runs in. Raises ClusterError."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ClusterError("api: Weft does not run in a cluster; name the API server, e.g. what `kubectl proxy` prints")
    authority = f"[{host}]" if ":" in host else host
    return Cluster(f"https://{authority}:{port}", account / "token", account / "ca.crt")


def own_namespace(account: Path = ACCOUNT) -> str:
    """The namespace that Weft runs in. Raises ClusterError."""
    try:
        return (account / "namespace").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"namespace: Weft does not run in a cluster, so it must be named ({error})") from error


class KubernetesApi:
    """``async with api.connected() as connection`` for some requests one after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Raises ApiError, also when the CA cannot be read."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls())) as session:
            yield Connection(session, self.cluster)

    def _tls(self) -> ssl.SSLContext | bool:
        if self.cluster.ca_file is None:
            return True
        try:
            context = ssl.create_default_context(cafile=self.cluster.ca_file)
        except OSError as error:  # also ssl.SSLError
            raise ApiError(f"ca_file: {self.cluster.ca_file}: {error}") from error
        # Python 3.13 asks for more than the CAs of many clusters have (an authority key identifier).
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


class Connection:
    """Raises ApiError whatever goes wrong."""

    def __init__(self, session: aiohttp.ClientSession, cluster: Cluster) -> None:
        self._session = session
        self._cluster = cluster

    async def list(self, collection: Collection) -> bytes:
        async with self._get(collection, {}, LIST_S) as response:
            return await response.read()

    async def watch(self, collection: Collection, version: str) -> AsyncGenerator[bytes, None]:
        """Chunks as they come, until the server ends the watch."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        async with self._get(collection, query, WATCH_S + OVERTIME_S) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    @asynccontextmanager
    async def _get(
        self, collection: Collection, query: dict[str, str], timeout_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        try:
            async with self._session.get(
                self._cluster.url + collection.path,
                params=collection.query | query,
                headers=self._headers(),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise ApiError(self._refusal(collection, response.status, await response.read()), response.status)
                yield response
        except TimeoutError as error:
            raise ApiError(f"{self._cluster.url} does not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ApiError(f"{self._cluster.url}: {error or type(error).__name__}") from error

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "weft"}
        if self._cluster.token_file is not None:
            try:
                token = self._cluster.token_file.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ApiError(f"token_file: {self._cluster.token_file}: {error}") from error
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _refusal(self, collection: Collection, status: int, body: bytes) -> str:
        message = _message(body)
        if status == 401:
            hint = "is the token of Weft's service account mounted, or named by token_file?"
        elif status == 403:
            hint = f"Weft's service account needs a Role with the verbs list and watch on {collection}"
        elif status == 404 and collection.group:
            hint = f"{collection.group}/{collection.version} is not installed here; see pool_group for the other group"
        else:
            hint = ""
        said = f"{self._cluster.url} answers {status} for {collection}"
        return "; ".join(part for part in (f"{said}: {message}" if message else said, hint) if part)


def _message(body: bytes) -> str:
    """What the server says, which is a Status if it comes from itself, and anything if from something before it."""
    try:
        return msgspec.json.decode(body, type=Status).message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return body[:200].decode(errors="replace").strip()
