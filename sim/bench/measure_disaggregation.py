"""What became of prompts computed on one replica for another, in fleets with prefill and decode replicas.

``transfer`` is the time from when the replica that answers had room for a prompt's KV blocks until it had them, over
the calls that fetched some. ``prefill_utilisation`` and its like are the share of the run's time for which the replicas
of a role were busy.
"""

from __future__ import annotations

from router.core.types import Role
from sim.bench.spread import spread
from sim.cluster import Run


def disaggregation(run: Run, counted: Run) -> dict[str, object]:
    """Nothing for a fleet without roles. Times are those of ``counted``, all else is of the whole run."""
    if all(replica.role is Role.BOTH for replica in run.replicas):
        return {}
    prefills = [call.prefill for call in run.calls if call.prefill is not None]
    row: dict[str, object] = {
        "disaggregated_share": len(prefills) / len(run.calls) if run.calls else 0.0,
        "fetched_tokens": sum(prefill.fetched_tokens for prefill in prefills),
        "failed_fetches": sum(prefill.failed for prefill in prefills),
        "expired_leases": sum(replica.expired_leases for replica in run.replicas),
    }
    fetched = (call.prefill for call in counted.calls if call.prefill is not None and not call.prefill.failed)
    row |= spread("transfer", (prefill.transfer_s for prefill in fetched))
    for role in Role:
        busy_s = [replica.busy_s for replica in run.replicas if replica.role is role]
        if busy_s and run.makespan_s:
            row[f"{role}_utilisation"] = sum(busy_s) / (len(busy_s) * run.makespan_s)
    return row
