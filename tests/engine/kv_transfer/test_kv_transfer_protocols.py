"""What each protocol says, word for word."""

import json

import pytest
from kv_transfer_bodies import CHAT, MESSAGES, RESPONSES, fields, legs

from router.core.fleet import MAX_REPLICAS
from router.core.types import ReplicaSpec
from router.engine.kv_transfer.connector import HandOverError, make_connector

PARAMS = (
    b'{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[7,8]],"remote_engine_id":"e-1",'
    b'"remote_request_id":"cmpl-x","remote_host":"10.0.0.1","remote_port":5600,"tp_size":1,"dcp_size":1,"pp_size":1,'
    b'"remote_num_tokens":32,"remote_blocks_expiry_time":null,"transfer_mode":"pull","remote_prefill_cached_tokens":16}'
)
"""As vLLM 0.32 wrote them."""


def answer(params: bytes) -> bytes:
    return b'{"id":"cmpl-x","choices":[],"usage":null,"kv_transfer_params":' + params + b"}"


class TestNixl:
    def test_the_prefill_replica_is_asked_to_keep_the_blocks(self):
        first = fields(make_connector("nixl").prefill_body(b'{"model":"m"}', legs()))
        assert json.loads(first["kv_transfer_params"]) == {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "remote_engine_id": None,
            "remote_block_ids": None,
            "remote_host": None,
            "remote_port": None,
        }

    def test_what_it_answers_goes_to_the_decode_replica_as_it_is(self):
        second = make_connector("nixl").decode_body(b'{"model":"m","max_tokens":9}', legs(), answer(PARAMS))
        assert fields(second) == {"model": b'"m"', "max_tokens": b"9", "kv_transfer_params": PARAMS}

    @pytest.mark.parametrize(
        "useless",
        [
            b"",
            b"data: {}\n\n",
            b"{}",
            answer(b"null"),
            answer(b"[]"),
            answer(b'{"do_remote_prefill":false,"remote_block_ids":[[1]]}'),
            answer(b'{"do_remote_prefill":true,"remote_block_ids":[]}'),
            answer(b'{"do_remote_prefill":true,"remote_block_ids":null}'),
            answer(PARAMS.replace(b'"pull"', b'"push"')),
            b'{"kv_transfer_params":' + b"[" * 100_000,
        ],
    )
    def test_an_answer_without_blocks_is_no_use(self, useless):
        with pytest.raises(HandOverError):
            make_connector("nixl").decode_body(b'{"model":"m"}', legs(), useless)


class TestMooncake:
    ENGINES = b'{"0":{"engine_id":"e-0","worker_addr":{}},"1":{"engine_id":"e-1","worker_addr":{}}}'
    ENDED = b'{"choices":[{"finish_reason":"length"}]}'

    def spec(self, rank=None, **labels):
        return ReplicaSpec("p", "http://10.0.0.1:8000", rank=rank, labels=labels)

    def test_both_legs_name_the_transfer_and_the_second_one_says_where_to_fetch(self):
        made, pair = make_connector("mooncake"), legs(prefill=self.spec(rank=1))
        made.directory.learn(pair.prefill, self.ENGINES)
        first = json.loads(made.prefill_body(b"{}", pair))
        second = json.loads(made.decode_body(b"{}", pair, self.ENDED))
        assert first["kv_transfer_params"] == {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "transfer_id": "t-1",
        }
        assert second["kv_transfer_params"] == {
            "do_remote_decode": False,
            "do_remote_prefill": True,
            "transfer_id": "t-1",
            "remote_bootstrap_addr": "http://10.0.0.1:8998",
            "remote_engine_id": "e-1",
        }

    def test_the_bootstrap_server_is_asked_once_and_again_after_a_failure(self):
        directory, spec = make_connector("mooncake").directory, self.spec(bootstrap_port="9000")
        assert directory.url_of(spec) == "http://10.0.0.1:9000/query"
        directory.learn(spec, self.ENGINES)
        assert directory.url_of(spec) is None
        directory.forget(spec)
        assert directory.url_of(spec) == "http://10.0.0.1:9000/query"

    def test_addresses_of_replicas_that_are_gone_are_not_kept_for_ever(self):
        directory = make_connector("mooncake").directory
        for number in range(3 * MAX_REPLICAS):
            directory.learn(self.spec(bootstrap_host=f"host-{number}"), b'{"0": {"engine_id": "e"}}')
            assert len(directory._by_address) <= MAX_REPLICAS
        assert directory.of(self.spec(bootstrap_host=f"host-{number}")) == "e"

    @pytest.mark.parametrize("useless", [b"", b"[]", b'{"0":{}}', b"nothing here"])
    def test_a_bootstrap_server_that_names_no_engines(self, useless):
        with pytest.raises(HandOverError):
            make_connector("mooncake").directory.learn(self.spec(), useless)

    def test_the_only_engine_of_a_server_without_ranks_is_meant(self):
        made, pair = make_connector("mooncake"), legs(prefill=self.spec())
        made.directory.learn(pair.prefill, b'{"3":{"engine_id":"e-3"}}')
        body = json.loads(made.decode_body(b"{}", pair, self.ENDED))
        assert body["kv_transfer_params"]["remote_engine_id"] == "e-3"

    @pytest.mark.parametrize("rank", [None, 2])
    def test_an_engine_that_cannot_be_told(self, rank):
        made, pair = make_connector("mooncake"), legs(prefill=self.spec(rank=rank))
        made.directory.learn(pair.prefill, self.ENGINES)
        with pytest.raises(HandOverError):
            made.decode_body(b"{}", pair, self.ENDED)

    @pytest.mark.parametrize(
        ("path", "ended"),
        [
            (CHAT, ENDED),
            (MESSAGES, b'{"stop_reason":"max_tokens"}'),
            (RESPONSES, b'{"status":"incomplete","output":[]}'),
        ],
    )
    def test_an_answer_that_ended_for_its_length_has_left_blocks(self, path, ended):
        made, pair = make_connector("mooncake"), legs(path, prefill=self.spec(rank=0))
        made.directory.learn(pair.prefill, self.ENGINES)
        assert made.decode_body(b"{}", pair, ended)

    @pytest.mark.parametrize("ended", [b'{"choices":[{"finish_reason":"stop"}]}', b'{"stop_reason":"end_turn"}', b"?"])
    def test_one_that_ended_by_itself_has_not(self, ended):
        made, pair = make_connector("mooncake"), legs(prefill=self.spec(rank=0))
        made.directory.learn(pair.prefill, self.ENGINES)
        with pytest.raises(HandOverError):
            made.decode_body(b"{}", pair, ended)


class TestSglang:
    def test_both_legs_meet_in_one_room_at_the_prefill_replica(self):
        made, body = make_connector("sglang"), b'{"model":"m","stream":true,"stream_options":{},"max_tokens":9}'
        first, second = json.loads(made.prefill_body(body, legs())), json.loads(made.decode_body(body, legs(), b""))
        assert (second["bootstrap_host"], second["bootstrap_port"]) == ("10.0.0.1", 8998)
        assert 0 <= second["bootstrap_room"] < 2**63
        assert second["stream"] is True
        assert second.pop("stream_options") == {}
        assert first == {**second, "stream": False}

    def test_each_pair_of_legs_has_a_room_of_its_own(self):
        made = make_connector("sglang")
        rooms = {
            json.loads(made.decode_body(b"{}", legs(transfer_id=f"t-{number}"), b""))["bootstrap_room"]
            for number in range(1000)
        }
        assert len(rooms) == 1000

    def test_labels_say_where_the_bootstrap_server_is(self):
        prefill = ReplicaSpec("p", "http://p.example:80", labels={"bootstrap_host": "fd00::1", "bootstrap_port": "77"})
        body = json.loads(make_connector("sglang").decode_body(b"{}", legs(prefill=prefill), b""))
        assert (body["bootstrap_host"], body["bootstrap_port"]) == ("[fd00::1]", 77)

    def test_a_label_that_is_no_port(self):
        prefill = ReplicaSpec("p", "http://p.example:80", labels={"bootstrap_port": "http"})
        with pytest.raises(HandOverError, match="bootstrap_port"):
            make_connector("sglang").prefill_body(b"{}", legs(prefill=prefill))

    def test_it_can_do_neither_leg_alone(self):
        made = make_connector("sglang")
        assert made.at_once
        assert not made.aggregates


class TestSharedStorage:
    def test_no_engine_is_told_of_a_transfer(self):
        first = fields(make_connector("shared-storage").prefill_body(b'{"model":"m"}', legs()))
        assert "kv_transfer_params" not in first

    def test_messages_with_a_budget_for_thinking_stay_in_one_piece(self):
        with pytest.raises(HandOverError):
            make_connector("shared-storage").prefill_body(b'{"thinking":{"type":"enabled"}}', legs(MESSAGES))
