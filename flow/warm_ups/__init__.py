"""Warm-ups: prefixes that are put back into a cache before their programs come back. Off by default."""
