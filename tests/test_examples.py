"""The examples run as they stand, against `weft serve` before a simulated replica, and their hints arrive.

An example whose SDK is not installed is skipped: the SDKs are no dependencies of Weft.
"""

import asyncio
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from router.app import App
from router.config import parse_config
from router.hints.reader import HintReader
from sim.engine import load_profile
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings

EXAMPLES = Path(__file__).parent.parent / "examples"

EXPECTED = {
    ("openai_sdk.py", "openai"): {
        ("trip-planner", "plan", (), "", 0),
        ("trip-planner", "search Lisbon", ("plan",), "answer", 3),
        ("trip-planner", "search Oslo", ("plan",), "answer", 3),
        ("trip-planner", "search Rome", ("plan",), "answer", 3),
        ("reviewer", "look", (), "", 0),
        ("reviewer", "shorten", ("look",), "", 0),
        ("trip-planner", "answer", ("search Lisbon", "search Oslo", "search Rome"), "", 0),
    },
    ("langgraph_nodes.py", "langgraph"): {
        ("buyer", "plan", (), "", 0),
        ("buyer", "search price", ("plan",), "merge", 3),
        ("buyer", "search quality", ("plan",), "merge", 3),
        ("buyer", "search delivery", ("plan",), "merge", 3),
        ("buyer", "merge", ("search delivery", "search price", "search quality"), "", 0),
    },
    ("openai_agents.py", "agents"): {
        ("holiday", "plan", (), "", 0),
        ("scout", "", (), "", 0),
        ("holiday", "write", ("plan",), "", 0),
    },
}
"""By example and what it imports: class, step, what it follows, join and width of each kind of call."""


@pytest.fixture
def hints(monkeypatch):
    """What arrives, as it arrives."""
    read, arrived = HintReader.read, []

    def noted(self, headers, body=None):
        found = read(self, headers, body)
        arrived.append(found.program)
        assert not self.warnings
        return found

    monkeypatch.setattr(HintReader, "read", noted)
    return arrived


@pytest.mark.parametrize(("example", "sdk"), list(EXPECTED))
async def test_an_example_runs_and_its_hints_arrive(example, sdk, hints):
    if find_spec(sdk) is None:
        pytest.skip(f"{sdk} is not installed")
    settings = Settings(engine=load_profile("laptop-demo").engine, model="m", speed=50.0)
    async with serve_replicas(1, settings) as replicas:
        config = {"listen": "127.0.0.1:0", "replicas": [each.url for each in replicas]}
        async with App(parse_config(config | {"models": {"*": {"tokenizer": "text"}}}, "test")) as app:
            await asyncio.to_thread(run_example, example, f"http://127.0.0.1:{app.listener.port}/v1")
    calls = {(hint.kind, hint.step, tuple(sorted(hint.after)), hint.join, hint.width) for hint in hints}
    assert calls == EXPECTED[example, sdk]
    started = {hint.id for hint in hints if not hint.parent}
    assert len(started) == 1
    assert {hint.parent for hint in hints} <= started | {""}
    assert [hint.id for hint in hints if hint.final][-1] in started


def run_example(name, url):
    environment = os.environ | {"OPENAI_BASE_URL": url, "MODEL": "m", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, EXAMPLES / name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
