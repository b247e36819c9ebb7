"""The rules for functions, their versions and aliases."""

import json

from rules.reading import branches, listed, resolved, resources, rule, statements, target
from rules.roles import UNLIMITED

LONGEST_TIMEOUT = 30
MEMORY = range(128, 1025)
SECRET_SETTINGS = {"ACCESS_KEYS_SECRET", "SIGNING_KEYS_SECRET"}


@rule
def functions_run_as_built(template):
    for name, function, _ in resources(template, "AWS::Lambda::Function"):
        if function.get("Runtime") != "provided.al2023" or function.get("Handler") != "bootstrap":
            yield f"{name} is not a bootstrap for provided.al2023"
        if [resolved(template, item) for item in function.get("Architectures", [])] != ["arm64"]:
            yield f"{name} is not for arm64"
        if not 1 <= function.get("Timeout", 3) <= LONGEST_TIMEOUT:
            yield f"{name} may run longer than {LONGEST_TIMEOUT} seconds"
        if resolved(template, function.get("MemorySize")) not in MEMORY:
            yield f"{name} has {function.get('MemorySize')} MB"
        if resolved(template, function.get("TracingConfig", {}).get("Mode")) != "PassThrough":
            yield f"{name} is traced by default"
        if "VpcConfig" in function:
            yield f"{name} has a VPC, but its role has no permission for it"


@rule
def functions_know_the_secrets_they_may_read(template):
    roles = template["Resources"]
    for name, function, _ in resources(template, "AWS::Lambda::Function"):
        settings = function.get("Environment", {}).get("Variables", {})
        known = {target(settings[key]) for key in SECRET_SETTINGS & set(settings)}
        readable = {
            target(resource)
            for statement in statements(roles[target(function["Role"])])
            if "secretsmanager:GetSecretValue" in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        }
        if known != readable:
            yield f"{name} has settings for {sorted(map(str, known))}, but its role reads {sorted(map(str, readable))}"


@rule
def functions_know_the_tables_they_may_use(template):
    roles = template["Resources"]
    for name, function, _ in resources(template, "AWS::Lambda::Function"):
        settings = function.get("Environment", {}).get("Variables", {})
        known = {target(settings.get(key)) for key in ("TABLE_NAME", "ASSIGNMENTS_TABLE_NAME")} - {None}
        usable = {
            target(resource)
            for statement in statements(roles[target(function["Role"])])
            if any(action.startswith("dynamodb:") for action in listed(statement["Action"]) if action not in UNLIMITED)
            for resource in listed(statement["Resource"])
        }
        if known != usable:
            yield f"{name} knows {sorted(map(str, known))}, but its role may use {sorted(map(str, usable))}"


@rule
def rotations_that_fail_are_kept(template):
    function = template["Resources"]["RotateKeysFunction"]["Properties"]
    if not target(function.get("DeadLetterConfig", {}).get("TargetArn")):
        yield "RotateKeysFunction has no dead-letter queue"


@rule
def concurrency_is_reserved_on_request(template):
    """A new account may have a quota that leaves nothing to reserve."""
    for name, function, _ in resources(template, "AWS::Lambda::Function"):
        match function.get("ReservedConcurrentExecutions"):
            case {"Fn::If": [_, {"Ref": parameter}, {"Ref": "AWS::NoValue"}]}:
                if resolved(template, {"Ref": parameter}) != 0:
                    yield f"{name} reserves concurrency by default"
            case reserved:
                yield f"{name} reserves {reserved}"


@rule
def settings_reach_the_alias(template):
    """A new value of a parameter must publish a version. Otherwise callers keep the former value without a message."""
    number = "${Settings}"
    content = template["Resources"]["Settings"]["Properties"]["Content"]
    for name, function, _ in resources(template, "AWS::Lambda::Function"):
        for parameter in sorted(parameters_of(template, function) - parameters_of(template, content)):
            yield f"{name} depends on {parameter}, which is not in Settings"
        if number not in json.dumps(function.get("Description")):
            yield f"{name} has a description without {number}"
    for name, version, resource in resources(template, "AWS::Lambda::Version"):
        if number not in json.dumps(version.get("Description")):
            yield f"{name} has a description without {number}"
        if (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) != ("Retain", "Retain"):
            yield f"{name} is deleted, so there is no way back to it"


def parameters_of(template, value):
    """Returns the parameters in a value, also those of its conditions and of the path of its role."""
    text = json.dumps(value)
    for name, condition in template["Conditions"].items():
        if f'"{name}"' in text:
            text += json.dumps(condition)
    if isinstance(value, dict) and "Role" in value:
        text += json.dumps(template["Resources"][target(value["Role"])]["Properties"]["Path"])
    return {name for name in template["Parameters"] if f'{{"Ref": "{name}"}}' in text or f"${{{name}}}" in text}


@rule
def callers_use_the_alias(template):
    """A caller of a function itself would reach code that no alias has released, and no way back would hold for it."""
    aliases = {name for name, _, _ in resources(template, "AWS::Lambda::Alias")}
    callers = [
        (name, properties.get(key))
        for kind, key in {
            "AWS::ApiGatewayV2::Integration": "IntegrationUri",
            "AWS::Lambda::Permission": "FunctionName",
            "AWS::Lambda::EventSourceMapping": "FunctionName",
            "AWS::SecretsManager::RotationSchedule": "RotationLambdaARN",
        }.items()
        for name, properties, _ in resources(template, kind)
    ]
    callers += [
        (name, schedule.get("Target", {}).get("Arn"))
        for name, schedule, _ in resources(template, "AWS::Scheduler::Schedule")
    ]
    callers += [
        (f"the output {name}", output["Value"]["Fn::Sub"][1]["Arn"] if name == "AuthorizerUri" else output["Value"])
        for name, output in template["Outputs"].items()
        if name in ("AuthorizerFunctionArn", "AuthorizerUri", "RotateKeysFunction")
    ]
    for name, called in callers:
        if target(called) not in aliases:
            yield f"{name} does not use an alias"


@rule
def integrations_wait_for_their_permission(template):
    for name, integration, resource in resources(template, "AWS::ApiGatewayV2::Integration"):
        waits_for = [template["Resources"][other]["Properties"] for other in listed(resource.get("DependsOn", []))]
        if integration["IntegrationUri"] not in [permission.get("FunctionName") for permission in waits_for]:
            yield f"{name} may call its function before it is permitted"


@rule
def releases_roll_back(template):
    alarms = {name for name, _, _ in resources(template, "AWS::CloudWatch::Alarm")}
    groups = list(resources(template, "AWS::CodeDeploy::DeploymentGroup"))
    gradual = {name.removesuffix("DeploymentGroup") for name, _, _ in groups}
    for name, _, _ in resources(template, "AWS::Lambda::Function"):
        if (name in gradual) == (name == "RotateKeysFunction"):
            yield f"{name} moves its traffic in the wrong way"
    for name, group, _ in groups:
        watched = [target(alarm["Name"]) for alarm in branches(group.get("AlarmConfiguration"))[0].get("Alarms", [])]
        if not watched or not set(watched) <= alarms:
            yield f"{name} has no alarm that rolls back"
        if not group.get("AutoRollbackConfiguration", {}).get("Enabled"):
            yield f"{name} does not roll back"
