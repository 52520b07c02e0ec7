"""Plug-ins of flow control: who goes first, when, and how many programs at once."""
