"""The server runs on uvloop in production, so its tests do as well; all on one loop, which is what gRPC is made for.

What is under way when a loop ends reaches gRPC's poller later, and disturbs whoever uses gRPC on the next.
"""

import inspect
from pathlib import Path

import pytest
import uvloop

from router.extproc import server

HERE = Path(__file__).parent


@pytest.fixture(autouse=True, scope="session")
def no_stepping_back():
    """The gateways of these tests are in the same process, and a busy machine would keep them waiting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "step_back", lambda: None)
        yield


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
