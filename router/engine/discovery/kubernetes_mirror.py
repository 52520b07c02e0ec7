"""A copy of a collection of Kubernetes objects, kept true by a list and the watch that continues it.

No sockets here: the body of a list and the chunks of a watch go in, ``objects`` is what the API server said last.

    version ""  --list-->  version v  --watch from v-->  v', v'', ...  --ERROR (410 Gone and others)-->  version ""

A watch that merely ends, wherever in a line, is continued from ``version``. What is known stays until a new list
replaces it.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import msgspec

GONE = 410


class Meta(msgspec.Struct, rename="camel"):
    """What Weft reads of an object's ``metadata``."""

    name: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Named(Protocol):
    @property
    def metadata(self) -> Meta: ...


T = TypeVar("T", bound=Named)


class WatchError(Exception):
    """The watch cannot be continued: list again. The message says why."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        """As HTTP has it; 0: the server said none."""


class Status(msgspec.Struct):
    """How the API server says what is wrong."""

    message: str = ""
    code: int = 0


class _Listing(msgspec.Struct):
    metadata: Meta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: Meta


class Mirror(Generic[T]):
    """``objects`` by name, all in one namespace. ``known``: whether they have ever been listed."""

    def __init__(self, kind: type[T]) -> None:
        self.objects: dict[str, T] = {}
        self.version = ""
        """Where to continue watching; empty: list first."""
        self.known = False
        self._decoder = msgspec.json.Decoder(kind)
        self._rest = b""

    def listed(self, body: bytes) -> None:
        """The whole collection. Raises WatchError when the body is not one."""
        try:
            listing = msgspec.json.decode(body, type=_Listing)
            found = [self._decoder.decode(item) for item in listing.items or ()]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WatchError(f"not a list of objects: {error}") from error
        self.objects = {each.metadata.name: each for each in found}
        self.version = listing.metadata.resource_version
        self.known = True
        self._rest = b""

    def forget_version(self) -> None:
        """It is too old for the server."""
        self.version = ""

    def cut(self) -> None:
        """The watch's connection has ended: half a line is none."""
        self._rest = b""

    def feed(self, chunk: bytes) -> bool:
        """The next bytes of a watch; whether an object came, changed or went. Raises WatchError."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        changed = False
        try:
            for line in lines:
                changed |= bool(line.strip()) and self._apply(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.version = ""
            raise WatchError(f"not an event of a watch: {error}") from error
        return changed

    def _apply(self, line: bytes) -> bool:
        event = msgspec.json.decode(line, type=_Event)
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=Status)
            self.version = ""
            raise WatchError(status.message or "the server ended the watch with an error", status.code)
        if event.type == "BOOKMARK":
            self.version = msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
            return False
        found = self._decoder.decode(event.object)
        if event.type == "DELETED":
            self.objects.pop(found.metadata.name, None)
        else:
            self.objects[found.metadata.name] = found
        self.version = found.metadata.resource_version
        return True
