"""Trace files of each format: what their fields become, and what happens to lines that make no sense."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_checks import check_programs, common, tokens

from sim.workloads.program import Context
from sim.workloads.traces import load_trace, trace_formats
from sim.workloads.traces.text import load_text


@pytest.fixture
def write(tmp_path):
    def written(*rows):
        path = tmp_path / "trace.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return written


MOONCAKE = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
WEKA = {
    "id": "one",
    "block_size": 64,
    "tool_tokens": 64,
    "system_tokens": 64,
    "requests": [{"t": 0, "type": "n", "in": 200, "out": 3, "hash_ids": [1, 2, 3]}],
}
TEXT = {"timestamp": 0, "input": "hello " * 40, "output": "world", "session_id": "s"}
AGENTIC = {"request_id": "r", "session_id": "s", "input_length": 100, "output_length": 4, "hash_ids": [1, 2]}
DAG = {"session_id": "s", "turns": [{"messages": [{"role": "user", "content": "hello"}]}]}
EXAMPLES = {"mooncake": MOONCAKE, "weka": WEKA, "text": TEXT, "agentic_mooncake": AGENTIC, "dag_jsonl": DAG}


def test_every_format_has_an_example():
    assert EXAMPLES.keys() == set(trace_formats())


@pytest.mark.parametrize("name", EXAMPLES)
class TestAnyFormat:
    def test_plain_and_gzipped_read_alike(self, name, write, tmp_path):
        plain = write(EXAMPLES[name])
        packed = tmp_path / "packed" / plain.name
        packed.parent.mkdir()
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        assert load_trace(plain, name).programs == load_trace(packed, name).programs
        check_programs(load_trace(plain, name).programs)

    @pytest.mark.parametrize(
        "line", ["{", "[]", "null", "17", '"text"', "{}", '{"a": 1}', "\x00", "[" * 5000, '{"input_length": -1}']
    )
    def test_bad_lines_are_counted_and_passed_over(self, name, line, write):
        trace = load_trace(write(line, "", EXAMPLES[name], line), name)
        assert len(trace.programs) == 1
        assert trace.skipped.total() == 2
        assert "skipped: 2 x " in str(trace)

    @pytest.mark.parametrize("change", [{"wrong": 1}, {"extra": [None]}])
    def test_fields_that_are_not_known_do_not_matter(self, name, change, write):
        assert (
            load_trace(write(EXAMPLES[name] | change), name).programs
            == load_trace(write(EXAMPLES[name]), name).programs
        )

    def test_a_damaged_gzip_file_is_read_as_far_as_it_goes(self, name, tmp_path):
        path = tmp_path / "cut.jsonl.gz"
        rows = "".join(json.dumps(EXAMPLES[name]) + "\n" for _ in range(500)).encode()
        path.write_bytes(gzip.compress(rows)[:-20])
        trace = load_trace(path, name)
        assert trace.programs
        assert trace.skipped["rest of a damaged gzip file"] == 1

    def test_a_file_of_something_else(self, name, tmp_path):
        path = tmp_path / "noise"
        path.write_bytes(bytes(range(256)) * 20)
        with pytest.raises(ValueError, match=f"nothing in .* can be read as {name}: "):
            load_trace(path, name)

    def test_an_empty_file(self, name, write):
        with pytest.raises(ValueError, match="it is empty"):
            load_trace(write(), name)

    def test_no_file(self, name, tmp_path):
        with pytest.raises(ValueError, match=r"cannot read trace .*: No such file"):
            load_trace(tmp_path / "absent", name)
        with pytest.raises(ValueError, match="cannot read trace"):
            load_trace(tmp_path, name)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_row_with_any_value_in_any_field_is_read_or_counted(name, tmp_path_factory, data):
    row = dict(EXAMPLES[name])
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(json_values)
    path = tmp_path_factory.mktemp("any") / "trace"
    path.write_text(json.dumps(EXAMPLES[name]) + "\n" + json.dumps(row) + "\n")
    trace = load_trace(path, name)
    assert trace.programs
    check_programs(trace.programs)


def test_an_unknown_format(write):
    with pytest.raises(ValueError, match=r"no trace format 'csv': give one of mooncake, weka, text"):
        load_trace(write(), "csv")


class TestMooncake:
    def test_blocks_become_tokens_by_id(self, write):
        one = MOONCAKE | {"input_length": 1100, "hash_ids": [0, 1, 2]}
        other = MOONCAKE | {"input_length": 1200, "hash_ids": [0, 1, 7]}
        programs = load_trace(write(one, other), "mooncake").programs
        spelled = [tokens(program.steps[0].parts) for program in programs]
        assert [len(each) for each in spelled] == [1100, 1200]
        assert common(*spelled) == 1024

    def test_requests_of_a_tick_keep_their_order(self, write):
        rows = [MOONCAKE | {"timestamp": 3000 * (number // 20), "input_length": number + 1} for number in range(100)]
        programs = load_trace(write(*rows), "mooncake", seed=4).programs
        assert [program.steps[0].prompt_tokens for program in programs] == list(range(1, 101))
        for number, program in enumerate(programs):
            assert 3 * (number // 20) <= program.arrival_s <= 3 * (number // 20) + 3

    def test_a_request_without_a_prompt(self, write):
        trace = load_trace(write(MOONCAKE, MOONCAKE | {"input_length": 0}), "mooncake")
        assert (len(trace.programs), trace.skipped) == (1, {"request without a prompt": 1})


class TestText:
    def test_prompts_share_what_their_texts_do(self, write):
        base = "".join(chr(97 + index % 23) for index in range(640))
        rows = [
            TEXT | {"timestamp": 0, "input": base},
            TEXT | {"timestamp": 1e6, "input": base + "x" * 400},
            TEXT | {"timestamp": 2e6, "input": base[:300] + "y" * 400, "session_id": "t"},
        ]
        first, second = load_trace(write(*rows), "text").programs
        spelled = [tokens(step.parts) for step in (*first.steps, *second.steps)]
        assert [len(each) for each in spelled] == [160, 260, 175]
        assert common(spelled[0], spelled[1]) == 160
        assert common(spelled[0], spelled[2]) == 300 // 64 * 16
        assert first.steps[1].after == ("call-0",)
        assert (first.arrival_s, second.arrival_s) == (0.0, 2.0)

    def test_an_answer_takes_part_of_the_time_between_calls(self, write):
        rows = [TEXT | {"output": "a" * 4 * 116}, TEXT | {"timestamp": 5e6}]
        (program,) = load_trace(write(*rows), "text").programs
        assert [step.wait_s for step in program.steps] == [0.0, pytest.approx(3.0)]

    def test_with_a_tokenizer(self, write):
        path = write(TEXT | {"input": "a b c " * 10, "output": "d e"})
        (program,) = load_text(path, 0, tokenize=lambda text: [ord(word) for word in text.split()]).programs
        assert (program.steps[0].prompt_tokens, program.steps[0].output_tokens) == (30, 2)


def weka(*requests, **fields):
    return WEKA | {"requests": list(requests)} | fields


def call(t, prompt, out, ids, **fields):
    return {"t": t, "type": "n", "in": prompt, "out": out, "hash_ids": list(ids)} | fields


class TestWeka:
    def test_an_answer_is_found_again_in_the_prompt_that_goes_on_from_it(self, write):
        row = weka(call(0, 200, 100, [1, 2, 3], api_time=2), call(10, 500, 5, [1, 2, 3, 4, 5, 6, 7], api_time=1))
        first, second = load_trace(write(row), "weka").programs[0].steps
        spelled = tokens(second.parts)
        assert len(spelled) == 500
        assert common(tokens(first.parts), spelled) == 200
        assert spelled[200:300] == [(first.answer_stream, index) for index in range(100)]
        assert (second.after, second.wait_s) == (("call-0",), 8.0)

    def test_an_answer_that_was_changed_is_not(self, write):
        row = weka(call(0, 200, 100, [1, 2, 3]), call(10, 270, 5, [1, 2, 3, 4]))
        first, second = load_trace(write(row), "weka").programs[0].steps
        assert common(tokens(first.parts), tokens(second.parts)) == 200
        assert first.answer_stream not in {part.stream for part in second.parts}

    def test_heads_of_the_same_length_are_shared_between_programs_and_nothing_else_is(self, write):
        programs = load_trace(write(weka(call(0, 320, 1, [1, 2, 3, 4, 5])), WEKA | {"id": "two"}), "weka").programs
        one, two = (program.steps[0] for program in programs)
        assert common(tokens(one.parts), tokens(two.parts)) == 128
        assert [part.context for part in one.parts] == [Context.TOOLS, Context.SYSTEM, Context.USER]

    def test_the_kinds_of_parts(self, write):
        row = weka(
            call(0, 256, 1, [1, 2, 3, 4], input_types=["text"]),
            call(1, 1280, 1, range(1, 21), input_types=["tool_result"]),
            call(2, 320, 1, [1, 2, 30, 31, 32], input_types=["text"]),
        )
        steps = load_trace(write(row), "weka").programs[0].steps
        assert [step.parts[-1].context for step in steps] == [Context.USER, Context.TOOL_RESULT, Context.CHECKPOINT]

    def sub_agent(self, t, duration_ms, *requests, name="agent_001"):
        return {"t": t, "type": "subagent", "agent_id": name, "duration_ms": duration_ms, "requests": list(requests)}

    def test_a_sub_agent_is_joined_by_the_call_after_its_end(self, write):
        row = weka(
            call(0, 128, 1, [1, 2], api_time=4),
            call(6, 192, 1, [1, 2, 3], api_time=2),
            self.sub_agent(30, 21_000, call(0, 64, 1, [9], api_time=3), call(5, 128, 1, [9, 10], api_time=15)),
            call(33, 256, 1, [1, 2, 3, 4], api_time=1),
        )
        programs = load_trace(write(row), "weka").programs
        check_programs(programs)
        timing = {step.name: (step.after, step.wait_s, step.agent) for step in programs[0].steps}
        assert timing == {
            "call-0": ((), 0.0, ""),
            "call-1": (("call-0",), 2.0, ""),
            "agent_001.call-0": (("call-1",), 1.0, "agent_001"),
            "agent_001.call-1": (("agent_001.call-0",), 2.0, "agent_001"),
            "call-2": (("call-1", "agent_001.call-1"), 3.0, ""),
        }

    def test_one_in_the_background_is_not(self, write):
        row = weka(
            call(0, 128, 1, [1, 2], api_time=4),
            self.sub_agent(5, None, call(0, 64, 1, [9], api_time=3)),
            call(7, 256, 1, [1, 2, 3, 4], api_time=1),
        )
        timing = {step.name: (step.after, step.wait_s) for step in load_trace(write(row), "weka").programs[0].steps}
        assert timing["agent_001.call-0"] == (("call-0",), 1.0)
        assert timing["call-1"] == (("call-0",), 3.0)

    def test_a_person_who_went_away_is_not_waited_for(self, write):
        row = weka(call(0, 128, 1, [1, 2], api_time=4), call(90_000, 192, 1, [1, 2, 3]))
        assert load_trace(write(row), "weka").programs[0].steps[1].wait_s == 600.0

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.lists(st.integers(0, 3), max_size=5), st.integers(0, 7), st.integers(1, 20)),
            min_size=1,
            max_size=6,
        )
    )
    def test_prompts_share_exactly_the_blocks_they_begin_with_alike(self, tmp_path_factory, drawn):
        """Ids are chained as in the trace: one names its block and all before it."""
        known, requests = {}, []
        for letters, tail, out in drawn:
            ids = [known.setdefault(tuple(letters[: end + 1]), len(known)) for end in range(len(letters))]
            requests.append(call(len(requests), max(1, 8 * len(ids) + tail), out, ids))
        path = tmp_path_factory.mktemp("weka") / "trace"
        path.write_text(json.dumps(weka(*requests, block_size=8, tool_tokens=8, system_tokens=0)))
        (program,) = load_trace(path, "weka").programs
        check_programs([program])
        for one, mine in zip(requests, program.steps, strict=True):
            assert mine.prompt_tokens == one["in"]
            for other, theirs in zip(requests, program.steps, strict=True):
                blocks = common(one["hash_ids"], other["hash_ids"])
                shared = common(tokens(mine.parts), tokens(theirs.parts))
                assert shared >= min(8 * blocks, mine.prompt_tokens, theirs.prompt_tokens)
                if blocks < min(len(one["hash_ids"]), len(other["hash_ids"])):
                    assert shared < 8 * (blocks + 1)


class TestAgenticMooncake:
    def row(self, name, **fields):
        return AGENTIC | {"request_id": name} | fields

    def test_waits_and_joins(self, write):
        rows = [
            self.row("a", timestamp=5000),
            self.row("b", wait_for=["a"], delay=2000, tool_wait_ms=3000),
            self.row("c", wait_for=["a"], session_id="child"),
            self.row("d", wait_for=["b", "c"], tool_wait_ms=10),
            self.row("other", timestamp=9000, session_id="t"),
        ]
        one, other = load_trace(write(*rows), "agentic_mooncake").programs
        assert [(step.name, step.after, step.wait_s, step.agent) for step in one.steps] == [
            ("a", (), 0.0, ""),
            ("b", ("a",), 5.0, ""),
            ("c", ("a",), 0.0, "child"),
            ("d", ("b", "c"), 0.01, ""),
        ]
        assert (one.id, one.arrival_s, other.id, other.arrival_s) == ("s", 0.0, "t", 4.0)

    def test_rows_may_come_before_what_they_wait_for(self, write):
        rows = [self.row("b", wait_for=["a"]), self.row("a", timestamp=0)]
        (program,) = load_trace(write(*rows), "agentic_mooncake").programs
        assert [step.name for step in program.steps] == ["a", "b"]

    def test_waiting_for_nothing_that_ends(self, write):
        rows = [
            self.row("a"),
            self.row("lost", wait_for=["nowhere"]),
            self.row("after", wait_for=["lost"]),
            self.row("x", wait_for=["y"]),
            self.row("y", wait_for=["x"]),
            self.row("a", wait_for=[]),
        ]
        trace = load_trace(write(*rows), "agentic_mooncake")
        assert [step.name for program in trace.programs for step in program.steps] == ["a"]
        assert trace.skipped == {
            "request that waits for one that never ends": 4,
            "request_id for the second time": 1,
        }

    def test_block_size_from_the_longest_prompt(self, write):
        long = self.row("a", input_length=1000, hash_ids=list(range(16)))
        other = self.row("b", input_length=640, hash_ids=[*range(9), 77])
        first, second = (
            p.steps[0] for p in load_trace(write(long, other | {"session_id": "t"}), "agentic_mooncake").programs
        )
        assert common(tokens(first.parts), tokens(second.parts)) == 9 * 64

    def test_the_version_with_a_header(self, write):
        rows = [
            {"schema": "agentic_mooncake", "version": 1, "block_size": 32, "hash_id_scope": "local"},
            self.row("a", play_id="p", not_before_ms=100),
            self.row("b", play_id="p", dependencies=[{"request_id": "a", "trigger": "completion", "delay_ms": 50}]),
            self.row("c", play_id="p", dependencies=[{"request_id": "b", "trigger": "dispatch", "delay_ms": 25}]),
            self.row("d", play_id="q", not_before_ms=600),
        ]
        one, other = load_trace(write(*rows), "agentic_mooncake").programs
        assert [(step.name, step.after, step.wait_s) for step in one.steps] == [
            ("a", (), 0.0),
            ("b", ("a",), 0.05),
            ("c", ("a",), pytest.approx(0.075)),
        ]
        assert (one.id, other.id, other.arrival_s) == ("p", "q", 0.5)
        assert common(tokens(one.steps[0].parts), tokens(one.steps[1].parts)) == 64
        assert common(tokens(one.steps[0].parts), tokens(other.steps[0].parts)) == 0, "ids are local to a play"


def turn(text, **fields):
    return {"messages": [{"role": "user", "content": text}]} | fields


class TestDagJsonl:
    def steps(self, write, *rows):
        trace = load_trace(write(*rows), "dag_jsonl")
        check_programs(trace.programs)
        return {step.name: step for program in trace.programs for step in program.steps}

    def test_turns_append_to_what_was_said(self, write):
        row = {"session_id": "s", "turns": [turn("a" * 400, max_tokens=7), turn("b" * 40, delay=1500)]}
        steps = self.steps(write, row)
        first, second = steps["s.turn-0"], steps["s.turn-1"]
        assert (first.prompt_tokens, first.output_tokens) == (100, 7)
        assert second.prompt_tokens == 100 + 7 + 10
        assert common(tokens(first.parts), tokens(second.parts)) == 100
        assert (second.after, second.wait_s) == (("s.turn-0",), 1.5)

    def test_forks_go_on_from_the_context_and_end_the_session(self, write):
        rows = [
            {"session_id": "root", "turns": [turn("a" * 400, forks=["one", "two"])]},
            {"session_id": "one", "turns": [turn("b" * 40)]},
            {"session_id": "two", "turns": [turn("c" * 40)]},
        ]
        steps = self.steps(write, *rows)
        for name in ("one", "two"):
            assert steps[f"{name}.turn-0"].after == ("root.turn-0",)
            assert steps[f"{name}.turn-0"].agent == name
            assert steps[f"{name}.turn-0"].parts[:2] == (
                *steps["root.turn-0"].parts,
                steps["one.turn-0"].parts[1],
            )

    def test_spawns_start_empty_and_are_joined(self, write):
        rows = [
            {
                "session_id": "root",
                "turns": [
                    turn("plan", spawns=["now", {"children": ["late"], "join_at": 2}]),
                    turn("one"),
                    turn("two"),
                ],
            },
            {"session_id": "now", "turns": [turn("b" * 40), turn("more")]},
            {"session_id": "late", "turns": [turn("c" * 40)]},
        ]
        steps = self.steps(write, *rows)
        assert steps["now.turn-0"].prompt_tokens == 10
        assert steps["root.turn-1"].after == ("root.turn-0", "now.turn-1")
        assert steps["root.turn-2"].after == ("root.turn-1", "late.turn-0")

    def test_a_fork_in_the_background_lets_the_session_go_on(self, write):
        rows = [
            {"session_id": "root", "turns": [turn("a", forks=[{"child": "c", "background": True}]), turn("b")]},
            {"session_id": "c", "turns": [turn("d")]},
        ]
        steps = self.steps(write, *rows)
        assert steps["root.turn-1"].after == ("root.turn-0",)

    def test_equal_messages_are_equal_tokens(self, write):
        tools = [{"type": "function", "function": {"name": "f" * 50}}]
        rows = [{"session_id": name, "turns": [turn("same", tools=tools)]} for name in ("x", "y")]
        steps = self.steps(write, *rows)
        assert steps["x.turn-0"].parts == steps["y.turn-0"].parts
        assert steps["x.turn-0"].parts[0].context is Context.TOOLS

    def test_turns_that_bring_their_whole_context(self, write):
        row = {
            "session_id": "s",
            "context_mode": "message_array_with_responses",
            "turns": [turn("a" * 40), turn("b" * 80)],
        }
        assert self.steps(write, row)["s.turn-1"].prompt_tokens == 20

    def test_sessions_that_start_each_other_or_are_not_there(self, write):
        rows = [
            {"session_id": "root", "turns": [turn("a", spawns=["gone", "child", "child"])]},
            {"session_id": "child", "turns": [turn("b")]},
            {"session_id": "x", "turns": [turn("c", spawns=["y"])]},
            {"session_id": "y", "turns": [turn("d", spawns=["x"])]},
        ]
        trace = load_trace(write(*rows), "dag_jsonl")
        assert [program.id for program in trace.programs] == ["root"]
        assert trace.skipped == {
            "start of a session that is not there, for the second time or too deep": 2,
            "session that no other starts in the end": 2,
        }

    def test_a_very_long_chain_of_sessions(self, write):
        rows = [{"session_id": str(n), "turns": [turn("a", spawns=[str(n + 1)])]} for n in range(5000)]
        trace = load_trace(write(*rows), "dag_jsonl")
        assert len(trace.programs[0].steps) == 101
        assert trace.skipped.total() > 0
