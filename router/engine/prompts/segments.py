"""Tokenises text in pieces that are remembered, so that a conversation's next turn costs only what is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import getsizeof

from tokenizers import Tokenizer

from router.core.types import Tokens
from router.engine.prompts.chat_input import PromptUnknownError
from router.engine.prompts.cuts import Cutter
from router.engine.prompts.memo import Memo
from router.engine.prompts.token_ids import as_tokens

Piece = str


class Segmenter:
    """The ids of a text, piece by piece."""

    def __init__(self, tokenizer: Tokenizer, memo_bytes: int = 128 << 20) -> None:
        self._tokenizer = tokenizer
        self.memo: Memo[Piece, Tokens] = Memo(memo_bytes)
        self._cutter = Cutter(tokenizer)

    def split(self, text: str) -> list[Piece]:
        """Pieces whose ids, one after the other, are the ids of ``text``."""
        cuts = self._cutter.positions(text)
        if not cuts:
            return [text] if text else []
        return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def known(self, pieces: Sequence[Piece]) -> dict[Piece, Tokens]:
        """The ids of those pieces that are remembered."""
        recall = self.memo.get
        return {piece: ids for piece in pieces if (ids := recall(piece)) is not None}

    def tokenise(self, pieces: Sequence[Piece]) -> dict[Piece, Tokens]:
        """The ids of each piece, computed.

        Lets other threads run and may be called from any. Raises PromptUnknownError when the tokenizer cannot.
        """
        try:
            encodings = self._tokenizer.encode_batch_fast(list(pieces), add_special_tokens=False)
        except Exception as error:  # all that the library raises, also for text that is not valid Unicode
            raise PromptUnknownError("tokenizer") from error
        return {piece: as_tokens(found.ids) for piece, found in zip(pieces, encodings, strict=True)}

    def tokens_before(self, position: int, pieces: Sequence[Piece], found: Mapping[Piece, Tokens]) -> int:
        """How many tokens of a text stand before character ``position`` of it."""
        tokens = 0
        for piece in pieces:
            if position < len(piece):
                start = piece[:position]
                return tokens + (len(self.tokenise([start])[start]) if start else 0)
            tokens += len(found[piece])
            position -= len(piece)
        return tokens

    def remember(self, found: Mapping[Piece, Tokens]) -> None:
        for piece, ids in found.items():
            self.memo.put(piece, ids, getsizeof(piece) + ids.nbytes)
