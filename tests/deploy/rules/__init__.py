"""The rules for the template beyond those of CloudFormation. Each rule yields its violations."""

from rules import alarms, api, functions, roles, rotation, state  # noqa: F401
from rules.alarms import metrics  # noqa: F401
from rules.reading import (  # noqa: F401
    OTHER_PATHS,
    OWN_FUNCTIONS,
    RULES,
    integration_of,
    listed,
    resources,
    statements,
    target,
)
from rules.rotation import rotation_fault, window_fault  # noqa: F401


def faults(template):
    """Returns `rule: violation` for each violation."""
    return [f"{check.__name__}: {fault}" for check in RULES for fault in check(template)]
