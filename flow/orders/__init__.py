"""Orders: who of the waiting goes first. One file each."""
