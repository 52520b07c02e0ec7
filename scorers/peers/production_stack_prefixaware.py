"""vLLM production-stack's ``prefixaware``: a replica that was sent the longest prefix of the prompt, any of them.

``score = characters of the prompt sent there before / its characters``, in chunks of 128 characters. Load plays no
role, and nobody is preferred among equals: since all prompts of an application begin alike, its first replica gets
them all.

Source: vllm-project/production-stack, ``src/vllm_router/routers/routing_logic.py`` (``PrefixAwareRouter``, a6c01db,
``--prefix-min-match-length`` 0) and ``src/vllm_router/prefix/hashtrie.py`` (35e4ad3). Its trie forgets nothing; this
one keeps ``max_chunks``.
"""

from __future__ import annotations

from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.peers.sent_prefixes import CHARS_PER_TOKEN, SentPrefixes

_CHUNK_TOKENS = 128 // CHARS_PER_TOKEN


class ProductionStackPrefixaware:
    name = "production-stack-prefixaware"

    def __init__(self, max_chunks: int = 1 << 22) -> None:
        self._sent = SentPrefixes(_CHUNK_TOKENS, max_chunks)

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        matched_tokens: Scores = self._sent.match(request, candidates) * _CHUNK_TOKENS
        return matched_tokens / max(request.prompt_tokens, 1)

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        self._sent.add(request, candidates, position)
