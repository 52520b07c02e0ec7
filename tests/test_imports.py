"""The import rule: cli, app -> proxy, extproc, admin, engine, sim -> core <- scorers, flow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PURE = {"numpy", "numba", "msgspec", "xxhash"}
"""Libraries that neither wait nor read a clock."""

FORBIDDEN_IN_CORE = {"asyncio", "threading", "time", "socket", "logging", "os", "pathlib", "datetime", "selectors"}

COMPILES = {"router.core.index.jit": {"pathlib"}}
"""Looks after the kernels' cache on disk when it is imported, never later."""

ALLOWED = {
    "router.core": {"router.core"},
    "scorers": {"router.core", "scorers"},
    "flow": {"router.core", "flow"},
    "router.engine": {"router.core", "router.engine", "router.errors"},
    "router.hints": {"router.core", "router.engine.api", "router.hints"},
    "router.proxy": {"router.core", "router.proxy", "router.engine.kv_transfer", "router.errors"},
    "router.extproc": {
        "router.core",
        "router.dispatcher",
        "router.engine.kv_transfer",
        "router.errors",
        "router.extproc",
        "router.families",
        "router.intake",
        "router.proxy.headers",
        "router.proxy.listener",
        "router.proxy.origin",
        "router.proxy.priorities",
        "router.proxy.request_ids",
    },
    "router.admin": {
        "router.core",
        "router.proxy",
        "router.engine",
        "router.hints",
        "router.admin",
        "router.errors",
        "router.telemetry",
    },
    "sim": {"router.core", "router.engine.prompts", "router.engine.api", "router.errors", "sim"},
}

APPLICATIONS = {"sim.demo", "sim.cli", "sim.policies", "sim.bench", "sim.calibrate"}
"""Commands: they start the router from outside and may import all of it."""


def modules():
    for package in ("router", "scorers", "flow", "sim"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


def within(name, rooms):
    return any(name == room or name.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_one_way(module, path):
    room = next((room for room in ALLOWED if within(module, [room])), None)
    if room is None or within(module, APPLICATIONS):
        return
    ours = [name for name in imported(path) if within(name, ["router", "scorers", "flow", "sim"])]
    strays = [name for name in ours if not within(name, ALLOWED[room])]
    assert not strays, f"{module} may import {sorted(ALLOWED[room])}, not {strays}"


@pytest.mark.parametrize(
    ("module", "path"),
    [(module, path) for module, path in modules() if within(module, ["router.core"])],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_core_waits_for_nothing(module, path):
    third_party = [name.split(".")[0] for name in imported(path) if not within(name, ["router"])]
    assert not (FORBIDDEN_IN_CORE - COMPILES.get(module, set())).intersection(third_party)
    installed = {"aiohttp", "zmq", "uvloop", "httptools", "grpc", "prometheus_client", "pydantic", "yaml", "click"}
    assert not installed.intersection(third_party)
