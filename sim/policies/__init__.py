"""Routing policies to compare: those that other routers ship, and Weft's own. One file each."""
