"""The data plane runs on uvloop in production, so its tests do as well."""

import uvloop


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}
