"""Computes every prompt on a prefill replica."""

from __future__ import annotations

from router.core.disaggregation.rule import Ways


class Always:
    name = "always"
    splits = True

    def disaggregates(self, ways: Ways) -> bool:
        return True
