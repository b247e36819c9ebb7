"""The rules for the template beyond those of CloudFormation. Each rule yields its violations."""

import json
import re

LONGEST_TIMEOUT = 30
MEMORY = range(128, 1025)
SEGMENT = re.compile(r":?[A-Za-z0-9._-]+|\{[A-Za-z]+\}")
SECRET_SETTINGS = {"ACCESS_KEYS_SECRET", "SIGNING_KEYS_SECRET"}
TABLE_KEYS = {"Table": ["pk"], "AssignmentsTable": ["pk", "sk"]}
# Reads of alarms and writes of traces, which IAM does not limit to one resource.
UNLIMITED = {"cloudwatch:DescribeAlarms", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}
OWN_FUNCTIONS = {
    "Fn::Sub": "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${AWS::StackName}-*"
}
OTHER_PATHS = "$default"

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
    """Returns the name of the resource in a Ref or GetAtt. Of a choice it is the resource of this stack."""
    if not isinstance(value, dict):
        return None
    if "Fn::If" in value:
        return target(value["Fn::If"][1])
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
        "AWS::Lambda::Alias": 8,
        "AWS::Events::Rule": 2,
        "AWS::SNS::Topic": 2,
        "AWS::Logs::LogGroup": 9,
        "AWS::Budgets::Budget": 1,
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


@rule
def callers_use_the_alias(template):
    """A caller of a function itself would reach code that no alias has released, and no way back would hold for it."""
    aliases = {name for name, _, _ in resources(template, "AWS::Lambda::Alias")}
    callers = [
        (name, properties.get(key))
        for kind, key in {
            "AWS::ApiGatewayV2::Integration": "IntegrationUri",
            "AWS::Lambda::Permission": "FunctionName",
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


@rule
def routes_can_be_served(template):
    integrations = {name: properties for name, properties, _ in resources(template, "AWS::ApiGatewayV2::Integration")}
    for name, integration in integrations.items():
        if integration.get("PayloadFormatVersion") != "2.0" or integration.get("IntegrationType") != "AWS_PROXY":
            yield f"{name} does not use payload 2.0"
    for name, route, _ in resources(template, "AWS::ApiGatewayV2::Route"):
        if integration_of(route) not in integrations:
            yield f"{name} has no integration"
        if route["RouteKey"] == OTHER_PATHS:
            continue
        verb, _, path = route["RouteKey"].partition(" ")
        if verb != "ANY":
            yield f"{name}: {verb} leaves other methods of {path} without an answer"
        if not path.startswith("/") or not all(SEGMENT.fullmatch(segment) for segment in path[1:].split("/")):
            yield f"{name}: {path} is not a valid path"


@rule
def other_paths_are_answered(template):
    """A path without a route needs an audit line too. The function that answers can read no secret."""
    others = [route for _, route, _ in resources(template, "AWS::ApiGatewayV2::Route") if route["RouteKey"] == OTHER_PATHS]
    if [integration_of(route) for route in others] != ["KeysIntegration"]:
        yield "keys does not answer for the paths without a route"


@rule
def api_has_an_address_of_its_own(template):
    for name, api, _ in resources(template, "AWS::ApiGatewayV2::Api"):
        if api.get("DisableExecuteApiEndpoint") != {"Fn::If": ["HasDomain", {"Ref": "DisableExecuteApiEndpoint"}, False]}:
            yield f"{name} turns its only name off, or keeps a second one"
        if api.get("IpAddressType") != "dualstack":
            yield f"{name} has no IPv6 address"
    for name, domain, _ in resources(template, "AWS::ApiGatewayV2::DomainName"):
        for configuration in domain["DomainNameConfigurations"]:
            if (configuration.get("IpAddressType"), configuration.get("SecurityPolicy")) != ("dualstack", "TLS_1_2"):
                yield f"{name} has no IPv6 address or an old protocol"
        if target(branches(domain.get("MutualTlsAuthentication"))[0].get("TruststoreUri")) != "MutualTlsTruststoreUri":
            yield f"{name} cannot require client certificates"


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
            if re.search(r"authoriz|header|path|querystring|useragent", field, re.IGNORECASE):
                yield f"{name}: the access log holds {field}"
        for wanted in ("requestId", "awsEndpointRequestId", "integration.requestId", "error.message", "status"):
            if f"$context.{wanted}" not in fields.values():
                yield f"{name}: the access log has no {wanted}"


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
        if number not in function.get("Description", {}).get("Fn::Sub", ""):
            yield f"{name} has a description without {number}"
    for name, version, resource in resources(template, "AWS::Lambda::Version"):
        if number not in (version.get("Description") or {}).get("Fn::Sub", ""):
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
        if fault := window_fault(expression, resolved(template, rotation.get("RotationRules", {}).get("Duration"))):
            yield f"{name}: {fault}"
        if resolved(template, rotation.get("RotateImmediatelyOnUpdate")) != "false":
            yield f"{name} revokes every token when its schedule changes"
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
def notifications_arrive(template):
    """EventBridge publishes only through a statement without a condition. A notification that is lost leaves a trace."""
    policies = dict(
        (target(topic), policy["PolicyDocument"]["Statement"])
        for _, policy, _ in resources(template, "AWS::SNS::TopicPolicy")
        for topic in policy["Topics"]
    )
    for name, _, _ in resources(template, "AWS::SNS::Topic"):
        if not any(refuses_plain_text(statement) for statement in policies.get(name, [])):
            yield f"{name} accepts messages without TLS"
    queues = {
        target(queue): policy["PolicyDocument"]["Statement"]
        for _, policy, _ in resources(template, "AWS::SQS::QueuePolicy")
        for queue in policy["Queues"]
    }
    for name, _, _ in resources(template, "AWS::SQS::Queue"):
        if not any(refuses_plain_text(statement) for statement in queues.get(name, [])):
            yield f"{name} accepts messages without TLS"
    for name, rule_, _ in resources(template, "AWS::Events::Rule"):
        for receiver in rule_["Targets"]:
            admitted = [
                statement
                for statement in policies.get(target(receiver["Arn"]), [])
                if statement["Effect"] == "Allow" and statement["Principal"] == {"Service": "events.amazonaws.com"}
            ]
            if not admitted or any("Condition" in statement for statement in admitted):
                yield f"{name}: the topic does not admit EventBridge without a condition"
            letters = queues.get(target(receiver.get("DeadLetterConfig", {}).get("Arn")), [])
            if not any(name in json.dumps(statement.get("Condition")) for statement in letters):
                yield f"{name} has no dead-letter queue that admits it"


def refuses_plain_text(statement):
    return statement["Effect"] == "Deny" and statement.get("Condition") == {"Bool": {"aws:SecureTransport": False}}


@rule
def costs_are_bounded(template):
    for name, budget, resource in resources(template, "AWS::Budgets::Budget"):
        if resource.get("Condition") != "HasBudget" or len(budget.get("NotificationsWithSubscribers", [])) < 2:
            yield f"{name} does not notify AlarmEmail"
    for name, filter_, _ in resources(template, "AWS::Logs::MetricFilter"):
        fields = json.loads(template["Resources"]["Stage"]["Properties"]["AccessLogSettings"]["Format"])
        if filter_["FilterPattern"] != '{ $.status = "429" }' or fields.get("status") != "$context.status":
            yield f"{name} does not count the throttled requests"


@rule
def alarms_watch_everything(template):
    watched = {
        (target(dimension["Value"]), str(metric["MetricName"]))
        for _, alarm, _ in resources(template, "AWS::CloudWatch::Alarm")
        for metric in metrics(alarm)
        for dimension in metric.get("Dimensions", [{"Value": {"Ref": "account"}}])
    }
    wanted = {(name, "Errors") for name, _, _ in resources(template, "AWS::Lambda::Function")} | {
        ("AuthorizerFunction", "Throttles"),
        ("AuthorizerFunction", "Duration"),
        ("RotateKeysFunction", "Duration"),
        ("Api", "4xx"),
        ("Api", "5xx"),
        ("Api", "Count"),
        ("Api", "Latency"),
        ("Table", "ReadThrottleEvents"),
        ("Table", "WriteThrottleEvents"),
        ("Table", "SystemErrors"),
        ("AssignmentsTable", "ReadThrottleEvents"),
        ("account", "ClaimedAccountConcurrency"),
        ("DeadLetters", "ApproximateNumberOfMessagesVisible"),
        ("EnsureKeysGroup", "TargetErrorCount"),
        ("RotationFailed", "FailedInvocations"),
        ("KeysReplaced", "FailedInvocations"),
        ("ResourceId", "SigningKeysAge"),
    }
    for name, metric in sorted(wanted - watched):
        yield f"{name} has no alarm for {metric}"
    counted = [
        {"Fn::Sub": made["MetricName"]["Fn::Sub"]}
        for _, filter_, _ in resources(template, "AWS::Logs::MetricFilter")
        for made in filter_["MetricTransformations"]
    ]
    alarms = [metric["MetricName"] for _, alarm, _ in resources(template, "AWS::CloudWatch::Alarm") for metric in metrics(alarm)]
    if not counted or any(name not in alarms for name in counted):
        yield "the throttled requests have no alarm"


@rule
def alarms_tell_begin_and_end(template):
    for name, alarm, _ in resources(template, "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
        if not alarm.get("AlarmActions") or alarm.get("AlarmActions") != alarm.get("OKActions"):
            yield f"{name} does not tell its begin and its end"
    absent = [
        name
        for name, alarm, _ in resources(template, "AWS::CloudWatch::Alarm")
        if alarm.get("TreatMissingData") == "breaching"
    ]
    if absent != ["KeyAge"]:
        yield f"the alarms of absence are {absent}"
    pages = [alarm for _, alarm, _ in resources(template, "AWS::CloudWatch::CompositeAlarm")]
    if [[target(topic) for topic in alarm["AlarmActions"]] for alarm in pages] != [["PageTopic"]]:
        yield "no composite alarm goes to the page topic"


def metrics(alarm):
    """Returns every metric of an alarm."""
    if "MetricName" in alarm:
        return [alarm]
    return [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]


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


def window_fault(expression, window):
    """Returns the reason why Secrets Manager would refuse this window, or None. Without one, the window is the UTC day."""
    match = re.fullmatch(r"([1-9]|1[0-9]|2[0-4])h", str(window))
    if not match:
        return f"the window {window} is not 1h to 24h"
    try:
        hours = values(str(expression).removeprefix("cron(").split(" ")[1], 0, 23)
    except (IndexError, ValueError):
        return None
    if hours[-1] + int(match.group(1)) > 24:
        return f"the window {window} reaches into the next day"
    if any(later - earlier < int(match.group(1)) for earlier, later in zip(hours, hours[1:])):
        return f"the window {window} reaches into the next one"
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
