"""Counting what goes wrong, and not flooding the log with it."""

from __future__ import annotations

import pytest

from router.engine.trouble import QUIET_S, Troubles


def test_every_case_counts_and_the_log_hears_of_each_kind_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    troubles = Troubles(lambda: now[0])
    for _ in range(3):
        troubles.note("malformed", "r0", "bad line")
    troubles.note("malformed", "r1", "bad line", times=5)
    assert troubles.counts == {"malformed": 8}
    assert [record.getMessage() for record in caplog.records] == ["r0: bad line", "r1: bad line"]
    now[0] = QUIET_S
    troubles.note("malformed", "r0", "still bad")
    assert caplog.records[-1].getMessage() == "r0: still bad"


def test_a_source_that_is_gone_is_forgotten_but_its_counts_stay(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles(lambda: 0.0)
    troubles.note("malformed", "r0", "bad line")
    troubles.forget("r0")
    troubles.note("malformed", "r0", "bad line")
    assert troubles.counts == {"malformed": 2}
    assert len(caplog.records) == 2
