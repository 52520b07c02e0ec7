"""Cutting a text at added tokens, and remembering the pieces, changes no token id."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from router.engine.prompts.cuts import MAX_CUTS
from router.engine.prompts.segments import Segmenter

CORPUS = ["def reader(path): return open(path).read()", "the quick brown fox", "Grüße aus Köln 123"] * 20
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level(split: str | None, add_prefix_space: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=split is None)
    steps = [bytes_] if split is None else [pre_tokenizers.Split(Regex(split), "isolated"), bytes_]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return trained(tokenizer, trainers.BpeTrainer(vocab_size=400, initial_alphabet=bytes_.alphabet()))


def sentencepiece(scheme: str | None) -> Tokenizer:
    """Like Llama 2: with a normaliser that prepends, or with Metaspace by the given scheme."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if scheme is None:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split=False)
    return trained(tokenizer, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "</s>", *BYTES]))


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return trained(tokenizer, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "[CLS]", "[SEP]"]))


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    return trained(
        tokenizer, trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>", "</s>"], unk_token="<unk>")
    )


def trained(tokenizer: Tokenizer, trainer: trainers.Trainer) -> Tokenizer:
    """With added tokens of every kind, some of them overlapping each other."""
    trainer.show_progress = False
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|im_end|>2", "im_end", "te|>"])
    tokenizer.add_tokens(
        [
            AddedToken("<think>", normalized=False),
            AddedToken("<left>", lstrip=True, normalized=False),
            AddedToken("<right>", rstrip=True, normalized=False),
            AddedToken("fox", single_word=True, normalized=False),
            AddedToken("Grüße", normalized=True),
            AddedToken("<|late|>", normalized=True),
            AddedToken("<|late|>er", normalized=True),
            AddedToken(" blank ", normalized=False),
        ]
    )
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: byte_level(None),
    "gpt2-prefix-space": lambda: byte_level(None, add_prefix_space=True),
    "llama3": lambda: byte_level(WORDS),
    "llama2-prepend": lambda: sentencepiece(None),
    "llama2-first": lambda: sentencepiece("first"),
    "llama2-always": lambda: sentencepiece("always"),
    "bert": word_piece,
    "unigram": unigram,
}

ADDED = [
    "<|im_start|>",
    "<|im_end|>",
    "<|im_end|>2",
    "im_end",
    "<think>",
    "<left>",
    "<right>",
    "fox",
    "Grüße",
    " blank ",
]
PARTS = ["</s>", "<unk>", "[SEP]", " ", "  ", "\n", "\n\n", "\t", "reader", " path", "user\n", "foxes", "▁", "Ġ", "é"]
PARTS += ["e\u0301", "ﬁ", "世界", "👩\u200d👧", "<|im_", "start|>", "123", "don't", "'s", "<", "|>", "\u00a0"]
fragments = st.sampled_from(ADDED) | st.sampled_from(PARTS)
texts = st.lists(fragments | st.text(max_size=6), max_size=25).map("".join)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


def ids_by_piece(segments: Segmenter, text: str) -> list[int]:
    pieces = segments.split(text)
    found = segments.known(pieces)
    new = segments.tokenise([piece for piece in pieces if piece not in found])
    segments.remember(new)
    found.update(new)
    return [token for piece in pieces for token in found[piece].tolist()]


@given(st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_pieces_give_the_ids_of_the_whole(tokenizer: Tokenizer, conversations: list[str]) -> None:
    segments = Segmenter(tokenizer, memo_bytes=20_000)
    for text in [*conversations, *conversations]:
        assert ids_by_piece(segments, text) == tokenizer.encode(text, add_special_tokens=False).ids


@given(texts)
@settings(max_examples=100, deadline=None)
def test_pieces_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    assert "".join(Segmenter(tokenizer).split(text)) == text


def test_a_longer_conversation_only_adds_pieces(tokenizer: Tokenizer) -> None:
    segments = Segmenter(tokenizer)
    turn = "<|im_start|>user\nread the path<|im_end|>"
    ids_by_piece(segments, turn * 3)
    before = len(segments.memo)
    ids_by_piece(segments, turn * 3 + "<|im_start|>user\nand now this<|im_end|>")
    assert len(segments.memo) == before + 1


def test_cuts_are_bounded(tokenizer: Tokenizer) -> None:
    text = "<think>" * (MAX_CUTS + 500)
    segments = Segmenter(tokenizer)
    assert len(segments.split(text)) <= MAX_CUTS + 1
    assert ids_by_piece(segments, text) == tokenizer.encode(text, add_special_tokens=False).ids


def test_tokens_before_a_position(tokenizer: Tokenizer) -> None:
    segments = Segmenter(tokenizer)
    text = "<|im_start|>user\nthe quick <|im_start|>brown fox<|im_end|>"
    pieces = segments.split(text)
    found = segments.tokenise(pieces)
    for position in (0, 12, text.rindex("<|im_start|>"), len(text)):
        expected = len(tokenizer.encode(text[:position], add_special_tokens=False).ids)
        assert segments.tokens_before(position, pieces, found) == expected
