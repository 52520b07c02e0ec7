"""What the endpoint picker answers, by the state of the pods and the request. Many cases are those of llm-d's suite."""

import json

import pytest
from extproc_rig import (
    BUFFERED,
    CHAT,
    FULL_DUPLEX,
    MODEL,
    NONE,
    STREAMED,
    Pod,
    chat,
    request_body,
    request_headers,
    serving,
)

from router.core.types import Health

LLM_D = {
    "profiles": {
        "default": {
            "scorers": [{"name": name, "weight": 1.0} for name in ("queue-depth", "kv-utilisation", "lora-affinity")]
        }
    }
}


@pytest.mark.parametrize(
    ("pods", "model", "expected"),
    [
        ([Pod(3, 0.2), Pod(0, 0.1), Pod(10, 0.2)], MODEL, 2),
        ([Pod(0, 0.2, ("l",)), Pod(0, 0.1, ("l",), ("l",)), Pod(10, 0.2, ("l",))], "l", 2),
        ([Pod(10, 0.2, ("l",)), Pod(10, 0.4, ("l",), ("l",)), Pod(10, 0.3, ("l",))], "l", 2),
        ([Pod(6, 0.2, ("l",), ("l",)), Pod(0, 0.85, ("l",)), Pod(10, 0.9, ("l",))], "l", 1),
        ([Pod(1, 0.0), Pod(1, 0.0, models=("other",))], MODEL, 1),
    ],
    ids=["lower queue and cache", "active adapter", "adapter over cache", "nothing is shed", "only who has the model"],
)
async def test_the_pod_that_fits_best_is_named_in_header_and_metadata(pods, model, expected):
    async with serving(*pods, **LLM_D) as gateway:
        told = await gateway.post(chat(model=model))
        assert told.kind == "request_headers"
        assert told.endpoint == f"10.0.0.{expected}:8000"
        assert told.common.clear_route_cache
        assert told.metadata["weft"] == {"replica": f"10.0.0.{expected}:8000"}


async def test_a_prefix_that_was_seen_is_gone_back_to():
    async with serving(*[Pod()] * 4) as gateway:
        text = "a long system prompt, the same each time " * 40
        first = await gateway.post(chat(text))
        again = {(await gateway.post(chat(text + str(turn)))).endpoint for turn in range(4)}
        assert again == {first.endpoint}


async def test_a_body_cut_in_the_middle_of_the_models_name_is_routed_as_any():
    async with serving(Pod(3), Pod(0)) as gateway:
        body = chat()
        at = body.index(b'"m"') + 1
        answers = await gateway.ask(request_headers(), request_body(body[:at], False), request_body(body[at:], True))
        assert [told.kind for told in answers] == ["request_headers", "request_body"]
        assert answers[0].endpoint == "10.0.0.2:8000"
        assert (answers[1].chunk, answers[1].ends) == (body, True)


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        (["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"], "10.0.0.2:8000"),
        (["10.0.0.3:8000"], "10.0.0.3:8000"),
        (["10.0.0.1:9999", "10.9.9.9:8000"], "10.0.0.1:8000"),
    ],
    ids=["best of all", "the only one", "the port is not compared"],
)
async def test_the_gateways_subset_is_kept_to(subset, expected):
    async with serving(Pod(3, 0.2), Pod(0, 0.1), Pod(10, 0.2)) as gateway:
        assert (await gateway.post(subset=subset)).endpoint == expected


@pytest.mark.parametrize("subset", [[], ["10.9.9.9:8000"]])
async def test_a_subset_of_nobody_is_503(subset):
    async with serving(Pod(), Pod()) as gateway:
        status, headers, error = (await gateway.post(subset=subset)).refusal
        assert (status, headers["x-llm-d-request-dropped-reason"]) == (503, "rejected-no-endpoints")
        assert error["code"] == "no_replica"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"model": "m", ', "not valid JSON"),
        (b"", "empty"),
        (b"[1]", "object"),
        (b'{"model": 7, "messages": []}', "model"),
    ],
)
async def test_a_body_that_no_replica_could_take_is_400_in_openais_shape(body, says):
    async with serving(Pod()) as gateway:
        status, headers, error = (await gateway.post(body)).refusal
        assert status == 400
        assert says in error["message"]
        assert set(error) == {"message", "type", "param", "code"}
        assert headers["content-type"] == "application/json"
        assert headers["x-request-id"] == "id-1"
        assert "x-llm-d-request-dropped-reason" not in headers


async def test_an_unknown_model_is_404():
    async with serving(Pod()) as gateway:
        status, _, error = (await gateway.post(chat(model="gpt"))).refusal
        assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")


async def test_a_pool_in_which_nobody_is_healthy_is_503_and_says_when_to_come_back():
    async with serving(Pod()) as gateway:
        gateway.rig.feed.on_health("10.0.0.1:8000", Health.UNHEALTHY, 0.0)
        status, headers, _ = (await gateway.post()).refusal
        assert (status, headers["x-llm-d-request-dropped-reason"]) == (503, "rejected-no-endpoints")
        assert int(headers["retry-after"]) >= 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("mode", [4, STREAMED, BUFFERED, NONE])
async def test_a_request_without_a_body_goes_to_anybody_who_is_healthy(method, mode):
    async with serving(Pod(), Pod(models=("other",)), Pod()) as gateway:
        gateway.rig.feed.on_health("10.0.0.1:8000", Health.UNHEALTHY, 0.0)
        for _ in range(5):
            (told,) = await gateway.ask(
                request_headers({"x-request-id": "1"}, method=method, path="/v1/models", ends=True, mode=mode)
            )
            assert told.endpoint in ("10.0.0.2:8000", "10.0.0.3:8000")
        assert gateway.rig.in_flight == 0, "nobody would report the end of these"


async def test_a_request_without_a_body_keeps_to_the_subset_and_may_find_nobody():
    async with serving(Pod(), Pod()) as gateway:
        get = {"method": "GET", "path": "/v1/models", "ends": True}
        (told,) = await gateway.ask(request_headers(subset=["10.0.0.2:1"], **get))
        assert told.endpoint == "10.0.0.2:8000"
        (told,) = await gateway.ask(request_headers(subset=["10.0.0.9:1"], **get))
        assert told.refusal[0] == 503


async def test_a_post_without_a_body_is_400():
    async with serving(Pod()) as gateway:
        (told,) = await gateway.ask(request_headers(ends=True))
        assert told.refusal[0] == 400


async def test_what_is_not_json_is_routed_by_load_and_goes_through_unchanged():
    async with serving(Pod(5), Pod(0), **LLM_D) as gateway:
        audio = bytes(range(256)) * 700
        headers = {"content-type": "multipart/form-data; boundary=x", "x-request-id": "1"}
        answers = await gateway.ask(
            request_headers(headers, path="/v1/audio/transcriptions"), request_body(audio, False), request_body()
        )
        assert answers[0].endpoint == "10.0.0.2:8000"
        assert b"".join(told.chunk for told in answers[1:]) == audio


@pytest.mark.parametrize("mode", [STREAMED, NONE])
async def test_where_the_body_is_not_shown_the_head_decides(mode):
    async with serving(Pod(5), Pod(0), **LLM_D) as gateway:
        answers = await gateway.ask(request_headers(mode=mode))
        assert [told.endpoint for told in answers] == ["10.0.0.2:8000"]


async def test_a_gateway_that_has_read_the_body_may_say_its_model():
    async with serving(Pod(5), Pod(0, models=("other",))) as gateway:
        headers = {"content-type": "application/json", "x-gateway-model-name": MODEL}
        (told,) = await gateway.ask(request_headers(headers, mode=NONE))
        assert told.endpoint == "10.0.0.1:8000"
        (told,) = await gateway.ask(request_headers(headers | {"x-gateway-model-name": "gpt"}, mode=NONE))
        assert told.refusal[0] == 404


async def test_what_belongs_to_the_gateway_or_to_weft_does_not_reach_the_replica():
    theirs = {
        "x-llm-d-inference-objective": "o",
        "x-gateway-inference-objective": "o",
        "x-llm-d-inference-fairness-id": "f",
        "x-gateway-inference-fairness-id": "f",
        "x-llm-d-model-name-rewrite": "r",
        "x-gateway-model-name-rewrite": "r",
        "x-gateway-destination-endpoint-subset": "10.0.0.1:8000",
        "x-gateway-destination-endpoint-served": "10.0.0.1:8000",
        "x-llm-d-request-dropped-reason": "none",
        "x-llm-d-slo-ttft-ms": "1",
        "x-slo-tpot-ms": "1",
        "x-vllm-priority": "-100",
        "x-data-parallel-rank": "3",
        "x-prefiller-host-port": "192.0.2.1:80",
        "x-llm-d-prefiller-host-port": "192.0.2.1:80",
        "x-encoder-hosts-ports": "192.0.2.1:80",
        "x-kv-cache-source-host-port": "192.0.2.1:80",
        "x-weft-profile": "least-load",
        "x-weft-step": "s",
        "x-program-id": "p" * 10_000,
        "x-program-step": "s",
    }
    async with serving(Pod()) as gateway:
        told = await gateway.post(headers=theirs | {"user-agent": "u", "authorization": "Bearer k"})
        assert told.removed == sorted(theirs)


async def test_a_clients_own_destination_is_overwritten():
    async with serving(Pod(), Pod(9)) as gateway:
        told = await gateway.post(headers={"x-gateway-destination-endpoint": "10.0.0.2:8000"})
        assert told.endpoint == "10.0.0.1:8000"
        assert told.removed == []


async def test_a_request_without_an_id_gets_one():
    async with serving(Pod()) as gateway:
        plain = {"content-type": "application/json"}
        ids = []
        for headers in (plain, plain, plain | {"x-request-id": "x" * 300}):
            decided, _ = await gateway.ask(request_headers(headers), request_body(chat()))
            ids.append(decided.set["x-request-id"])
        assert len(set(ids)) == 3
        assert all(0 < len(each) < 64 for each in ids)
        assert "x-request-id" not in (await gateway.post()).set


async def test_values_may_come_as_text_as_well():
    async with serving(Pod(), Pod(9)) as gateway:
        head = request_headers()
        for each in head.request_headers.headers.headers:
            each.value, each.raw_value = each.raw_value.decode(), b""
        decided, _ = await gateway.ask(head, request_body(chat()))
        assert decided.endpoint == "10.0.0.1:8000"


@pytest.mark.parametrize(("fallbacks", "expected"), [(0, 1), (1, 2), (5, 3)])
async def test_fallbacks_follow_the_chosen_endpoint_best_first(fallbacks, expected):
    async with serving(Pod(4, 0.1), Pod(0, 0.1), Pod(9, 0.1), extproc={"fallbacks": fallbacks}, **LLM_D) as gateway:
        order = ["10.0.0.2:8000", "10.0.0.1:8000", "10.0.0.3:8000"]
        assert (await gateway.post()).endpoint == ",".join(order[:expected])
        assert gateway.rig.in_flight == 1


async def test_ranks_behind_one_address_are_told_apart_by_their_header():
    async with serving(extproc={"fallbacks": 3}) as gateway:
        rig = gateway.rig
        rig.put(0, Pod())
        for rank in (0, 1):
            spec = rig.router.fleet.specs[0]
            named = type(spec)(f"10.0.0.9:8000#{rank}", "http://10.0.0.9:8000", rank=rank, models=(MODEL,))
            rig.feed.on_replica(named, 0.0)
            rig.feed.on_health(named.name, Health.HEALTHY, 0.0)
        rig.feed.on_health("10.0.0.1:8000", Health.UNHEALTHY, 0.0)
        told = await gateway.post(headers={"x-data-parallel-rank": "7"})
        assert told.endpoint == "10.0.0.9:8000"
        assert told.metadata["weft"]["replica"] == f"10.0.0.9:8000#{told.set['x-data-parallel-rank']}"
        assert told.removed == []


async def test_a_replica_below_a_path_and_behind_a_name_is_found_there():
    async with serving(Pod(url="http://localhost:8123/pool/a")) as gateway:
        told = await gateway.post(path="/v1/chat/completions?x=1")
        assert told.endpoint == "127.0.0.1:8123"
        assert told.set[":path"] == "/pool/a/v1/chat/completions?x=1"


async def test_a_replica_whose_name_says_nothing_is_503():
    async with serving(Pod(url="http://no-such-host.invalid:80")) as gateway:
        status, _, error = (await gateway.post()).refusal
        assert status == 503
        assert "cannot be looked up" in error["message"]
        assert gateway.rig.in_flight == 0


async def test_an_explanation_comes_as_metadata_and_in_the_answers_head():
    async with serving(Pod(2), Pod(0)) as gateway:
        told = await gateway.post(headers={"x-weft-explain": "1"})
        why = json.loads(told.metadata["weft"]["explain"])
        assert (why["winner"], len(why["candidates"])) == ("10.0.0.2:8000", 2)
        assert "x-weft-explain" in told.removed


async def test_the_profile_can_be_chosen():
    async with serving(Pod(0, 0.0), Pod(5, 0.9)) as gateway:
        chosen = {(await gateway.post(headers={"x-weft-profile": "round-robin"})).endpoint for _ in range(4)}
        assert chosen == {"10.0.0.1:8000", "10.0.0.2:8000"}


@pytest.mark.parametrize("header", ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"])
async def test_a_fairness_id_names_the_program(header):
    async with serving(Pod()) as gateway:
        seen = []
        submit = gateway.rig.dispatcher.submit
        gateway.rig.dispatcher.submit = lambda request: seen.append(request) or submit(request)
        await gateway.post(headers={header: "team-7"})
        assert seen[0].program.id == "team-7"


@pytest.mark.parametrize("header", ["x-llm-d-inference-objective", "x-gateway-inference-objective"])
async def test_an_objective_stands_for_a_priority(header):
    async with serving(Pod(), extproc={"objectives": {"batch": -5, "chat": 3}}) as gateway:
        seen = []
        submit = gateway.rig.dispatcher.submit
        gateway.rig.dispatcher.submit = lambda request: seen.append(request) or submit(request)
        for name in ("batch", "chat", "unknown"):
            await gateway.post(headers={header: name})
        assert [request.program and request.program.priority for request in seen] == [-5, 3, None]


async def test_the_newer_name_of_an_objective_goes_before_the_older():
    async with serving(Pod(), extproc={"objectives": {"batch": -5, "chat": 3}}) as gateway:
        seen = []
        submit = gateway.rig.dispatcher.submit
        gateway.rig.dispatcher.submit = lambda request: seen.append(request) or submit(request)
        await gateway.post(headers={"x-gateway-inference-objective": "batch", "x-llm-d-inference-objective": "chat"})
        assert seen[0].program.priority == 3


@pytest.mark.parametrize(
    ("asked", "heeded", "expected"),
    [
        ("10.0.0.2", True, {"10.0.0.2:8000"}),
        ("10.0.0.2,10.0.0.3", True, {"10.0.0.2:8000", "10.0.0.3:8000"}),
        ("10.9.9.9", True, {"10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"}),
        ("10.0.0.2", False, {"10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"}),
    ],
)
async def test_conformance_tests_choose_endpoints_where_they_may(asked, heeded, expected):
    spread = {"default": {"picker": "round-robin"}}
    async with serving(Pod(), Pod(), Pod(), extproc={"conformance": heeded}, profiles=spread) as gateway:
        headers = {"test-epp-endpoint-selection": asked}
        told = [await gateway.post(headers=headers, path=CHAT) for _ in range(6)]
        assert {each.endpoint for each in told} == expected
        assert all("test-epp-endpoint-selection" in each.removed for each in told)


@pytest.mark.parametrize("mode", [FULL_DUPLEX, BUFFERED])
async def test_who_only_wants_what_is_cached_is_412_until_it_is(mode):
    async with serving(Pod(), Pod()) as gateway:
        body, cautious = chat("a long prompt " * 40), {"prefer": "respond-async, If-Available; wait=1"}
        status, headers, error = (await gateway.post(body, cautious, mode=mode)).refusal
        assert (status, error["code"]) == (412, "not_cached")
        assert "x-llm-d-request-dropped-reason" not in headers
        assert gateway.rig.in_flight == 0
        first = await gateway.post(body, {"prefer": "return=minimal"}, mode=mode)
        assert (await gateway.post(body, cautious, mode=mode)).endpoint == first.endpoint
