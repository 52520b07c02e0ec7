"""Gates: which replicas can start one more request. One file each."""
