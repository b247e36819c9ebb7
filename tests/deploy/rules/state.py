"""The rules for tables, secrets and logs."""

import json
import re

from rules.reading import branches, listed, resources, rule, statements, target

TABLE_KEYS = {"Table": ["pk"], "AssignmentsTable": ["pk", "sk"]}


@rule
def all_resources_exist(template):
    """Checks that the resources exist, because the other rules check only existing resources."""
    wanted = {
        "AWS::DynamoDB::Table": 2,
        "AWS::SecretsManager::Secret": 2,
        "AWS::Lambda::Function": 10,
        "AWS::ApiGatewayV2::Stage": 1,
        "AWS::SecretsManager::RotationSchedule": 1,
        "AWS::Scheduler::Schedule": 1,
        "AWS::Lambda::Alias": 10,
        "AWS::Events::Rule": 2,
        "AWS::SNS::Topic": 2,
        "AWS::Logs::LogGroup": 11,
        "AWS::Budgets::Budget": 1,
        "AWS::Lambda::EventSourceMapping": 1,
    }
    for kind, count in wanted.items():
        found = len(list(resources(template, kind)))
        if found != count:
            yield f"{found} of {kind}, not {count}"


@rule
def state_is_kept(template):
    for name, _, resource in resources(template, "AWS::DynamoDB::Table", "AWS::SecretsManager::Secret"):
        if resource.get("DeletionPolicy") not in ("Retain", "RetainExceptOnCreate"):
            yield f"{name} is deleted with the stack"
        if resource.get("UpdateReplacePolicy") != "Retain":
            yield f"{name} is deleted when it is replaced"


@rule
def table_is_protected(template):
    demanded = {
        "BillingMode": "PAY_PER_REQUEST",
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "DeletionProtectionEnabled": True,
    }
    for name, table, _ in resources(template, "AWS::DynamoDB::Table"):
        keys = TABLE_KEYS[name]
        demanded["KeySchema"] = [
            {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
        ]
        demanded["AttributeDefinitions"] = [{"AttributeName": key, "AttributeType": "S"} for key in keys]
        for key, value in demanded.items():
            if table.get(key) != value:
                yield f"{name}: {key} is not {value}"
        for encryption in branches(table.get("SSESpecification")):
            if not (encryption or {}).get("SSEEnabled"):
                yield f"{name} is not encrypted with a key in KMS"


@rule
def secrets_come_without_value(template):
    for name, secret, _ in resources(template, "AWS::SecretsManager::Secret"):
        for key in ("SecretString", "GenerateSecretString"):
            if key in secret:
                yield f"{name} has {key}"


@rule
def policies_of_secrets_admit_the_functions(template):
    """With SecretReaders, a function that is missing here could not read its secret, and each further one could."""
    policies = {
        target(policy["SecretId"]): policy["ResourcePolicy"]["Statement"]
        for _, policy, _ in resources(template, "AWS::SecretsManager::ResourcePolicy")
    }
    for name, _, _ in resources(template, "AWS::SecretsManager::Secret"):
        readers = {
            role
            for role, _, resource in resources(template, "AWS::IAM::Role")
            for statement in statements(resource)
            if "secretsmanager:GetSecretValue" in listed(statement["Action"])
            and name in map(target, listed(statement["Resource"]))
        }
        [denied] = policies.get(name) or [{}]
        admitted = set(re.findall(r"\$\{(\w+)\.Arn\}", json.dumps(denied.get("Condition"))))
        if denied.get("Effect") != "Deny" or admitted != readers:
            yield f"{name} admits {sorted(admitted)}, but {sorted(readers)} read it"


@rule
def functions_log_to_groups_of_their_own(template):
    groups = {name for name, _, _ in resources(template, "AWS::Logs::LogGroup")}
    for name, function, _ in resources(template, "AWS::Lambda::Function"):
        logging = function.get("LoggingConfig", {})
        own = name.removesuffix("Function") + "Logs"
        if logging.get("LogFormat") != "JSON" or target(logging.get("LogGroup")) != own or own not in groups:
            yield f"{name} does not log JSON to {own}"


@rule
def logs_are_kept(template):
    """The logs of the functions hold the audit lines. The access log holds source addresses."""
    for name, group, resource in resources(template, "AWS::Logs::LogGroup"):
        wanted = "LogRetentionDays" if name == "AccessLog" else "AuditRetentionDays"
        if group.get("RetentionInDays") != {"Ref": wanted}:
            yield f"{name} is not kept for {wanted}"
        if (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) != ("Retain", "Retain"):
            yield f"{name} is deleted with the stack"
        if group.get("DeletionProtectionEnabled") is not True:
            yield f"{name} is not protected from deletion"
        if name != "AccessLog" and "LogGroupName" in group:
            yield f"{name} would conflict with the log of a former stack"
