"""All that Weft may do with the API server: what the manifests grant, and what a real server shows to be enough."""

from __future__ import annotations

PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}


def pool(name: str) -> dict[str, list[str]]:
    return {
        "apiGroups": ["inference.networking.k8s.io"],
        "resources": ["inferencepools"],
        "resourceNames": [name],
        "verbs": ["list", "watch"],
    }
