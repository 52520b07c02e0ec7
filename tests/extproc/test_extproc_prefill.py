"""Fleets with prefill and decode replicas: the sidecar of the chosen one is told who computes the prompt."""

import json

import pytest
from extproc_rig import BUFFERED, FULL_DUPLEX, MODEL, Pod, chat, log_entry, log_message, serving, until

from router.core.types import Role

PREFILL, DECODE = Pod(role=Role.PREFILL), Pod(role=Role.DECODE)
ALWAYS = {"disaggregation": {"rule": "always"}}
NAMES = ("x-llm-d-prefiller-host-port", "x-prefiller-host-port")
PROMPT = "what is to be computed elsewhere " * 40


def prefiller(told):
    """Whom the sidecar is to ask; None: nobody."""
    values = {told.set.get(name) for name in NAMES}
    assert len(values) == 1, "sidecars of all versions are told the same"
    return values.pop()


def queued_at(gateway, number):
    load = gateway.rig.router.load
    slot = gateway.rig.router.fleet.slot(f"10.0.0.{number}:8000")
    return int(load.queued[slot] + load.started[slot]), float(load.prefill_tokens[slot])


@pytest.mark.parametrize("mode", [BUFFERED, FULL_DUPLEX])
async def test_the_decode_replica_is_named_and_told_the_prefill_replica(mode):
    async with serving(PREFILL, DECODE, **ALWAYS) as gateway:
        told = await gateway.post(chat(PROMPT), mode=mode)
        assert told.endpoint == "10.0.0.2:8000"
        assert prefiller(told) == "10.0.0.1:8000"
        assert told.removed == []


async def test_the_fallbacks_are_decode_replicas_too():
    async with serving(PREFILL, DECODE, DECODE, extproc={"fallbacks": 3}, **ALWAYS) as gateway:
        told = await gateway.post(chat(PROMPT))
        assert sorted(told.endpoint.split(",")) == ["10.0.0.2:8000", "10.0.0.3:8000"]
        assert prefiller(told) == "10.0.0.1:8000"


async def test_what_a_client_says_of_prefill_replicas_reaches_nobody():
    theirs = dict.fromkeys(NAMES, "192.0.2.1:80")
    async with serving(PREFILL, DECODE, **ALWAYS) as gateway:
        told = await gateway.post(chat(PROMPT), theirs)
        assert prefiller(told) == "10.0.0.1:8000"
        assert told.removed == []
    for config in ({}, {"disaggregation": {"enabled": False}}, {"disaggregation": {"rule": "never"}}):
        pods = [Pod()] * 2 if not config else [PREFILL, DECODE]
        async with serving(*pods, **config) as gateway:
            told = await gateway.post(chat(PROMPT), theirs)
            assert prefiller(told) is None
            assert told.removed == sorted(NAMES)


def completion(**fields):
    return json.dumps({"model": MODEL, "prompt": PROMPT} | fields).encode()


@pytest.mark.parametrize(
    ("path", "body", "splits"),
    [
        ("/v1/completions", completion(), True),
        ("/v1/completions?x=1", completion(prompt=[PROMPT]), True),
        ("/v1/completions", completion(prompt=[PROMPT, PROMPT]), False),
        ("/v1/chat/completions", chat(PROMPT, n=2), False),
        ("/v1/chat/completions", chat(PROMPT, prompt_logprobs=1), False),
        ("/v1/messages", chat(PROMPT, max_tokens=5), False),
    ],
    ids=[
        "a prompt",
        "a list of one",
        "two prompts",
        "two answers",
        "the logprobs of the prompt",
        "a path that sidecars do not split",
    ],
)
async def test_what_engines_cannot_hand_over_stays_in_one_piece(path, body, splits):
    async with serving(PREFILL, DECODE, **ALWAYS) as gateway:
        told = await gateway.post(body, path=path)
        assert told.endpoint == "10.0.0.2:8000"
        assert (prefiller(told) is not None) is splits
        (_, prefill_tokens), (requests, decode_tokens) = queued_at(gateway, 1), queued_at(gateway, 2)
        assert requests == 1
        assert (prefill_tokens > 0, decode_tokens > 0) == (splits, not splits), "it weighs where it is computed"


async def test_the_prefill_leg_ends_with_the_request():
    async with serving(PREFILL, DECODE, **ALWAYS) as gateway:
        await gateway.post(chat(PROMPT))
        assert queued_at(gateway, 1)[0] == 1
        await gateway.open_log().write(log_message(log_entry(endpoint="10.0.0.2:8000")))
        await until(lambda: gateway.rig.in_flight == 0)
        assert queued_at(gateway, 1) == queued_at(gateway, 2) == (0, 0.0)


async def test_replicas_behind_names_are_told_by_their_addresses():
    prefill = Pod(role=Role.PREFILL, url="http://localhost:8101")
    decode = Pod(role=Role.DECODE, url="http://localhost:8102")
    async with serving(prefill, decode, **ALWAYS) as gateway:
        told = await gateway.post(chat(PROMPT))
        assert (told.endpoint, prefiller(told)) == ("127.0.0.1:8102", "127.0.0.1:8101")


async def test_a_prefill_replica_whose_name_says_nothing_is_done_without():
    lost = Pod(role=Role.PREFILL, url="http://no-such-host.invalid:80")
    async with serving(lost, DECODE, **ALWAYS) as gateway:
        told = await gateway.post(chat(PROMPT))
        assert (told.endpoint, prefiller(told)) == ("10.0.0.2:8000", None)
        assert queued_at(gateway, 1) == (0, 0.0)


async def test_a_request_without_a_body_has_one_leg():
    async with serving(PREFILL, DECODE, **ALWAYS) as gateway:
        told = await gateway.post(b"", {"content-type": "audio/wav"})
        assert (told.endpoint, prefiller(told)) == ("10.0.0.2:8000", None)


async def test_a_client_may_not_name_blocks_itself():
    async with serving(PREFILL, DECODE, **ALWAYS) as gateway:
        told = await gateway.post(chat(PROMPT, kv_transfer_params={"do_remote_prefill": True}))
        assert told.refusal[0] == 400
        assert gateway.rig.in_flight == 0
