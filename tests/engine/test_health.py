"""When a server may be sent requests."""

from __future__ import annotations

from router.core.types import Health, Outcome
from router.engine.health import Check, HealthSettings, HealthTracker

SETTINGS = HealthSettings(interval_s=5.0, recheck_s=0.5, late_checks=3, failed_requests=3, open_s=1.0, max_open_s=4.0)


def healthy() -> HealthTracker:
    tracker = HealthTracker(SETTINGS)
    tracker.checked(Check.OK, 0.0)
    assert tracker.health is Health.HEALTHY
    return tracker


class TestChecks:
    def test_a_server_starts_until_it_answers(self) -> None:
        tracker = HealthTracker(SETTINGS)
        tracker.checked(Check.DOWN, 0.0)
        assert tracker.health is Health.STARTING
        assert tracker.next_check_s == 0.5
        tracker.checked(Check.OK, 0.5)
        assert tracker.health is Health.HEALTHY
        assert tracker.next_check_s == 5.5

    def test_a_refused_connection_is_enough(self) -> None:
        tracker = healthy()
        tracker.checked(Check.DOWN, 5.0)
        assert tracker.health is Health.UNHEALTHY
        tracker.checked(Check.OK, 5.5)
        assert tracker.health is Health.HEALTHY

    def test_late_answers_count_in_a_row(self) -> None:
        tracker = healthy()
        for check in (Check.LATE, Check.LATE, Check.OK, Check.LATE, Check.LATE):
            tracker.checked(check, 5.0)
        assert tracker.health is Health.HEALTHY
        tracker.checked(Check.LATE, 5.0)
        assert tracker.health is Health.UNHEALTHY


class TestRequests:
    def test_one_failure_causes_a_check_at_once(self) -> None:
        tracker = healthy()
        tracker.note(Outcome.FAILED, 2.0)
        assert tracker.health is Health.HEALTHY
        assert tracker.next_check_s == 2.0

    def test_failures_do_not_cause_checks_without_pause(self) -> None:
        tracker = healthy()
        tracker.note(Outcome.FAILED, 0.1)
        assert tracker.next_check_s == 0.5

    def test_failures_in_a_row_open_the_circuit_though_checks_succeed(self) -> None:
        tracker = healthy()
        for outcome in (Outcome.FAILED, Outcome.TIMEOUT, Outcome.FAILED):
            tracker.checked(Check.OK, 1.0)
            tracker.note(outcome, 1.0)
        assert tracker.health is Health.UNHEALTHY
        tracker.checked(Check.OK, 1.9)
        assert tracker.health is Health.UNHEALTHY
        tracker.checked(Check.OK, 2.0)
        assert tracker.health is Health.HEALTHY

    def test_success_between_failures_keeps_it_closed(self) -> None:
        tracker = healthy()
        for _ in range(10):
            tracker.note(Outcome.FAILED, 1.0)
            tracker.note(Outcome.FAILED, 1.0)
            tracker.note(Outcome.OK, 1.0)
        assert tracker.health is Health.HEALTHY

    def test_refusals_and_clients_that_leave_are_no_failures(self) -> None:
        tracker = healthy()
        for _ in range(10):
            tracker.note(Outcome.REJECTED, 1.0)
            tracker.note(Outcome.CLIENT_GONE, 1.0)
        assert tracker.health is Health.HEALTHY

    def test_on_trial_one_failure_opens_it_again_for_longer(self) -> None:
        tracker = healthy()
        opened = []
        now = 0.0
        for _ in range(3):
            tracker.note(Outcome.FAILED, now)
        for _ in range(4):
            until = now
            while tracker.health is not Health.HEALTHY:
                until += 0.5
                tracker.checked(Check.OK, until)
            opened.append(until - now)
            now = until
            tracker.note(Outcome.FAILED, now)
        assert opened == [1.0, 2.0, 4.0, 4.0]

    def test_on_trial_one_success_closes_it(self) -> None:
        tracker = healthy()
        for _ in range(3):
            tracker.note(Outcome.FAILED, 0.0)
        tracker.checked(Check.OK, 1.0)
        tracker.note(Outcome.OK, 1.0)
        tracker.note(Outcome.FAILED, 1.0)
        assert tracker.health is Health.HEALTHY
