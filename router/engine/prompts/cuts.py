"""Finds the places at which a text can be cut so that its pieces have the ids of the whole.

A byte-pair encoder never merges across an added token such as ``<|im_end|>``: the tokenizer takes added tokens
out of a text first and encodes what is left between them. So a text can be cut in front of one. Not of every one:

- tokens that look at their surroundings (``lstrip``, ``rstrip``, ``single_word``) are found, because they may
  swallow others, but not cut at, and those in front of a cut must not be able to tell it from the text's end;
- tokens that match normalised text are taken out in a second round, from what the first one left. They are cut
  at when there is no normalizer.

Cutting in front of the token, not behind it, also keeps pre-tokenizers right that treat the start of the input
in their own way (Metaspace with ``prepend_scheme="first"``): every piece but the first starts with an added
token, and so has no text at its start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from string import punctuation

from tokenizers import AddedToken, Tokenizer

MAX_CUTS = 8192
"""Added tokens that are looked at; the rest of a text is one piece. So a client cannot make us cut for long."""

_PUNCTUATION = frozenset(punctuation) - {"_"}


class Cutter:
    """Where the texts of one tokenizer can be cut."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = [token for token in tokenizer.get_added_tokens_decoder().values() if token.content]
        late = [token for token in added if token.normalized] if _keeps_text(tokenizer) else []
        self._first = _longest_first([token.content for token in added if not token.normalized])
        self._second = _longest_first([token.content for token in late])
        self._cut = frozenset(token.content for token in added if _can_be_cut_at(token))

    def positions(self, text: str) -> list[int]:
        """Ascending positions in ``text``, without its start."""
        matches = islice(self._matches(text), MAX_CUTS)
        return [match.start() for match in matches if match[0] in self._cut and match.start()]

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        """The added tokens in ``text``, as the tokenizer finds them."""
        if self._second is None:
            return iter(()) if self._first is None else self._first.finditer(text)
        return self._in_two_rounds(text, self._second)

    def _in_two_rounds(self, text: str, second: re.Pattern[str]) -> Iterator[re.Match[str]]:
        end = 0
        for match in self._first.finditer(text) if self._first is not None else ():
            yield from second.finditer(text, end, match.start())
            yield match
            end = match.end()
        yield from second.finditer(text, end)


def _can_be_cut_at(token: AddedToken) -> bool:
    """Whether what stands in front of ``token`` cannot tell it from the end, nor what follows it from a start.

    A ``single_word`` token in front looks whether a word goes on, an ``rstrip`` token takes blanks: neither
    sees a difference between punctuation and nothing.
    """
    looks_around = token.lstrip or token.rstrip or token.single_word
    return not looks_around and token.content[0] in _PUNCTUATION and not token.content[-1].isspace()


def _keeps_text(tokenizer: Tokenizer) -> bool:
    """Whether there is no normalizer, or one that does nothing."""
    if tokenizer.normalizer is None:
        return True
    return bool(json.loads(tokenizer.normalizer.__getstate__()) == {"type": "Sequence", "normalizers": []})


def _longest_first(tokens: Sequence[str]) -> re.Pattern[str] | None:
    """Finds what the tokenizer's own automaton finds: the leftmost token, and of several the longest.

    A prefix that all tokens share is factored out, which lets the search skip text at memory speed.
    """
    if not tokens:
        return None
    shared = _shared_prefix(min(tokens), max(tokens))
    rests = sorted((token[len(shared) :] for token in tokens), key=len, reverse=True)
    return re.compile(re.escape(shared) + "(?:" + "|".join(map(re.escape, rests)) + ")")


def _shared_prefix(one: str, other: str) -> str:
    """Of the least and the greatest of some strings: what all of them start with."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
