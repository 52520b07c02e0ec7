"""Two real vLLM replicas, the trace's sessions, and a place for the figures that the tests find."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import uvloop
from real_traces import TRACE, Turn, read_sessions
from replicas import Replica, is_prepared, model_directory, running
from tokenizers import Tokenizer
from weft_process import Weft

MAX_MODEL_LEN_TOKENS = 16384
MAX_ANSWER_TOKENS = 64
BLOCKS = 1600
"""Room for three of the longer conversations on each replica: a dozen of them cause evictions."""

_figures: list[tuple[str, str]] = []

WeftMaker = Callable[..., Weft]


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


def pytest_terminal_summary(terminalreporter):
    if _figures:
        terminalreporter.section("figures")
        for test, text in _figures:
            terminalreporter.write_line(f"{test:48} {text}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keeps a figure for the end of the run."""

    def keep(text: str) -> None:
        _figures.append((request.node.name, text))

    return keep


@pytest.fixture(scope="session", autouse=True)
def prepared() -> None:
    if not is_prepared():
        pytest.skip("vLLM is not installed here; run `make prepare-real` first")


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def replicas(prepared: None, logs: Path) -> Iterator[list[Replica]]:
    """Two replicas of the tiny model, up for the whole run."""
    yield from running([Replica("tiny", BLOCKS, MAX_MODEL_LEN_TOKENS, logs / f"tiny-{n}.log") for n in range(2)])


@pytest.fixture
def empty_replicas(replicas: list[Replica]) -> list[Replica]:
    for replica in replicas:
        replica.empty_cache()
    return replicas


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(model_directory("tiny") / "tokenizer.json"))


@pytest.fixture(scope="session")
def sessions(tokenizer: Tokenizer) -> list[list[Turn]]:
    """The trace, cut to what the model can read."""
    if not TRACE.is_file():
        pytest.skip(f"the trace {TRACE.name} is not here; name its place in WEFT_TRACE")
    return read_sessions(TRACE, tokenizer, MAX_MODEL_LEN_TOKENS - MAX_ANSWER_TOKENS)


@pytest.fixture
def weft(logs: Path, request: pytest.FixtureRequest) -> WeftMaker:
    """``with weft(replicas, "--option", config={...}) as router:``"""

    def make(replicas: list[Replica], *options: str, config: dict[str, object] | None = None) -> Weft:
        return Weft(replicas, logs / f"{request.node.name}.log", *options, config=config)

    return make


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as session:
        yield session
