"""Our part of Envoy's messages: its numbers, and what is not in our part is passed over.

The bytes were written with all of Envoy's messages (``xds-protos`` 1.85), and hold fields that ours do not have.
"""

import re
from pathlib import Path

import pytest
from extproc_rig import Pod, serving, within
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from router.core.types import Outcome
from router.extproc import wire
from router.extproc.access_log import Entry, read_entries
from router.extproc.messages import BodyMode, Modes, RequestBody, RequestHeaders, ResponseHeaders
from router.extproc.proto import (
    accesslog_pb2,
    als_pb2,
    base_pb2,
    external_processor_pb2,
    http_status_pb2,
    processing_mode_pb2,
)
from router.extproc.proto.external_processor_pb2 import ProcessingResponse
from router.extproc.server import ACCESS_LOG, EXT_PROC

SOURCES = Path(__file__).parents[2] / "proto"
MODULES = (accesslog_pb2, als_pb2, base_pb2, external_processor_pb2, http_status_pb2, processing_mode_pb2)

HEAD = (
    "12410a240a0f0a073a6d6574686f641204504f53540a110a0c582d526571756573742d49641a013712170a036f6c6412100a"
    "0e0a0161120911000000000000f03f180142710a620a14656e766f792e6c622e7375627365745f68696e74124a0a480a2578"
    "2d676174657761792d64657374696e6174696f6e2d656e64706f696e742d737562736574121f321d0a0f1a0d31302e302e30"
    "2e313a383030300a0a1a0831302e302e302e32120b0a017412060a04747970654a360a1b656e766f792e66696c746572732e"
    "687474702e6578745f70726f6312170a150a0c726571756573742e7061746812051a032f76315a06080410031801"
)
BODY = "22080a027b7d10012001"
ANSWER_HEAD = (
    "1a120a100a0e0a073a7374617475731a0332303042480a460a08656e766f792e6c62123a0a380a25782d676174657761792d"
    "64657374696e6174696f6e2d656e64706f696e742d736572766564120f1a0d31302e302e302e323a38303030"
)
LOG = (
    "0a0b0a030a016e12047765667412cd010aca010a930109000000000000f03f120b0a091207392e392e392e392a060880e2cf"
    "aa06320310e8074a051080e59a77520208016a120a10120831302e302e302e3118c03e2a01787a04706f6f6c82010840016a"
    "02080178018a01170a150a016b12100a0e0a0176120911000000000000f03f9a010172b201060a0161120162ba0108080110"
    "80cab5ee01c00102d2010173e801b81788020610021a1608032a032f76314a0137582860646a060a016112016222180a0308"
    "c801103218d00f320c7669615f757073747265616d"
)
MODES = Modes(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED_PARTIAL, True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            HEAD,
            RequestHeaders(
                [(b":method", b"POST"), (b"x-request-id", b"7")], True, MODES, frozenset({"10.0.0.1", "10.0.0.2"})
            ),
        ),
        (BODY, RequestBody(b"{}", True)),
        (ANSWER_HEAD, ResponseHeaders(200, False, "10.0.0.2:8000")),
    ],
    ids=["head", "body", "answer"],
)
def test_what_envoy_says_of_a_request_is_understood(data, message):
    assert wire.decode(bytes.fromhex(data)) == message


def test_what_envoy_logs_is_understood():
    (entry,) = read_entries(bytes.fromhex(LOG))
    assert entry == Entry("7", Outcome.CLIENT_GONE, 200, "10.0.0.1:8000", 2, 100, 2000, 0.25, 1.5)


SENT_ON = (
    "1a230a2112130a0c0a080a03782d611a013118021203782d621a081a060a027b7d1001280142270a250a08656e766f792e6c"
    "6212192a170a150a02746f120f1a0d31302e302e302e313a383030304a0418023001"
)
REFUSED = "3a2c0a0308ad0312160a140a100a0b72657472792d61667465721a013118021a027b7d2a09776566745f66756c6c"


def option(name, value):
    return {"header": {"key": name, "raw_value": value}, "append_action": 2}


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (
            SENT_ON,
            {
                "request_body": {
                    "response": {
                        "header_mutation": {"set_headers": [option("x-a", b"1")], "remove_headers": ["x-b"]},
                        "body_mutation": {"streamed_response": {"body": b"{}", "end_of_stream": True}},
                        "clear_route_cache": True,
                    }
                },
                "dynamic_metadata": {"envoy.lb": {"to": "10.0.0.1:8000"}},
                "mode_override": {"request_body_mode": 2, "response_trailer_mode": 1},
            },
        ),
        (
            REFUSED,
            {
                "immediate_response": {
                    "status": {"code": 429},
                    "headers": {"set_headers": [option("retry-after", b"1")]},
                    "body": b"{}",
                    "details": "weft_full",
                }
            },
        ),
    ],
    ids=["sent on", "refused"],
)
def test_what_envoy_is_told_has_its_numbers(data, answer):
    assert ProcessingResponse(**answer).SerializeToString(deterministic=True).hex() == data


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_modules_are_made_of_the_sources_as_they_are_now(module):
    """``make proto`` was run after the last change."""
    described = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(described)
    source = (SOURCES / Path(described.name).name).read_text()
    assert f"package {described.package};" in source
    assert sorted(numbers(described)) == sorted(re.findall(r"(\w+) = (\d+);", source))


def numbers(described):
    """(name, number) of each field and value in a file or message."""
    for enum in described.enum_type:
        yield from ((value.name, str(value.number)) for value in enum.value)
    for field in getattr(described, "field", ()):
        yield field.name, str(field.number)
    inner = getattr(described, "message_type", None) or getattr(described, "nested_type", ())
    for message in inner:
        if not message.options.map_entry:
            yield from numbers(message)


def test_each_source_has_its_module():
    assert {path.name for path in SOURCES.glob("*.proto")} == {Path(each.DESCRIPTOR.name).name for each in MODULES}


@pytest.mark.parametrize("service", [EXT_PROC, ACCESS_LOG])
async def test_reflection_describes_the_services_to_whoever_knows_nothing(service):
    pool = DescriptorPool()
    async with serving(Pod()) as gateway:
        await learn(pool, reflection_pb2_grpc.ServerReflectionStub(gateway.channel), file_containing_symbol=service)
    (method,) = pool.FindServiceByName(service).methods
    assert method.client_streaming
    assert method.input_type.fields


async def learn(pool, stub, **asked):
    """A file and, before it, what it imports."""
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**asked)]))
    for file in (await within(call.read())).file_descriptor_response.file_descriptor_proto:
        for name in FileDescriptorProto.FromString(file).dependency:
            await learn(pool, stub, file_by_filename=name)
        pool.AddSerializedFile(file)
