"""The rules for permissions."""

import json

from rules.reading import OWN_FUNCTIONS, listed, resources, rule, statements, target

# Reads of alarms, lists of streams and writes of traces, which IAM does not limit to one resource.
UNLIMITED = {"cloudwatch:DescribeAlarms", "dynamodb:ListStreams", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}


@rule
def roles_are_narrow(template):
    for name, role, resource in resources(template, "AWS::IAM::Role"):
        if role.get("ManagedPolicyArns"):
            yield f"{name} has managed policies"
        if role.get("Path") != {"Ref": "RolePath"} or target(role.get("PermissionsBoundary")) != "PermissionsBoundary":
            yield f"{name} has no path or no boundary of the parameters"
        yield from wide_statements(name, statements(resource))
    for name, policy, resource in resources(template, "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        if not resource.get("Condition"):
            yield f"{name} is a separate policy, but permissions that no parameter adds belong in the roles"
        yield from wide_statements(name, policy["PolicyDocument"]["Statement"])


def wide_statements(name, found):
    for statement in found:
        if statement.get("Effect") != "Allow" or not {"Action", "Resource"} <= set(statement):
            yield f"{name} has a statement that does not allow actions on resources"
            continue
        actions = listed(statement["Action"])
        if any("*" in json.dumps(action) for action in actions):
            yield f"{name} may do {statement['Action']}"
        own = name == "DeploymentsRole" and statement["Resource"] == OWN_FUNCTIONS
        if any("*" in json.dumps(item) for item in listed(statement["Resource"])) and not own:
            if not set(actions) <= UNLIMITED:
                yield f"{name} may act on {statement['Resource']}"


@rule
def invokers_are_named(template):
    for name, permission, _ in resources(template, "AWS::Lambda::Permission"):
        if not permission.get("SourceArn"):
            yield f"{name} admits any {permission.get('Principal')}"
