"""What happens to a stream of KV events, case by case."""

from __future__ import annotations

import math

import pytest

from router.core.types import IndexState
from router.engine.kv_events.actions import Action, Announce, Apply, AskReplay, Message, Reset, StopReplay
from router.engine.kv_events.sequence import Sequence, SequenceSettings

SYNCED = Announce(IndexState.SYNCED)
PARTIAL = Announce(IndexState.PARTIAL)
DEGRADED = Announce(IndexState.DEGRADED)
TIMEOUT_S = SequenceSettings().replay_timeout_s
RETRY_S = SequenceSettings().retry_s


def message(seq: int, life: str = "a") -> Message:
    return Message(seq, f"{life}{seq}".encode())


def stream(first: int, last: int, life: str = "a") -> list[Message]:
    return [message(seq, life) for seq in range(first, last + 1)]


def without_replay(*batch: Message) -> Sequence:
    """A connected sequence that nobody answers, after these messages."""
    sequence = Sequence(can_replay=False)
    sequence.connected(0.0)
    sequence.messages(list(batch), 0.0)
    return sequence


def told(actions: list[Action]) -> list[object]:
    """Actions with applied payloads as text, without the bookkeeping."""
    return [
        [payload.decode() for payload in action.payloads] if isinstance(action, Apply) else action
        for action in actions
        if not isinstance(action, StopReplay)
    ]


def synced(last: int) -> Sequence:
    """A sequence that has seen all of life ``a`` up to ``last``."""
    sequence = Sequence(can_replay=True)
    sequence.connected(0.0)
    sequence.replayed(stream(0, last), 0.0)
    sequence.replay_ended(0.0)
    assert sequence.state is IndexState.SYNCED
    return sequence


class TestStart:
    def test_a_late_start_replays_from_the_first_message(self) -> None:
        sequence = Sequence(can_replay=True)
        assert sequence.connected(0.0) == [AskReplay(0)]
        assert told(sequence.replayed(stream(0, 2), 0.0)) == [["a0", "a1", "a2"]]
        assert told(sequence.replay_ended(0.0)) == [SYNCED]

    def test_live_messages_wait_for_the_replay_and_count_once(self) -> None:
        sequence = Sequence(can_replay=True)
        sequence.connected(0.0)
        assert sequence.messages(stream(2, 4), 0.0) == []
        assert told(sequence.replayed(stream(0, 3), 0.0)) == [["a0", "a1", "a2", "a3"]]
        assert told(sequence.replay_ended(0.0)) == [SYNCED, ["a4"]]

    def test_history_beyond_the_buffer_makes_it_partial(self) -> None:
        sequence = Sequence(can_replay=True)
        sequence.connected(0.0)
        assert told(sequence.replayed(stream(5, 6), 0.0)) == [["a5", "a6"]]
        sequence.replay_ended(0.0)
        assert sequence.state is IndexState.PARTIAL

    def test_a_publisher_that_has_sent_nothing_is_synced(self) -> None:
        sequence = Sequence(can_replay=True)
        sequence.connected(0.0)
        assert told(sequence.replay_ended(0.0)) == [SYNCED]
        assert told(sequence.messages([message(0)], 0.0)) == [["a0"]]

    @pytest.mark.parametrize(("first", "state"), [(0, IndexState.SYNCED), (7, IndexState.PARTIAL)])
    def test_without_a_replay_socket_the_first_number_tells(self, first: int, state: IndexState) -> None:
        sequence = Sequence(can_replay=False)
        assert sequence.connected(0.0) == []
        assert told(sequence.messages([message(first)], 0.0))[0] == [f"a{first}"]
        assert sequence.state is state


class TestGap:
    def test_is_replayed_from_the_last_message_that_was_applied(self) -> None:
        sequence = synced(3)
        assert sequence.messages([message(6)], 1.0) == [AskReplay(3)]
        assert told(sequence.replayed(stream(3, 6), 1.0)) == [["a4", "a5", "a6"]]
        assert told(sequence.replay_ended(1.0)) == []
        assert sequence.state is IndexState.SYNCED
        assert sequence.counts["gaps"] == 1

    def test_in_the_middle_of_a_batch_splits_it(self) -> None:
        sequence = synced(0)
        assert told(sequence.messages([message(1), message(3)], 1.0)) == [["a1"], AskReplay(1)]

    def test_that_the_buffer_no_longer_covers_degrades_and_goes_on(self) -> None:
        sequence = synced(3)
        sequence.messages([message(9)], 1.0)
        assert told(sequence.replayed(stream(7, 9), 1.0)) == [DEGRADED, ["a7", "a8", "a9"]]
        sequence.replay_ended(1.0)
        assert told(sequence.messages([message(10)], 2.0)) == [["a10"]]
        assert sequence.state is IndexState.DEGRADED
        assert sequence.lost == 1

    def test_counts_as_not_covered_when_the_proof_is_gone_from_the_buffer(self) -> None:
        sequence = synced(3)
        sequence.messages([message(5)], 1.0)
        assert told(sequence.replayed(stream(4, 5), 1.0)) == [DEGRADED, ["a4", "a5"]]

    def test_without_a_replay_socket_degrades_at_once(self) -> None:
        sequence = without_replay(message(0))
        assert told(sequence.messages([message(2)], 1.0)) == [DEGRADED, ["a2"]]

    def test_inside_a_replay_is_asked_for_again(self) -> None:
        sequence = synced(0)
        sequence.messages([message(5)], 1.0)
        assert told(sequence.replayed([message(0), message(1), message(4)], 1.0)) == [["a1"], AskReplay(1)]
        assert told(sequence.replayed(stream(1, 5), 1.0)) == [["a2", "a3", "a4", "a5"]]

    def test_that_no_replay_fills_is_given_up(self) -> None:
        sequence = synced(0)
        sequence.messages([message(5)], 1.0)
        assert told(sequence.replayed([message(0), message(4)], 1.0)) == [AskReplay(0)]
        assert told(sequence.replayed([message(0), message(4)], 1.0)) == [DEGRADED, ["a4"]]


class TestRestart:
    def test_is_seen_by_a_lower_number(self) -> None:
        sequence = synced(5)
        assert sequence.messages([message(0, "b")], 1.0) == [AskReplay(5)]
        assert told(sequence.replay_ended(1.0)) == [Reset(restarted=True), AskReplay(0)]
        assert told(sequence.replayed([message(0, "b")], 1.0)) == [["b0"]]
        sequence.replay_ended(1.0)
        assert sequence.state is IndexState.SYNCED

    def test_is_seen_after_a_reconnection_even_when_the_numbers_fit(self) -> None:
        sequence = synced(5)
        sequence.disconnected()
        assert sequence.connected(1.0) == [AskReplay(5)]
        assert told(sequence.replayed(stream(5, 6, "b"), 1.0)) == [Reset(restarted=True), AskReplay(0)]
        assert told(sequence.replayed(stream(0, 6, "b"), 1.0)) == [[f"b{seq}" for seq in range(7)]]

    def test_makes_messages_held_from_the_old_publisher_worthless(self) -> None:
        sequence = synced(5)
        sequence.messages([message(7)], 1.0)
        sequence.replayed(stream(5, 6, "b"), 1.0)
        sequence.replayed(stream(0, 6, "b"), 1.0)
        assert told(sequence.replay_ended(1.0)) == []

    def test_before_anything_was_applied_makes_them_worthless_too(self) -> None:
        sequence = Sequence(can_replay=True)
        sequence.connected(0.0)
        sequence.messages([message(1)], 0.0)
        sequence.disconnected()
        assert told(sequence.replayed([message(0, "b")], 1.0)) == [["b0"]]
        assert told(sequence.replay_ended(1.0)) == [SYNCED]

    def test_without_a_replay_socket_begins_anew(self) -> None:
        sequence = without_replay(*stream(0, 5))
        assert told(sequence.messages([message(0, "b")], 1.0)) == [Reset(restarted=True), ["b0"]]
        assert sequence.state is IndexState.SYNCED

    def test_is_assumed_at_a_reconnection_without_a_replay_socket(self) -> None:
        sequence = without_replay(*stream(0, 5))
        sequence.disconnected()
        assert told(sequence.connected(1.0)) == [Reset(restarted=True), PARTIAL]


class TestReconnection:
    def test_to_the_same_publisher_goes_on_where_it_was(self) -> None:
        sequence = synced(3)
        sequence.disconnected()
        sequence.connected(1.0)
        assert told(sequence.replayed(stream(3, 5), 1.0)) == [["a4", "a5"]]
        assert told(sequence.replay_ended(1.0)) == []
        assert sequence.state is IndexState.SYNCED

    def test_what_comes_between_the_break_and_the_new_connection_is_left_to_the_replay(self) -> None:
        sequence = synced(3)
        sequence.disconnected()
        assert sequence.messages([message(4)], 1.0) == []
        assert sequence.counts["dropped"] == 1
        assert sequence.connected(1.0) == [AskReplay(3)]

    def test_a_repeated_message_is_not_applied_again(self) -> None:
        sequence = synced(3)
        assert sequence.messages([message(3)], 1.0) == [AskReplay(3)]
        assert told(sequence.replayed([message(3)], 1.0)) == []
        assert told(sequence.replay_ended(1.0)) == []
        assert sequence.state is IndexState.SYNCED


class TestSilentReplaySocket:
    def test_leaves_a_late_start_partial(self) -> None:
        sequence = Sequence(can_replay=True)
        sequence.connected(0.0)
        sequence.messages(stream(4, 5), 0.0)
        assert sequence.deadline_s == TIMEOUT_S
        assert told(sequence.tick(TIMEOUT_S)) == [["a4", "a5"]]
        assert sequence.state is IndexState.PARTIAL

    def test_degrades_at_a_gap(self) -> None:
        sequence = synced(3)
        sequence.messages([message(6)], 0.0)
        assert told(sequence.tick(TIMEOUT_S)) == [DEGRADED, ["a6"]]

    def test_is_asked_for_the_whole_history_later_while_events_go_on(self) -> None:
        sequence = synced(3)
        sequence.messages([message(6)], 0.0)
        sequence.tick(TIMEOUT_S)
        assert sequence.deadline_s == TIMEOUT_S + RETRY_S
        assert sequence.tick(TIMEOUT_S + RETRY_S) == [AskReplay(0)]
        assert told(sequence.messages([message(7)], 40.0)) == [["a7"]]
        assert told(sequence.replayed(stream(0, 7), 40.0)) == [Reset(restarted=False), [f"a{i}" for i in range(8)]]
        assert told(sequence.replay_ended(40.0)) == [SYNCED]
        assert sequence.deadline_s == math.inf

    def test_is_asked_for_it_as_soon_as_it_answers(self) -> None:
        sequence = Sequence(can_replay=True)
        sequence.connected(0.0)
        sequence.messages([message(4)], 0.0)
        sequence.tick(TIMEOUT_S)
        assert sequence.connected(6.0) == [AskReplay(4)]
        sequence.replayed([message(4)], 6.0)
        assert told(sequence.replay_ended(6.0)) == [AskReplay(0)]

    def test_at_a_reconnection_counts_as_a_restart(self) -> None:
        sequence = synced(3)
        sequence.disconnected()
        sequence.connected(0.0)
        sequence.messages([message(4)], 0.0)
        assert told(sequence.tick(TIMEOUT_S)) == [Reset(restarted=True), PARTIAL, ["a4"]]

    def test_of_a_publisher_that_has_sent_nothing_yet_is_no_loss(self) -> None:
        sequence = Sequence(can_replay=True)
        sequence.connected(0.0)
        sequence.tick(TIMEOUT_S)
        sequence.tick(TIMEOUT_S + RETRY_S)
        sequence.replayed([message(5)], 36.0)
        sequence.disconnected()
        sequence.connected(40.0)
        assert told(sequence.replay_ended(40.0)) == [SYNCED]

    def test_that_answers_in_part_is_asked_for_the_rest(self) -> None:
        sequence = Sequence(can_replay=True)
        sequence.connected(0.0)
        sequence.replayed(stream(0, 1), 0.0)
        assert told(sequence.tick(TIMEOUT_S)) == [AskReplay(1)]


class TestUnknownParents:
    def applied(self, sequence: Sequence, seq: int, now: float, **what: object) -> list[object]:
        (done,) = sequence.messages([message(seq)], now)
        assert isinstance(done, Apply)
        unknown_parents, cleared = what.get("unknown_parents", 0), what.get("cleared", False)
        return told(sequence.applied(done, int(str(unknown_parents)), bool(cleared), now))

    def test_cause_one_replay_of_the_whole_history(self) -> None:
        sequence = synced(3)
        assert self.applied(sequence, 4, 1.0, unknown_parents=2) == [AskReplay(0)]
        assert told(sequence.replayed(stream(0, 4), 1.0))[0] == Reset(restarted=False)
        sequence.replay_ended(1.0)
        assert sequence.state is IndexState.SYNCED
        assert self.applied(sequence, 5, 2.0, unknown_parents=1) == [PARTIAL]

    def test_keep_what_is_known_when_the_history_is_cut_off(self) -> None:
        sequence = synced(3)
        self.applied(sequence, 4, 1.0, unknown_parents=2)
        assert told(sequence.replayed([message(2)], 1.0)) == [PARTIAL]

    def test_are_believed_when_nobody_answers(self) -> None:
        sequence = synced(3)
        self.applied(sequence, 4, 1.0, unknown_parents=2)
        assert told(sequence.tick(1.0 + TIMEOUT_S)) == [PARTIAL]

    def test_say_nothing_new_when_history_is_known_to_be_incomplete(self) -> None:
        sequence = without_replay(message(7))
        assert self.applied(sequence, 8, 1.0, unknown_parents=1) == []

    def test_an_emptied_cache_makes_everything_known(self) -> None:
        sequence = without_replay(message(7))
        assert self.applied(sequence, 8, 1.0, cleared=True) == [SYNCED]

    def test_news_of_an_earlier_piece_of_the_stream_is_ignored(self) -> None:
        sequence = without_replay()
        actions = sequence.messages([message(0), message(5)], 0.0)
        first = next(action for action in actions if isinstance(action, Apply))
        assert sequence.applied(first, 0, True, 0.0) == []
        assert sequence.state is IndexState.DEGRADED


def test_more_live_messages_than_can_be_held_are_counted_and_found_missing() -> None:
    sequence = Sequence(can_replay=True, settings=SequenceSettings(max_held=2))
    sequence.connected(0.0)
    sequence.messages(stream(1, 2), 0.0)
    sequence.messages(stream(3, 4), 0.0)
    assert sequence.counts["dropped"] == 2
    sequence.replayed([message(0)], 0.0)
    assert sequence.replay_ended(0.0) == [AskReplay(0)]
