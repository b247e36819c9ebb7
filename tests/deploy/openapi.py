"""The operations of docs/openapi.json. A unit test of the core compares that document with the route table."""

import collections
import json

from template import ROOT

DOCUMENT = ROOT / "docs" / "openapi.json"
# The functions that serve no operation.
OTHER_FUNCTIONS = {"authorizer", "record-ends", "rotate-keys"}

Operation = collections.namedtuple("Operation", "method path function name")


def operations():
    """Returns every operation."""
    paths = json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"]
    return [
        Operation(method.upper(), path, described["x-function"], described["operationId"])
        for path, methods in paths.items()
        for method, described in methods.items()
    ]


def functions():
    """Returns the functions that serve the operations."""
    return {operation.function for operation in operations()}
