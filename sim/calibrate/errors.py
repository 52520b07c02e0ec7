"""What can go wrong with a server that is to be calibrated."""

from __future__ import annotations


class CalibrationError(Exception):
    """The server cannot be calibrated; the message says why and what to do."""
