"""Replicas' addresses as Envoy wants them: names become IP addresses, and are looked up again now and then."""

import pytest
from extproc_rig import Pod, serving, until

from router.core.types import ReplicaSpec
from router.errors import ApiError
from router.extproc.addresses import REFRESH_S, Addresses
from router.extproc.names import endpoint_of, host_of


@pytest.fixture
def clock():
    return [0.0]


def spec(url):
    return ReplicaSpec(url.partition("//")[2], url)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://10.0.0.1:8000", "10.0.0.1:8000"),
        ("http://10.0.0.1", "10.0.0.1:80"),
        ("https://10.0.0.1/base", "10.0.0.1:443"),
        ("http://[fd00::1]:8000", "[fd00::1]:8000"),
    ],
)
async def test_an_ip_address_is_known_at_once(url, address):
    assert Addresses(lambda: 0.0).known(spec(url)) == address


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [("10.0.0.1:8000", "10.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("[fd00::1]:80", "fd00::1"), ("fd00::1", "fd00::1")],
)
def test_the_ip_of_an_endpoint(endpoint, host):
    assert host_of(endpoint) == host
    assert host_of(endpoint_of(host, 80)) == host


async def test_a_name_is_looked_up_once_and_ipv4_preferred():
    async with serving(Pod(url="http://localhost:1234")) as gateway:
        assert {(await gateway.post()).endpoint for _ in range(3)} == {"127.0.0.1:1234"}


async def test_a_name_is_looked_up_again_in_the_background(clock):
    addresses = Addresses(lambda: clock[0])
    replica = spec("http://localhost:80")
    assert await addresses.find(replica) == "127.0.0.1:80"
    assert addresses.known(replica) == "127.0.0.1:80"
    clock[0] += REFRESH_S + 1
    assert addresses.known(replica) == "127.0.0.1:80"
    assert len(addresses._lookups) == 1
    await until(lambda: not addresses._lookups)
    assert addresses.known(replica) == "127.0.0.1:80"
    addresses.close()


async def test_a_name_that_says_nothing_is_an_error_each_time(caplog):
    addresses = Addresses(lambda: 0.0)
    for _ in range(2):
        with pytest.raises(ApiError) as error:
            await addresses.find(spec("http://no-such-host.invalid"))
        assert error.value.status == 503
    assert addresses.known(spec("http://no-such-host.invalid")) is None
