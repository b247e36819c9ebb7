"""Runs cfn-lint on the transformed template. On the SAM source it would hardly check the functions."""

import json

from cfnlint.api import lint
from cfnlint.config import ManualArgs


def findings(template, region="us-east-1"):
    """Returns `code: message (place)` for each finding, including warnings."""
    found = lint(json.dumps(template), config=ManualArgs(regions=[region]))
    return [f"{match.rule.id}: {match.message} ({'/'.join(map(str, match.path or []))})" for match in found]
