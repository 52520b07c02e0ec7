"""A router with replicas in it, for tests that tell it facts and read its decisions."""

from zlib import crc32

import numpy as np

from router.core.disaggregation.settings import Disaggregation
from router.core.index.batch import KvBatch
from router.core.index.hashing import chain_seed
from router.core.router import Router, RouterSettings
from router.core.types import Health, Prompt, ReplicaSpec, Request
from router.profiles import make_profiles

BLOCK = 16


def prompt(*parts, exact=True):
    """A prompt of named parts, e.g. ("system", 64), ("question", 32): equal names and sizes are equal tokens."""
    tokens = [np.random.default_rng(crc32(name.encode())).integers(0, 50_000, size) for name, size in parts]
    return Prompt(np.concatenate(tokens).astype(np.uint32), exact=exact)


class House:
    """A router with replicas r0, r1, ... that report KV events."""

    def __init__(self, replicas=2, profile="default", flow=None, programs=None, rule=None, disaggregation=None, **spec):
        """``rule``: of disaggregation, whose other settings are ``disaggregation``."""
        profiles = make_profiles({}, profile)
        pd = None if rule is None else Disaggregation(rule, profiles["prefill"], **(disaggregation or {}))
        self.router = Router(profiles, RouterSettings(), 1, flow, programs, pd)
        self.now = 100.0
        for number in range(replicas):
            self.add(f"r{number}", **spec)

    def add(self, name, **spec):
        spec = {"models": ("m",), "reports_events": True, "capacity_blocks": 1000, "block_size_tokens": BLOCK} | spec
        self.router.on_replica(ReplicaSpec(name=name, url=f"http://{name}", **spec), self.now)
        self.router.on_health(name, Health.HEALTHY, self.now)

    def request(self, content=None, **request):
        return Request(prompt=content, **{"id": "x", "model": "m", "streams": True} | request)

    def ask(self, content=None, **request):
        ticket = self.router.submit(self.request(content, **request), self.now)
        assert self.router.poll(self.now) == [ticket]
        return ticket

    def route(self, content=None, **request):
        """The name of the chosen replica."""
        return self.ask(content, **request).decision.replica.name

    def stored(self, name, content, first_hash=1000):
        """The replica tells that it holds all full blocks of a prompt."""
        blocks = len(content) // BLOCK
        hashes = np.arange(first_hash, first_hash + blocks, dtype=np.uint64)
        tokens = content.token_ids[: blocks * BLOCK]
        batch = KvBatch.stored(hashes, tokens, block_size_tokens=BLOCK, seed=chain_seed("m"))
        return self.router.on_kv_events(name, batch, self.now)
