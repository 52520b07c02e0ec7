"""The local mode around the tokenizer: threads, memo, batches, media, and what it leaves to the replica."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from router.core.types import Prompt
from router.engine.api import ApiRequest, read_body
from router.engine.prompts import aside
from router.engine.prompts.local import MAX_CHARS, LocalPrompts
from router.engine.prompts.media import MAX_LOCATED
from router.engine.prompts.tokenizer import TokenizerError

TINY = Path(__file__).parent / "fixtures" / "tiny"
LONG = "def read(path):\n    return open(path).read()\n" * 60


def chat(*contents: Any, **fields: Any) -> ApiRequest:
    messages = [{"role": "user", "content": content} for content in contents]
    return read_body("/v1/chat/completions", json.dumps({"messages": messages, **fields}).encode())


def completion(**fields: Any) -> ApiRequest:
    return read_body("/v1/completions", json.dumps(fields).encode())


def text_of(prompts: LocalPrompts, prompt: Prompt) -> str:
    return prompts.tokenizer.decode(prompt.token_ids.tolist(), skip_special_tokens=False)


def at_once(prompts: LocalPrompts, api: ApiRequest) -> Prompt:
    made = prompts.make(api)
    assert isinstance(made, Prompt)
    return made


@pytest.fixture
def prompts() -> LocalPrompts:
    return LocalPrompts(TINY)


def copy_of_tiny(directory: Path, **config: Any) -> Path:
    (directory / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
    original = json.loads((TINY / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps(original | config))
    return directory


class TestThreads:
    async def test_long_new_text_is_tokenised_beside_the_loop(self) -> None:
        prompts = LocalPrompts(TINY, inline_chars=100)
        made = prompts.make(chat(LONG))
        assert isinstance(made, Awaitable)
        aside = await made
        assert aside is not None
        assert aside.token_ids.tolist() == at_once(LocalPrompts(TINY), chat(LONG)).token_ids.tolist()
        at_once(prompts, chat(LONG))
        prompts.close()

    async def test_siblings_tokenise_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        prompts = LocalPrompts(TINY, inline_chars=100)
        computed: list[str] = []
        tokenise = prompts.segments.tokenise
        may_start = threading.Event()

        def slowly(pieces: list[str]) -> Any:
            may_start.wait()
            computed.extend(pieces)
            return tokenise(pieces)

        monkeypatch.setattr(prompts.segments, "tokenise", slowly)
        waiting = [asyncio.ensure_future(prompts.make(chat(LONG, f"question {n}"))) for n in range(5)]
        await asyncio.sleep(0)
        may_start.set()
        made = await asyncio.gather(*waiting)
        assert len({tuple(prompt.token_ids.tolist()) for prompt in made}) == 5
        assert len([piece for piece in computed if LONG in piece]) == 1

    async def test_a_client_that_leaves_does_not_take_others_along(self) -> None:
        prompts = LocalPrompts(TINY, inline_chars=100)
        gone = asyncio.ensure_future(prompts.make(chat(LONG)))
        stays = asyncio.ensure_future(prompts.make(chat(LONG)))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays is not None

    async def test_a_flood_of_long_prompts_is_not_queued_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(aside, "MAX_WAITING_CHARS", 2 * len(LONG))
        prompts = LocalPrompts(TINY, inline_chars=100)
        flood = [prompts.make(chat(f"{number} {LONG}")) for number in range(10)]
        made = await asyncio.gather(*(each for each in flood if isinstance(each, Awaitable)))
        assert len(made) == 10
        assert 0 < made.count(None) < 10
        assert prompts.skipped == {"tokenizer busy": made.count(None)}
        again = prompts.make(chat(f"new {LONG}"))
        assert isinstance(again, Awaitable)
        assert await again is not None

    async def test_text_that_no_tokenizer_takes_is_no_prompt(self) -> None:
        call = {"type": "function", "function": {"name": "f", "arguments": '{"a": "\\ud800"}'}}
        body = {"messages": [{"role": "assistant", "content": LONG, "tool_calls": [call]}]}
        api = read_body("/v1/chat/completions", json.dumps(body).encode())
        for inline_chars in (100, 100_000):
            prompts = LocalPrompts(TINY, chat_template="{{ messages | tojson }}", inline_chars=inline_chars)
            made = prompts.make(api)
            assert (await made if isinstance(made, Awaitable) else made) is None
            assert prompts.skipped == {"tokenizer": 1}


class TestPrompts:
    def test_the_next_turn_extends_the_last(self, prompts: LocalPrompts) -> None:
        first = at_once(prompts, chat("one", "two", add_generation_prompt=False))
        second = at_once(prompts, chat("one", "two", "three"))
        assert second.token_ids[: len(first)].tolist() == first.token_ids.tolist()

    def test_a_tiny_memo_changes_nothing(self, prompts: LocalPrompts) -> None:
        forgetful = LocalPrompts(TINY, memo_bytes=1)
        for api in (chat(LONG), chat(LONG, "more"), chat(LONG)):
            assert at_once(forgetful, api).token_ids.tolist() == at_once(prompts, api).token_ids.tolist()

    @pytest.mark.parametrize("prompt", [["first", "second"], "first"])
    def test_the_first_of_a_batch_counts(self, prompts: LocalPrompts, prompt: Any) -> None:
        assert text_of(prompts, at_once(prompts, completion(prompt=prompt))) == "first"

    def test_token_ids_pass_through(self, prompts: LocalPrompts) -> None:
        assert at_once(prompts, completion(prompt=[5, 0, 4095])).token_ids.tolist() == [5, 0, 4095]

    @pytest.mark.parametrize("prompt", [[-1], [2**32], [1.5], [[1], "x"], [], [[]], "", None, [None]])
    def test_what_is_no_prompt(self, prompts: LocalPrompts, prompt: Any) -> None:
        assert prompts.make(completion(prompt=prompt)) is None

    @pytest.mark.parametrize(("limit", "kept"), [(2, False), (-1, False), (3, True), (100, True), (None, True)])
    def test_truncated_prompts_are_left_to_the_replica(
        self, prompts: LocalPrompts, limit: int | None, kept: bool
    ) -> None:
        assert (prompts.make(completion(prompt=[1, 2, 3], truncate_prompt_tokens=limit)) is not None) is kept

    def test_special_tokens_go_around_completions_only(self, tmp_path: Path) -> None:
        prompts = LocalPrompts(copy_of_tiny(tmp_path, add_bos_token=True, add_eos_token=True))
        assert text_of(prompts, at_once(prompts, completion(prompt="hi"))) == "<s>hi<|im_end|>"
        assert text_of(prompts, at_once(prompts, completion(prompt="hi", add_special_tokens=False))) == "hi"
        assert not text_of(prompts, at_once(prompts, chat("hi"))).startswith("<s>")
        assert text_of(prompts, at_once(prompts, chat("hi", add_special_tokens=True))).startswith("<s>")

    def test_the_servers_own_template_and_defaults(self) -> None:
        prompts = LocalPrompts(
            TINY, chat_template="{{ messages[0].content }}{{ tone }}", template_defaults={"tone": "calm"}
        )
        assert text_of(prompts, at_once(prompts, chat("x"))) == "xcalm"
        assert text_of(prompts, at_once(prompts, chat("x", chat_template_kwargs={"tone": "loud"}))) == "xloud"

    @pytest.mark.parametrize(
        "fields",
        [
            {"chat_template": "{{ 1 }}"},
            {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
            {"continue_final_message": True},
            {"tools": []},
            {"reasoning_effort": "extreme"},
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
        ],
    )
    def test_what_is_left_to_the_replica_is_counted(self, prompts: LocalPrompts, fields: dict[str, Any]) -> None:
        assert prompts.make(chat("hi", **fields)) is None
        assert prompts.skipped.total() == 1

    def test_endless_prompts_are_left_to_the_replica(self, prompts: LocalPrompts) -> None:
        assert prompts.make(completion(prompt="x" * (MAX_CHARS + 1))) is None
        assert prompts.skipped == {"too long": 1}

    def test_a_model_without_template_has_completions(self, tmp_path: Path) -> None:
        prompts = LocalPrompts(copy_of_tiny(tmp_path, chat_template=None))
        assert prompts.make(chat("hi")) is None
        assert at_once(prompts, completion(prompt="hi"))


class TestMedia:
    PARTS = (
        "{% for m in messages %}{% for p in m.content %}"
        "{{ p.text if p.type == 'text' else '<pad>' }}"
        "{% endfor %}{% endfor %}"
    )

    @staticmethod
    def image(url: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": url}}

    def test_tokens_are_exact_up_to_the_image_and_differ_behind_it(self) -> None:
        prompts = LocalPrompts(TINY, chat_template=self.PARTS)
        one, other = (
            at_once(prompts, chat(["look at ", self.image(url), " and ", self.image("http://same")]))
            for url in ("http://a", "http://b")
        )
        assert one.token_ids.tolist() == other.token_ids.tolist()
        (first, key), (second, same_key) = one.media
        assert text_of(prompts, Prompt(one.token_ids[:first])) == "look at "
        assert text_of(prompts, Prompt(one.token_ids[:second])) == "look at <pad> and "
        assert other.media[0] == (first, other.media[0][1]) != (first, key)
        assert other.media[1] == (second, same_key)

    def test_templates_that_take_text_get_media_in_front_of_the_message(self, prompts: LocalPrompts) -> None:
        made = at_once(prompts, chat("before", ["look", self.image("http://a")]))
        start = "<|im_start|>user\nbefore<|im_end|>\n<|im_start|>user\n"
        assert text_of(prompts, Prompt(made.token_ids[: made.media[0][0]])) == start

    def test_very_many_images_all_count(self) -> None:
        prompts = LocalPrompts(TINY, chat_template=self.PARTS)
        urls = [f"http://{n}" for n in range(MAX_LOCATED + 3)]
        one = at_once(prompts, chat([self.image(url) for url in urls]))
        other = at_once(prompts, chat([self.image(url) for url in [*urls[:-1], "http://other"]]))
        assert len(one.media) == MAX_LOCATED
        assert one.media != other.media

    def test_images_of_the_other_apis(self) -> None:
        prompts = LocalPrompts(TINY, chat_template=self.PARTS)
        source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
        anthropic = {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
        openai = {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://a"}]}]}
        for path, body in (("/v1/messages", anthropic), ("/v1/responses", openai)):
            made = at_once(prompts, read_body(path, json.dumps(body).encode()))
            assert [position for position, _ in made.media] == [0]


class TestDirectories:
    def test_no_tokenizer(self, tmp_path: Path) -> None:
        with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
            LocalPrompts(tmp_path)

    def test_not_a_tokenizer(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text('{"model": 1}')
        with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
            LocalPrompts(tmp_path)

    @pytest.mark.parametrize(
        ("name", "content"), [("config.json", '{"architectures": ["GptOssForCausalLM"]}'), ("tekken.json", "{}")]
    )
    def test_models_whose_prompts_vllm_makes_in_code(self, tmp_path: Path, name: str, content: str) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(TokenizerError, match="mode replica"):
            LocalPrompts(copy_of_tiny(tmp_path))

    def test_template_files_win_over_the_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "chat_template.jinja").write_text("file")
        prompts = LocalPrompts(copy_of_tiny(tmp_path))
        assert text_of(prompts, at_once(prompts, chat("hi"))) == "file"

    def test_named_templates(self, tmp_path: Path) -> None:
        templates = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
        prompts = LocalPrompts(copy_of_tiny(tmp_path, chat_template=templates))
        tool = {"type": "function", "function": {"name": "f"}}
        assert text_of(prompts, at_once(prompts, chat("hi"))) == "plain"
        assert text_of(prompts, at_once(prompts, chat("hi", tools=[tool]))) == "tools"

    def test_added_tokens_of_the_configuration(self, tmp_path: Path) -> None:
        added = {"4096": {"content": "<new>", "special": True, "normalized": False}}
        prompts = LocalPrompts(copy_of_tiny(tmp_path, added_tokens_decoder=added))
        assert at_once(prompts, completion(prompt="<new>")).token_ids.tolist() == [4096]

    def test_added_tokens_that_do_not_fit(self, tmp_path: Path) -> None:
        added = {"9999": {"content": "<new>", "special": True}}
        with pytest.raises(TokenizerError, match="should have id 9999"):
            LocalPrompts(copy_of_tiny(tmp_path, added_tokens_decoder=added))
