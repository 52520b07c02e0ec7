"""A bounded table in which each tenant makes room for itself.

When it is full, the tenant that holds most gives up what it has not used for longest. So a tenant that floods the table
soon holds most and from then on pushes out only its own; whoever holds little keeps it. All in constant time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")

Key = tuple[str, str]
"""Tenant, and a name that is the tenant's own."""

_NO_KEYS: OrderedDict[Key, int] = OrderedDict()


class Holdings:
    """Which tenant holds most, within a factor of two: tenants are grouped by the power of two of their amount."""

    def __init__(self) -> None:
        self._amounts: dict[str, int] = {}
        self._groups: list[OrderedDict[str, None]] = [OrderedDict() for _ in range(64)]
        self.total = 0

    def add(self, tenant: str, amount: int) -> None:
        """``amount`` may be negative; a tenant that is left with nothing is forgotten."""
        before = self._amounts.get(tenant, 0)
        after = before + amount
        self.total += amount
        if after > 0:
            self._amounts[tenant] = after
        else:
            self._amounts.pop(tenant, None)
        bits_before, bits_after = before.bit_length(), after.bit_length()
        if bits_before != bits_after:
            self._groups[bits_before].pop(tenant, None)
            if after > 0:
                self._groups[bits_after][tenant] = None

    def largest(self, rather: str) -> str:
        """A tenant that holds most: ``rather`` if it is among them. Raises LookupError when nobody holds anything."""
        for bits in range(self.total.bit_length(), 0, -1):
            if group := self._groups[bits]:
                return rather if rather in group else next(iter(group))
        raise LookupError("nobody holds anything")


class FairTable(Generic[V]):
    """(tenant, name) -> value, bounded in entries and in bytes."""

    def __init__(self, max_entries: int, max_bytes: int | None = None) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._values: OrderedDict[Key, V] = OrderedDict()
        self._of_tenant: dict[str, OrderedDict[Key, int]] = {}
        """Each tenant's keys, least recently used first, with their bytes."""
        self._counts = Holdings()
        self._bytes = Holdings()

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[V]:
        """Least recently used first."""
        return iter(self._values.values())

    @property
    def bytes(self) -> int:
        return self._bytes.total

    def get(self, key: Key) -> V | None:
        return self._values.get(key)

    def of(self, tenant: str) -> Iterator[V]:
        """A tenant's values, most recently used first. To be read before anything changes."""
        return (self._values[key] for key in reversed(self._of_tenant.get(tenant, _NO_KEYS)))

    def oldest(self) -> V | None:
        """The value that was not used for longest."""
        return next(iter(self), None)

    def put(self, key: Key, value: V, size_bytes: int = 0) -> None:
        """Enters a key that is not in the table, as the one used last. It may be too full then: see `surplus`."""
        self._values[key] = value
        sizes = self._of_tenant.get(key[0])
        if sizes is None:
            sizes = self._of_tenant[key[0]] = OrderedDict()
        sizes[key] = size_bytes
        self._counts.add(key[0], 1)
        self._bytes.add(key[0], size_bytes)

    def use(self, key: Key) -> None:
        """The key is the one used last. Raises KeyError when it is not there."""
        self._values.move_to_end(key)
        self._of_tenant[key[0]].move_to_end(key)

    def resize(self, key: Key, size_bytes: int) -> None:
        """The value of a key has grown or shrunk. Raises KeyError when it is not there."""
        sizes = self._of_tenant[key[0]]
        grown = size_bytes - sizes[key]
        if grown:
            sizes[key] = size_bytes
            self._bytes.add(key[0], grown)

    def pop(self, key: Key) -> V:
        """Raises KeyError when the key is not there."""
        value = self._values.pop(key)
        sizes = self._of_tenant[key[0]]
        self._bytes.add(key[0], -sizes.pop(key))
        self._counts.add(key[0], -1)
        if not sizes:
            del self._of_tenant[key[0]]
        return value

    def surplus(self, rather: str) -> Key | None:
        """What must go: the least recently used of the tenant that holds most; of tenant ``rather`` if that holds as
        much. None: the table is within its bounds, or has a single entry."""
        if len(self._values) <= 1:
            return None
        if len(self._values) > self._max_entries:
            holdings = self._counts
        elif self._max_bytes is not None and self._bytes.total > self._max_bytes:
            holdings = self._bytes
        else:
            return None
        return next(iter(self._of_tenant[holdings.largest(rather)]))
