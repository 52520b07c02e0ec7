"""Which replicas there are: named by flag, listed in a file, or found by DNS."""
