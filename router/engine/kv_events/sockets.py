"""The ZMQ sockets of a KV event subscription: opening them, and reading messages off them without waiting.

vLLM publishes ``topic | seq (8 bytes, big-endian) | payload``. Its replay socket answers ``"" | seq`` with
``"" | [topic] | seq | payload`` for each message that it still has (no topic in older versions), and ends with the
sequence number -1 and an empty payload.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import zmq
from zmq.utils.monitor import parse_monitor_message

from router.engine.kv_events.actions import Message

MAX_MESSAGES = 256
MAX_BYTES = 1 << 18
"""Read at most this much before the event loop may do something else."""

MAX_MESSAGE_BYTES = 64 << 20

CONNECTION_EVENTS = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED

_END_SEQ = b"\xff" * 8

Socket = zmq.Socket[bytes]


@dataclass(slots=True)
class Received:
    """What one look at a socket brought."""

    messages: list[Message] = field(default_factory=list)
    malformed: int = 0
    drained: bool = False
    """There was no more to read."""
    ended: bool = False
    """The end mark of a replay was read."""


def open_socket(context: zmq.Context[Socket], kind: int) -> Socket:
    """A socket that survives long stalls of its reader, and notices a peer that is gone without a word."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.RCVHWM, 100_000)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 5_000)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 10_000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 30_000)
    return socket


def receive_live(socket: Socket) -> Received:
    """Messages of a SUB socket, up to the limits.

    Mostly one message waits, or many do: a look after the first is cheaper than the exception at the end.
    """
    received = Received()
    messages = received.messages
    size = 0
    receive, option = socket.recv, socket.getsockopt
    flag = zmq.NOBLOCK
    while len(messages) < MAX_MESSAGES and size < MAX_BYTES:
        try:
            receive(flag)
        except zmq.Again:
            received.drained = True
            break
        try:
            seq, payload = receive(flag), receive(flag)
        except zmq.Again:
            received.malformed += 1
            received.drained = True
            break
        if len(seq) != 8 or option(zmq.RCVMORE):
            received.malformed += 1
            _skip_rest(socket)
            continue
        messages.append(Message(int.from_bytes(seq, "big"), payload))
        size += len(payload)
        if len(messages) == 1 and not _readable(socket):
            received.drained = True
            break
    return received


def receive_replay(socket: Socket) -> Received:
    """Answers on a DEALER socket, up to the limits or the end mark."""
    received = Received()
    size = 0
    while len(received.messages) < MAX_MESSAGES and size < MAX_BYTES:
        try:
            frames = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            received.drained = True
            break
        if len(frames) < 3 or len(frames[-2]) != 8:
            received.malformed += 1
            continue
        seq, payload = frames[-2:]
        if seq == _END_SEQ and not payload:
            received.ended = True
            break
        received.messages.append(Message(int.from_bytes(seq, "big"), payload))
        size += len(payload)
    return received


def receive_news(monitor: Socket) -> list[bool]:
    """True for each connection that was made, False for each that was lost."""
    news: list[bool] = []
    while _readable(monitor):
        event = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))["event"]
        news.append(event == zmq.Event.HANDSHAKE_SUCCEEDED)
    return news


def _readable(socket: Socket) -> bool:
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _skip_rest(socket: Socket) -> None:
    """The next frame that is read begins a message again."""
    while socket.getsockopt(zmq.RCVMORE):
        socket.recv(zmq.NOBLOCK)
