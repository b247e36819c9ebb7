"""cfn-lint over the transformed template: on the SAM source it would see next to nothing of the functions."""

import json

from cfnlint.api import lint
from cfnlint.config import ManualArgs


def findings(template):
    """`code: what is wrong and where`, one for each finding, warnings among them."""
    found = lint(json.dumps(template), config=ManualArgs(regions=["us-east-1"]))
    return [f"{match.rule.id}: {match.message} ({'/'.join(map(str, match.path or []))})" for match in found]
