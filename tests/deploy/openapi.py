"""The operations, as docs/openapi.json describes them. A unit test of the core holds it equal to the route table."""

import collections
import json

from template import ROOT

DOCUMENT = ROOT / "docs" / "openapi.json"
# The functions that serve no operation.
OTHER_FUNCTIONS = {"authorizer", "rotate-keys"}

Operation = collections.namedtuple("Operation", "method path function name")


def operations():
    """Every operation."""
    paths = json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"]
    return [
        Operation(method.upper(), path, described["x-function"], described["operationId"])
        for path, methods in paths.items()
        for method, described in methods.items()
    ]


def functions():
    """The functions that serve them."""
    return {operation.function for operation in operations()}
