"""The permissions in the table of docs/deploy.md, and the permissions that the template grants. Both are sets of
(function, action, item)."""

import re

from rules import OWN_FUNCTIONS, listed, resources, statements, target
from template import ROOT

DOCUMENT = ROOT / "docs" / "deploy.md"
SUBJECTS = {
    "AccessKeys": "access-keys",
    "SigningKeys": "signing-keys",
    "DeadLetters": "dead letters",
    "RotateKeysFunctionAliaslive": "rotate-keys",
    "KmsKeyArn": "your key",
}
# The stream of the state table.
STREAM = {"Fn::If": ["IsNewState", {"Fn::GetAtt": ["Table", "StreamArn"]}, {"Ref": "ExistingTableStreamArn"}]}

# The first parts of the keys in each table.
KEYS = {"Table": {"pointer", "identity", "custom-id", "assignments", "resource-server", "resource-servers"}, "AssignmentsTable": {"entra", "revocations", "teams-extension"}}


def documented():
    """Reads the table under the heading "Permissions". A row is a function, and a column is a group of actions."""
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## Permissions\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("|")]
    actions = [re.findall(r"`([^`]+)`", cell) for cell in rows[0]]
    return {
        (row[0].strip().strip("`"), action, item.strip())
        for row in rows[2:]
        for group, cell in zip(actions[1:], row[1:])
        for action in group
        for item in cell.split(",")
        if item.strip()
    }


def granted(template):
    """Reads the permissions from the roles, and from the policies that a parameter adds to roles."""
    functions = {
        target(function["Role"]): name_of(function)
        for _, function, _ in resources(template, "AWS::Lambda::Function")
    }
    found = [
        (name, functions.get(name) or role["Properties"]["Policies"][0]["PolicyName"], statements(role))
        for name, _, role in resources(template, "AWS::IAM::Role")
    ] + [
        (target(role), functions[target(role)], policy["PolicyDocument"]["Statement"])
        for _, policy, _ in resources(template, "AWS::IAM::Policy")
        for role in policy["Roles"]
    ]
    return {
        (subject, action, item)
        for name, subject, granting in found
        for statement in granting
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        for item in items(name, resource, statement.get("Condition"))
    }


def name_of(function):
    """Returns the name of a function within the stack."""
    return function["FunctionName"]["Fn::Sub"].removeprefix("${AWS::StackName}-")


def items(role, resource, condition):
    """Returns the granted items of a resource in the words of the document. An unexpected grant is returned as it is."""
    name = target(resource)
    match condition:
        case {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [key], "dynamodb:Attributes": ["pk", attribute]}}:
            return [f"{key.removesuffix('#*')}: {attribute}"]
        case {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": keys}} if name in KEYS and len(condition) == 1:
            # A batch of several tables is granted with the keys of all of them on each.
            others = set().union(*(keys for table, keys in KEYS.items() if table != name))
            return [key.removesuffix("#*") for key in keys if key.removesuffix("#*") not in others]
        case None if name == role.removesuffix("Role") + "Logs":
            return ["its own"]
        case None if resource == STREAM:
            return ["its stream"]
        case None if name in SUBJECTS:
            return [SUBJECTS[name]]
        case None if resource == OWN_FUNCTIONS:
            return ["the functions"]
        case None if resource == "*":
            return ["any"]
    return [f"{resource} if {condition}"]
