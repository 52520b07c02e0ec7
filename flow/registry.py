"""Finds orders, gates, admissions and rules by name; orders also as entry points of ``weft.orders`` and
``module:Class``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flow.admission.thunder_agent import ThunderAgent
from flow.admission.working_set import WorkingSet
from flow.disaggregation.always import Always
from flow.disaggregation.min_uncached import MinUncached
from flow.disaggregation.never import Never
from flow.disaggregation.predicted_cost import PredictedCost
from flow.gates.all_busy import AllBusy
from flow.gates.step_budget import StepBudget
from flow.guarded import Guarded
from flow.orders.atlas import atlas
from flow.orders.critical_path import CriticalPath
from flow.orders.las import LeastAttainedService
from flow.orders.plas import plas
from flow.orders.program_fcfs import ProgramFcfs
from flow.orders.srpt import Srpt
from flow.orders.wspt import Wspt
from flow.parameters import ParameterError, check_parameters, takes
from router.core.disaggregation.rule import Rule
from router.core.flow import Admission, Fcfs, Gate, Order
from router.core.plugins import PluginError, find

NONE = "none"

ORDERS: dict[str, Callable[..., Order]] = {
    "atlas": atlas,
    "critical-path": CriticalPath,
    "fcfs": Fcfs,
    "las": LeastAttainedService,
    "plas": plas,
    "program-fcfs": ProgramFcfs,
    "srpt": Srpt,
    "wspt": Wspt,
}
GATES: dict[str, Callable[..., Gate]] = {"all-busy": AllBusy, "step-budget": StepBudget}
ADMISSIONS: dict[str, Callable[..., Admission]] = {"thunder-agent": ThunderAgent, "working-set": WorkingSet}
RULES: dict[str, Callable[..., Rule]] = {
    "always": Always,
    "min-uncached": MinUncached,
    "never": Never,
    "predicted-cost": PredictedCost,
}


class UnknownPartError(ValueError):
    """No part has that name, or it cannot be made with those parameters."""


def make_order(name: str, parameters: Mapping[str, Any], tenant_weights: Mapping[str, float]) -> Order:
    """An order by name. Raises UnknownPartError with what is allowed.

    ``tenant_weights`` goes to an order that has a parameter of that name; for any other it must be empty.
    """
    try:
        factory = find("order", name, ORDERS)
    except PluginError as error:
        raise UnknownPartError(str(error)) from error
    given = dict(parameters)
    if tenant_weights:
        if not takes(factory, "tenant_weights"):
            raise UnknownPartError(f"order {name!r} does not weigh tenants: leave out tenants.*.weight")
        given["tenant_weights"] = dict(tenant_weights)
    made: Order = _construct("order", name, factory, given)
    if not isinstance(getattr(made, "name", None), str) or not callable(getattr(made, "rank", None)):
        raise UnknownPartError(f"order {name!r} needs `name` and `rank(waiting, now)`")
    return made if name in ORDERS else Guarded(made)


def make_gate(name: str, parameters: Mapping[str, Any]) -> Gate | None:
    """A gate by name; None for ``none``. Raises UnknownPartError with what is allowed."""
    made: Gate | None = _made("gate", name, GATES, parameters)
    return made


def make_admission(name: str, parameters: Mapping[str, Any]) -> Admission | None:
    """An admission by name; None for ``none``. Raises UnknownPartError with what is allowed."""
    made: Admission | None = _made("admission", name, ADMISSIONS, parameters)
    return made


def make_rule(name: str, parameters: Mapping[str, Any]) -> Rule:
    """A rule of disaggregation by name. Raises UnknownPartError with what is allowed."""
    if name not in RULES:
        raise UnknownPartError(f"no rule {name!r}; allowed: {', '.join(sorted(RULES))}")
    made: Rule = _construct("rule", name, RULES[name], parameters)
    return made


def _made(kind: str, name: str, known: Mapping[str, Callable[..., Any]], parameters: Mapping[str, Any]) -> Any:
    if name == NONE:
        if parameters:
            raise UnknownPartError(f"{kind} {NONE!r} takes no parameters")
        return None
    if name not in known:
        raise UnknownPartError(f"no {kind} {name!r}; allowed: {', '.join([NONE, *sorted(known)])}")
    return _construct(kind, name, known[name], parameters)


def _construct(kind: str, name: str, factory: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    try:
        check_parameters(factory, parameters)
        return factory(**parameters)
    except ParameterError as error:
        raise UnknownPartError(f"{kind} {name!r} has {error}") from error
    except (TypeError, ValueError) as error:
        raise UnknownPartError(f"{kind} {name!r} does not take these parameters: {error}") from error
