"""Naming replicas: by flag, by file, by DNS."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import dns.flags
import dns.message
import dns.resolver
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.types import Role
from router.engine.discovery.address import AddressError, ReplicaAddress, parse_address
from router.engine.discovery.dns import DnsDiscovery, DnsError
from router.engine.discovery.file import FileDiscovery, ReplicasFileError, read_replicas_file
from router.engine.discovery.source import StaticDiscovery
from router.engine.trouble import Troubles


class TestFlag:
    def test_a_url_is_enough(self) -> None:
        assert parse_address("http://a:8000") == ReplicaAddress("http://a:8000")

    def test_options(self) -> None:
        text = "https://a/,events=tcp://*:5557,replay=tcp://b:1,role=decode,model=m,ranks=4,label.zone=x,label.gpu=h100"
        assert parse_address(text) == ReplicaAddress(
            "https://a",
            events="tcp://*:5557",
            replay="tcp://b:1",
            role=Role.DECODE,
            model="m",
            ranks=4,
            labels={"zone": "x", "gpu": "h100"},
        )

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("http://a", "a:80"),
            ("https://a", "a:443"),
            ("http://[fd00::1]:8000", "[fd00::1]:8000"),
            ("http://gateway:80/pool/a/", "gateway:80/pool/a"),
        ],
    )
    def test_the_name_is_host_port_and_path(self, url: str, name: str) -> None:
        assert parse_address(url).name == name

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "expected http://HOST:PORT"),
            ("a:8000", "expected http://HOST:PORT"),
            ("ftp://a", "expected http://HOST:PORT"),
            ("http://", "expected http://HOST:PORT"),
            ("http://a:99999", "not a URL: Port out of range"),
            ("http://[::1", "not a URL"),
            ("http://me:secret@a", "no user"),
            ("http://a?x=1", "no user, query"),
            ("http://a,events", "expected KEY=VALUE"),
            ("http://a,event=on", "unknown option 'event'; allowed: events, model, ranks, replay, role, label.NAME"),
            ("http://a,label.=x", "unknown option"),
            ("http://a,events=5557", "use tcp://HOST:PORT or ipc://PATH; or auto, on, off"),
            ("http://a,events=", "use tcp://HOST:PORT or ipc://PATH; or auto, on, off"),
            ("http://a,replay=tcp://b", "replay: not a KV event endpoint"),
            ("http://a,role=both,role=both", "given twice"),
            ("http://a,role=x", "allowed: both, prefill, decode"),
            ("http://a,ranks=-1", "allowed: 0 to 1024"),
        ],
    )
    def test_errors_say_what_is_allowed(self, text: str, message: str) -> None:
        with pytest.raises(AddressError) as caught:
            parse_address(text)
        assert message in str(caught.value)

    @given(st.text(max_size=40))
    def test_any_text_is_an_address_or_an_error(self, text: str) -> None:
        for flag in (text, f"http://{text}", f"http://a,{text}"):
            try:
                assert parse_address(flag).name
            except AddressError:
                continue

    def test_a_replica_named_twice_is_an_error(self) -> None:
        with pytest.raises(AddressError, match="listed twice"):
            StaticDiscovery([ReplicaAddress("http://a"), ReplicaAddress("http://a:80")])


class TestFile:
    def test_lists_urls_and_mappings(self, tmp_path: Path) -> None:
        path = tmp_path / "replicas.yaml"
        path.write_text(
            "- http://a:8000,role=prefill\n- {url: 'http://b:8000', events: off, ranks: 2, labels: {zone: 1}}\n"
        )
        assert read_replicas_file(path) == (
            ReplicaAddress("http://a:8000", role=Role.PREFILL),
            ReplicaAddress("http://b:8000", events="off", ranks=2, labels={"zone": "1"}),
        )

    def test_an_empty_file_lists_none(self, tmp_path: Path) -> None:
        path = tmp_path / "replicas.yaml"
        path.write_text("# later\n")
        assert read_replicas_file(path) == ()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("- http://a\n- [", "line 2: not valid YAML"),
            ("[" * 5000, "not valid YAML"),
            ("replicas: []", "expected a list of replicas"),
            ("- http://a\n- 5", "line 2: expected a URL or a mapping"),
            ("- {events: on}", "line 1: the key `url` is missing"),
            ("- url: http://a\n  event: on", "line 1: unknown key 'event'; allowed: url, events, model, ranks"),
            ("- url: http://a\n  labels: x", "labels: expected a mapping"),
            ("- url: http://a\n  role: [x]", "role: expected text, got list"),
            ("- http://a\n\n- http://b,role=x", "line 3: replica 'http://b': role: 'x'; allowed: both"),
            ("- http://a\n- http://a", "listed twice"),
            ("- !!python/object:os.system x", "line 1: not valid YAML"),
            ("- &a [*a]", "line 1: "),
            ("- \x00", "not valid YAML"),
        ],
    )
    def test_errors_name_file_line_and_what_is_allowed(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "replicas.yaml"
        path.write_text(text)
        with pytest.raises(ReplicasFileError) as caught:
            read_replicas_file(path)
        assert str(path) in str(caught.value)
        assert message in str(caught.value)

    def test_that_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ReplicasFileError, match="cannot be read"):
            read_replicas_file(tmp_path / "absent.yaml")

    async def test_is_read_again_when_it_changes_and_a_broken_one_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "replicas.yaml"
        troubles = Troubles(asyncio.get_running_loop().time)
        watch = FileDiscovery(path, troubles, interval_s=0.001).watch()
        first = asyncio.ensure_future(anext(watch))
        while not troubles.counts["replicas_file"]:
            await asyncio.sleep(0)
        _replace(path, "- http://a\n")
        assert await first == (ReplicaAddress("http://a"),)
        second = asyncio.ensure_future(anext(watch))
        _replace(path, "- http://\n")
        while troubles.counts["replicas_file"] < 2:
            await asyncio.sleep(0)
        assert not second.done()
        _replace(path, "- http://b\n")
        assert await second == (ReplicaAddress("http://b"),)
        await watch.aclose()


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    os.replace(draft, path)


class TestDns:
    async def test_every_address_of_a_name_is_a_replica(self) -> None:
        troubles = Troubles(asyncio.get_running_loop().time)
        template = ReplicaAddress("https://replica/pool", events="on")
        discovery = DnsDiscovery("127.0.0.1", 8000, troubles, template=template)
        assert await discovery.look_up() == (ReplicaAddress("https://127.0.0.1:8000/pool", events="on"),)

    async def test_srv_records_carry_the_port(self, nameserver: Nameserver) -> None:
        nameserver.records = ["0 5 8001 gpu1.test.", "0 5 8000 gpu1.test.", "0 5 8000 gpu0.test."]
        discovery = DnsDiscovery("_vllm._tcp.test", None, Troubles(asyncio.get_running_loop().time))
        assert [address.url for address in await discovery.look_up()] == [
            "http://gpu0.test:8000",
            "http://gpu1.test:8000",
            "http://gpu1.test:8001",
        ]

    async def test_changes_are_told_and_a_failed_lookup_changes_nothing(self, nameserver: Nameserver) -> None:
        troubles = Troubles(asyncio.get_running_loop().time)
        nameserver.records = ["0 5 8000 gpu0.test."]
        watch = DnsDiscovery("_vllm._tcp.test", None, troubles, interval_s=0.001).watch()
        assert [address.name for address in await anext(watch)] == ["gpu0.test:8000"]
        changed = asyncio.ensure_future(anext(watch))
        nameserver.records = []
        while not troubles.counts["dns"]:
            await asyncio.sleep(0)
        assert not changed.done()
        nameserver.records = ["0 5 8000 gpu1.test."]
        assert [address.name for address in await changed] == ["gpu1.test:8000"]
        await watch.aclose()

    async def test_a_name_that_does_not_resolve_is_an_error(self, nameserver: Nameserver) -> None:
        with pytest.raises(DnsError, match="cannot look up SRV"):
            await DnsDiscovery("_vllm._tcp.test", None, Troubles(asyncio.get_running_loop().time)).look_up()


class Nameserver(asyncio.DatagramProtocol):
    """Answers every SRV question with ``records``; with none, that the name does not exist."""

    def __init__(self) -> None:
        self.records: list[str] = []

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if self.records:
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 1, "IN", "SRV", *self.records))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


@pytest.fixture
async def nameserver(monkeypatch: pytest.MonkeyPatch) -> Nameserver:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    _, server = await asyncio.get_running_loop().create_datagram_endpoint(Nameserver, sock=bound)
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = bound.getsockname()[1]
    monkeypatch.setattr(dns.asyncresolver, "default_resolver", resolver)
    return server
