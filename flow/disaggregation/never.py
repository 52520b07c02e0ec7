"""Computes every prompt where it is answered."""

from __future__ import annotations

from router.core.disaggregation.rule import Ways


class Never:
    name = "never"
    splits = False

    def disaggregates(self, ways: Ways) -> bool:
        return False
