"""Rules that say whether a request's prompt is computed elsewhere. One file each."""
