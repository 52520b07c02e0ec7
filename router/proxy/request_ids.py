"""Ids for requests that come without one, or with one that cannot be kept."""

from __future__ import annotations

import itertools
import os

MAX_REQUEST_ID_BYTES = 256


class RequestIds:
    """Never the same twice, in this process or another."""

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex().encode()
        self._count = itertools.count()

    def fresh(self) -> bytes:
        return b"%s-%x" % (self._prefix, next(self._count))
