"""Errors in the shapes of vLLM 0.32."""

from __future__ import annotations

import msgspec


class VllmError(Exception):
    """An answer other than 200: ``{"error": {"message", "type", "param", "code"}}`` with the status as code."""

    def __init__(self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": error})


def bad_parameter(message: str, param: str, value: object = None) -> VllmError:
    """A value that vLLM's own checks refuse."""
    shown = f", value={value}" if value is not None else ""
    return VllmError(400, f"{message} (parameter={param}{shown})", param=param)


def bad_field(kind: str, location: str, text: str, received: str) -> VllmError:
    """What the validation of a body's fields refuses, in the words of pydantic as vLLM reports them."""
    found = f"{{'type': '{kind}', 'loc': '{location}', 'msg': '{text}', 'input': '{received}'}}"
    return VllmError(400, f"1 validation error:\n  {found}", kind="Bad Request", param=location)


def unknown_model(name: str, served: str) -> VllmError:
    message = f"The model `{name}` does not exist. Valid aliases: {served}."
    return VllmError(404, message, kind="NotFoundError", param="model")


def internal_error() -> VllmError:
    """What a request comes to when something in the engine has failed."""
    return VllmError(500, "Internal server error", kind="InternalServerError")


def overloaded() -> VllmError:
    """What ``--max-num-queued-reqs`` leads to. It comes without ``Retry-After``."""
    return VllmError(
        503,
        "The engine is currently busy and cannot accept new requests. "
        "Please try again later or on a different instance.",
        kind="Service Unavailable",
    )
