"""Registers the rules, and reads the parts of a transformed template that they check."""

import re

OWN_FUNCTIONS = {
    "Fn::Sub": "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${AWS::StackName}-*"
}
OTHER_PATHS = "$default"

RULES = []


def rule(check):
    RULES.append(check)
    return check


def resources(template, *types):
    """Yields name, properties and whole resource, for every resource of these types."""
    for name, resource in template["Resources"].items():
        if resource["Type"] in types:
            yield name, resource.get("Properties", {}), resource


def resolved(template, value):
    """Returns a value, or the default of a parameter."""
    if isinstance(value, dict) and value.get("Ref") in template["Parameters"]:
        return template["Parameters"][value["Ref"]].get("Default")
    return value


def target(value):
    """Returns the name of the resource in a Ref or GetAtt. Of a choice it is the resource of this stack."""
    if not isinstance(value, dict):
        return None
    if "Fn::If" in value:
        return target(value["Fn::If"][1])
    return value.get("Ref") or value.get("Fn::GetAtt", [None])[0]


def branches(value):
    """Returns both values of a choice, or the value. A value that does not exist is None."""
    found = value["Fn::If"][1:] if isinstance(value, dict) and "Fn::If" in value else [value]
    return [None if branch == {"Ref": "AWS::NoValue"} else branch for branch in found]


def statements(role):
    for policy in role["Properties"].get("Policies", []):
        yield from policy["PolicyDocument"]["Statement"]


def listed(value):
    return value if isinstance(value, list) else [value]


def integration_of(route):
    """Returns the integration of a route's target, `integrations/${Name}`."""
    target_text = route.get("Target", {}).get("Fn::Sub", "")
    match = re.fullmatch(r"integrations/\$\{(\w+)\}", target_text)
    return match and match.group(1)
