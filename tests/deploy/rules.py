"""The rules for the template beyond those of CloudFormation. Each rule yields its violations."""

import json
import re

LONGEST_TIMEOUT = 30
MEMORY = range(128, 1025)
SEGMENT = re.compile(r":?[A-Za-z0-9._-]+|\{[A-Za-z]+\}")
SECRET_SETTINGS = {"ACCESS_KEYS_SECRET", "SIGNING_KEYS_SECRET"}
TABLE_KEYS = {"Table": ["pk"], "AssignmentsTable": ["pk", "sk"]}

RULES = []


def rule(check):
    RULES.append(check)
    return check


def faults(template):
    """Returns `rule: violation` for each violation."""
    return [f"{check.__name__}: {fault}" for check in RULES for fault in check(template)]


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
    """Returns the name of the resource in a Ref or GetAtt."""
    if not isinstance(value, dict):
        return None
    return value.get("Ref") or value.get("Fn::GetAtt", [None])[0]


@rule
def all_resources_exist(template):
    """Checks that the resources exist, because the other rules check only existing resources."""
    wanted = {
        "AWS::DynamoDB::Table": 2,
        "AWS::SecretsManager::Secret": 2,
        "AWS::Lambda::Function": 8,
        "AWS::ApiGatewayV2::Stage": 1,
        "AWS::SecretsManager::RotationSchedule": 1,
        "AWS::Scheduler::Schedule": 1,
        "AWS::Events::Rule": 1,
        "AWS::SNS::Topic": 1,
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
        "SSESpecification": {"SSEEnabled": True},
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


@rule
def secrets_come_without_value(template):
    for name, secret, _ in resources(template, "AWS::SecretsManager::Secret"):
        for key in ("SecretString", "GenerateSecretString"):
            if key in secret:
                yield f"{name} has {key}"


@rule
def functions_run_as_built(template):
    for name, function, _ in resources(template, "AWS::Lambda::Function"):
        if function.get("Runtime") != "provided.al2023" or function.get("Handler") != "bootstrap":
            yield f"{name} is not a bootstrap for provided.al2023"
        if [resolved(template, item) for item in function.get("Architectures", [])] != ["arm64"]:
            yield f"{name} is not for arm64"
        if not 1 <= function.get("Timeout", 3) <= LONGEST_TIMEOUT:
            yield f"{name} may run longer than {LONGEST_TIMEOUT} seconds"
        if function.get("MemorySize") not in MEMORY:
            yield f"{name} has {function.get('MemorySize')} MB"
        if "TracingConfig" in function or "VpcConfig" in function:
            yield f"{name} has tracing or a VPC, but its role has no permission for it"


@rule
def functions_log_to_groups_of_their_own(template):
    groups = {name for name, _, _ in resources(template, "AWS::Logs::LogGroup")}
    for name, function, _ in resources(template, "AWS::Lambda::Function"):
        logging = function.get("LoggingConfig", {})
        own = name.removesuffix("Function") + "Logs"
        if logging.get("LogFormat") != "JSON" or target(logging.get("LogGroup")) != own or own not in groups:
            yield f"{name} does not log JSON to {own}"


@rule
def logs_end(template):
    for name, group, _ in resources(template, "AWS::Logs::LogGroup"):
        if not isinstance(resolved(template, group.get("RetentionInDays")), int):
            yield f"{name} has no retention period"


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
            if any(action.startswith("dynamodb:") for action in listed(statement["Action"]))
            for resource in listed(statement["Resource"])
        }
        if known != usable:
            yield f"{name} knows {sorted(map(str, known))}, but its role may use {sorted(map(str, usable))}"


@rule
def roles_are_narrow(template):
    for name, role, resource in resources(template, "AWS::IAM::Role"):
        if role.get("ManagedPolicyArns"):
            yield f"{name} has managed policies"
        for statement in statements(resource):
            if statement.get("Effect") != "Allow" or not {"Action", "Resource"} <= set(statement):
                yield f"{name} has a statement that does not allow actions on resources"
                continue
            if any("*" in json.dumps(action) for action in listed(statement["Action"])):
                yield f"{name} may do {statement['Action']}"
            if any("*" in json.dumps(item) for item in listed(statement["Resource"])):
                yield f"{name} may act on {statement['Resource']}"
    for name, _, resource in resources(template, "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        yield f"{name} is a separate policy, but permissions belong in the roles"


@rule
def invokers_are_named(template):
    for name, permission, _ in resources(template, "AWS::Lambda::Permission"):
        if not permission.get("SourceArn"):
            yield f"{name} admits any {permission.get('Principal')}"


@rule
def routes_can_be_served(template):
    integrations = {name: properties for name, properties, _ in resources(template, "AWS::ApiGatewayV2::Integration")}
    for name, integration in integrations.items():
        if integration.get("PayloadFormatVersion") != "2.0" or integration.get("IntegrationType") != "AWS_PROXY":
            yield f"{name} does not use payload 2.0"
    for name, route, _ in resources(template, "AWS::ApiGatewayV2::Route"):
        verb, _, path = route["RouteKey"].partition(" ")
        if verb != "ANY":
            yield f"{name}: {verb} leaves other methods of {path} without an answer"
        if not path.startswith("/") or not all(SEGMENT.fullmatch(segment) for segment in path[1:].split("/")):
            yield f"{name}: {path} is not a valid path"
        if integration_of(route) not in integrations:
            yield f"{name} has no integration"


@rule
def functions_answer_preflights(template):
    for name, api, _ in resources(template, "AWS::ApiGatewayV2::Api"):
        if "CorsConfiguration" in api:
            yield f"{name} drops the CORS headers of its functions"


@rule
def stage_is_the_default(template):
    keys = {route["RouteKey"]: name for name, route, _ in resources(template, "AWS::ApiGatewayV2::Route")}
    for name, stage, resource in resources(template, "AWS::ApiGatewayV2::Stage"):
        if stage.get("StageName") != "$default" or stage.get("AutoDeploy") is not True:
            yield f"{name} is not the stage $default with automatic deployment"
        limits = [stage.get("DefaultRouteSettings", {}), *stage.get("RouteSettings", {}).values()]
        if not all({"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= set(limit) for limit in limits):
            yield f"{name} has routes without a throttle"
        for key in stage.get("RouteSettings", {}):
            if keys.get(key) not in listed(resource.get("DependsOn", [])):
                yield f"{name} has settings for {key}, but does not wait for it"


@rule
def access_log_is_quiet(template):
    for name, stage, _ in resources(template, "AWS::ApiGatewayV2::Stage"):
        text = stage.get("AccessLogSettings", {}).get("Format", "")
        try:
            fields = json.loads(text)
        except ValueError:
            yield f"{name}: the access log is not JSON"
            continue
        for field in fields.values():
            if re.search(r"authoriz|header|path|querystring", field, re.IGNORECASE):
                yield f"{name}: the access log holds {field}"


@rule
def one_rotation_at_a_time(template):
    function = template["Resources"]["RotateKeysFunction"]["Properties"]
    if function.get("ReservedConcurrentExecutions") != 1:
        yield "RotateKeysFunction may run twice at once"
    if not target(function.get("DeadLetterConfig", {}).get("TargetArn")):
        yield "RotateKeysFunction has no dead-letter queue"


@rule
def rotations_are_scheduled(template):
    permissions = {
        name: target(permission.get("SourceArn"))
        for name, permission, _ in resources(template, "AWS::Lambda::Permission")
        if permission.get("Principal") == "secretsmanager.amazonaws.com" and permission.get("SourceAccount")
    }
    for name, rotation, resource in resources(template, "AWS::SecretsManager::RotationSchedule"):
        expression = resolved(template, rotation.get("RotationRules", {}).get("ScheduleExpression"))
        if fault := rotation_fault(expression):
            yield f"{name}: {expression}: {fault}"
        if rotation.get("RotateImmediatelyOnUpdate") is not True:
            yield f"{name} does not rotate at once"
        waits_for = [permissions.get(dependency) for dependency in listed(resource.get("DependsOn", []))]
        if target(rotation.get("SecretId")) not in waits_for:
            yield f"{name} does not wait for the permission to invoke the function"


@rule
def schedules_are_delivered(template):
    for name, schedule, _ in resources(template, "AWS::Scheduler::Schedule"):
        if not re.fullmatch(r"rate\([1-9][0-9]* (minutes|hours|days)\)", schedule.get("ScheduleExpression", "")):
            yield f"{name}: {schedule.get('ScheduleExpression')} is not a rate"
        delivery = schedule.get("Target", {})
        if not delivery.get("RetryPolicy") or not target(delivery.get("DeadLetterConfig", {}).get("Arn")):
            yield f"{name} has no retries or no dead-letter queue"


@rule
def alarms_watch_every_function(template):
    watched = {
        (target(dimension["Value"]), alarm["MetricName"])
        for _, alarm, _ in resources(template, "AWS::CloudWatch::Alarm")
        for dimension in alarm.get("Dimensions", [])
    }
    wanted = {
        (name, metric)
        for name, _, _ in resources(template, "AWS::Lambda::Function")
        for metric in ("Errors", "Throttles", "Duration")
    } | {("Api", "5xx"), ("DeadLetters", "ApproximateNumberOfMessagesVisible")}
    for name, metric in sorted(wanted - watched):
        yield f"{name} has no alarm for {metric}"
    for name, alarm, _ in resources(template, "AWS::CloudWatch::Alarm"):
        if not alarm.get("AlarmActions"):
            yield f"{name} has no action"


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


DAYS_OF_WEEK = {day: number for number, day in enumerate("SUN MON TUE WED THU FRI SAT".split(), 1)}
MONTHS = {month: number for number, month in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
SHORTEST_INTERVAL_HOURS = 4


def rotation_fault(expression):
    """Returns the reason why Secrets Manager would refuse this expression, or None."""
    match = re.fullmatch(r"cron\((.+)\)", str(expression))
    fields = match.group(1).split(" ") if match else []
    if len(fields) != 6:
        return "not cron(<six fields>)"
    minute, hour, day, month, weekday, year = fields
    if minute != "0" or year != "*":
        return "a rotation begins on the hour, in any year"
    if (day == "?") == (weekday == "?"):
        return "exactly one of the two days must be ?"
    try:
        hours = values(hour, 0, 23)
        values(month, 1, 12, MONTHS)
        values(day.replace("L", "1").replace("W", ""), 1, 31) if weekday == "?" else None
        values(weekday.replace("L", "").partition("#")[0], 1, 7, DAYS_OF_WEEK) if day == "?" else None
    except ValueError as fault:
        return str(fault)
    following = [*hours[1:], hours[0] + 24]
    if any(later - earlier < SHORTEST_INTERVAL_HOURS for earlier, later in zip(hours, following)):
        return f"more often than every {SHORTEST_INTERVAL_HOURS} hours"
    return None


def values(field, lowest, highest, names=()):
    """Returns the values of one cron field, in order."""
    found = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low, high = (lowest, highest) if first == "*" else (number(first, names), number(last or first, names))
        if step and not last:
            high = highest
        if not lowest <= low <= high <= highest:
            raise ValueError(f"{part} is not within {lowest} to {highest}")
        found.update(range(low, high + 1, number(step or "1", ())))
    return sorted(found)


def number(text, names):
    if text in names:
        return names[text]
    if not text.isdigit():
        raise ValueError(f"{text or 'an empty text'} is not a number")
    return max(int(text), 0)
