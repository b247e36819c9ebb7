"""Plants faults in the template. A lint code, a rule or a comparison must find each fault."""

import copy

import pytest

import lint
import permissions
import rules
import template as sam
from test_template import documented_routes, functions, routes

SOURCE = sam.source()
TRANSFORMED = sam.transformed()
FUNCTION = "Resources/UserFunction/Properties"
SETTING = f"{FUNCTION}/Environment/Variables/ACCESS_KEYS_SECRET"
TABLE = "Resources/Table/Properties"
STAGE = "Resources/Stage/Properties"
STATEMENTS = "Resources/{}Role/Properties/Policies/0/PolicyDocument/Statement"
SORTED = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
READS_A_SECRET = {
    "Effect": "Allow",
    "Action": "secretsmanager:GetSecretValue",
    "Resource": {"Ref": "SigningKeys"},
}

# The finder, the place and the planted value. The value None removes the place.
PLANTED = {
    "an unknown attribute": ("E1010", SETTING, {"Fn::GetAtt": ["Table", "X"]}),
    "an unknown name": ("E1020", SETTING, {"Ref": "Nothing"}),
    "an unknown action": ("W3037", STATEMENTS.format("User") + "/0/Action", "dynamodb:BatchGetItems"),
    "a timeout beyond Lambda's": ("E3717", f"{FUNCTION}/Timeout", 5000),
    "a timeout beyond the gateway's": ("functions_run_as_built", f"{FUNCTION}/Timeout", 60),
    "an unknown architecture": ("E3030", f"{FUNCTION}/Architectures", ["arm"]),
    "another architecture": ("functions_run_as_built", "Parameters/Architecture/Default", "x86_64"),
    "an old runtime": ("functions_run_as_built", f"{FUNCTION}/Runtime", "provided.al2"),
    "too little memory": ("functions_run_as_built", f"{FUNCTION}/MemorySize", 64),
    "a function that waits for itself": ("E3004", "Resources/Api/DependsOn", "UserFunction"),
    "no rotation": ("all_resources_exist", "Resources/SigningKeysRotation", None),
    "no schedule for the first keys": ("all_resources_exist", "Resources/EnsureKeys", None),
    "an invalid schedule": ("rotations_are_scheduled", "Parameters/RotationSchedule/Default", "cron(on sundays)"),
    "a rotation every hour": ("rotations_are_scheduled", "Parameters/RotationSchedule/Default", "cron(0 * * * ? *)"),
    "a rotation before its permission": ("rotations_are_scheduled", "Resources/SigningKeysRotation/DependsOn", None),
    "an invalid rate": ("schedules_are_delivered", "Resources/EnsureKeys/Properties/ScheduleExpression", "often"),
    "a schedule without dead letters": (
        "schedules_are_delivered",
        "Resources/EnsureKeys/Properties/Target/DeadLetterConfig",
        None,
    ),
    "a route for one method": (
        "routes_can_be_served",
        "Resources/IdentitiesRoute/Properties/RouteKey",
        "POST /identities",
    ),
    "a CORS configuration": (
        "functions_answer_preflights",
        "Resources/Api/Properties/CorsConfiguration",
        {"AllowOrigins": ["https://app.example.com"]},
    ),
    "a parameter glued to text": (
        "routes_can_be_served",
        "Resources/IssueAccessTokenRoute/Properties/RouteKey",
        "ANY /identities/{id}:issueAccessToken",
    ),
    "the old payload": ("routes_can_be_served", "Resources/UserIntegration/Properties/PayloadFormatVersion", "1.0"),
    "a named stage": ("stage_is_the_default", f"{STAGE}/StageName", "prod"),
    "no throttle": ("stage_is_the_default", f"{STAGE}/DefaultRouteSettings/ThrottlingRateLimit", None),
    "settings for a later route": ("stage_is_the_default", "Resources/Stage/DependsOn", "IdentitiesRoute"),
    "credentials in the access log": (
        "access_log_is_quiet",
        f"{STAGE}/AccessLogSettings/Format",
        '{"a":"$context.requestId","b":"$request.header.Authorization"}',
    ),
    "logs without expiry": ("logs_are_kept", "Resources/UserLogs/Properties/RetentionInDays", None),
    "audit lines kept as short as the access log": (
        "logs_are_kept",
        "Resources/UserLogs/Properties/RetentionInDays",
        {"Ref": "LogRetentionDays"},
    ),
    "logs deleted with the stack": ("logs_are_kept", "Resources/TokenLogs/DeletionPolicy", "RetainExceptOnCreate"),
    "logs that can be deleted": ("logs_are_kept", "Resources/TokenLogs/Properties/DeletionProtectionEnabled", False),
    "logs under the name of a former stack": (
        "logs_are_kept",
        "Resources/TokenLogs/Properties/LogGroupName",
        {"Fn::Sub": "/aws/lambda/${AWS::StackName}-token"},
    ),
    "logs of another function": (
        "functions_log_to_groups_of_their_own",
        f"{FUNCTION}/LoggingConfig/LogGroup",
        {"Ref": "TokenLogs"},
    ),
    "a table that can be deleted": ("table_is_protected", f"{TABLE}/DeletionProtectionEnabled", False),
    "a table deleted with the stack": ("state_is_kept", "Resources/Table/DeletionPolicy", "Delete"),
    "a table deleted when replaced": ("state_is_kept", "Resources/Table/UpdateReplacePolicy", None),
    "a secret deleted with the stack": ("state_is_kept", "Resources/SigningKeys/DeletionPolicy", None),
    "a table without point-in-time recovery": ("table_is_protected", f"{TABLE}/PointInTimeRecoverySpecification", None),
    "tombstones without expiry": ("table_is_protected", f"{TABLE}/TimeToLiveSpecification/AttributeName", "ttl"),
    "a generated key": ("secrets_come_without_value", "Resources/AccessKeys/Properties/GenerateSecretString", {}),
    "a secret that its function may not read": (
        "policies_of_secrets_admit_the_functions",
        "Resources/SigningKeysPolicy/Properties/ResourcePolicy/Statement/0/Condition",
        {"ArnNotLike": {"aws:PrincipalArn": [{"Fn::Sub": "${TokenRole.Arn}"}, {"Fn::Sub": "${RotateKeysRole.Arn}"}]}},
    ),
    "a secret with a policy for another one": (
        "policies_of_secrets_admit_the_functions",
        "Resources/SigningKeysPolicy/Properties/SecretId",
        {"Ref": "AccessKeys"},
    ),
    "a setting for an unreadable secret": (
        "functions_know_the_secrets_they_may_read",
        "Resources/RevokeFunction/Properties/Environment/Variables/SIGNING_KEYS_SECRET",
        {"Ref": "SigningKeys"},
    ),
    "a sort key in another table": ("table_is_protected", f"{TABLE}/KeySchema", SORTED),
    "a table that `token` may not use": (
        "functions_know_the_tables_they_may_use",
        STATEMENTS.format("Token") + "/0/Resource",
        [{"Fn::GetAtt": ["Table", "Arn"]}, {"Fn::GetAtt": ["AssignmentsTable", "Arn"]}],
    ),
    "assignments that `user` knows": (
        "functions_know_the_tables_they_may_use",
        f"{FUNCTION}/Environment/Variables/ASSIGNMENTS_TABLE_NAME",
        {"Ref": "AssignmentsTable"},
    ),
    "every assignment": ("permissions", STATEMENTS.format("TeamsExchange") + "/2/Condition", None),
    "a list without its permission": ("permissions", STATEMENTS.format("TeamsExchange") + "/3", None),
    "a wide policy": ("roles_are_narrow", "Resources/KeyPermission/Properties/PolicyDocument/Statement/0/Resource", "*"),
    "a policy that no parameter adds": ("roles_are_narrow", "Resources/KeyPermission/Condition", None),
    "a role outside the path": ("roles_are_narrow", "Resources/EnsureKeysRole/Properties/Path", None),
    "a role without the boundary": ("roles_are_narrow", "Resources/UserRole/Properties/PermissionsBoundary", None),
    "a key for `deployments`": (
        "permissions",
        "Resources/KeyPermission/Properties/Roles",
        [{"Ref": "UserRole"}, {"Ref": "TokenRole"}],
    ),
    "aliases of other stacks": ("roles_are_narrow", STATEMENTS.format("Deployments") + "/0/Resource", "*"),
    "any action": ("roles_are_narrow", STATEMENTS.format("User") + "/0/Action", "dynamodb:*"),
    "any resource": ("roles_are_narrow", STATEMENTS.format("User") + "/0/Resource", "*"),
    "a managed policy": (
        "roles_are_narrow",
        "Resources/UserRole/Properties/ManagedPolicyArns",
        ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"],
    ),
    "an unrestricted invoker": ("invokers_are_named", "Resources/UserPermission/Properties/SourceArn", None),
    "a reservation that a new account refuses": (
        "concurrency_is_reserved_on_request",
        "Resources/RotateKeysFunction/Properties/ReservedConcurrentExecutions",
        1,
    ),
    "a reservation by default": ("concurrency_is_reserved_on_request", "Parameters/AuthorizerConcurrency/Default", 10),
    "no dead letters": ("rotations_that_fail_are_kept", "Resources/RotateKeysFunction/Properties/DeadLetterQueue", None),
    "a missing alarm": ("alarms_watch_everything", "Resources/RevokeErrors", None),
    "no alarm for the throttle": ("alarms_watch_everything", "Resources/ThrottledRequests", None),
    "an alarm of another metric": ("alarms_watch_everything", "Resources/ThrottledRequests/Properties/MetricName", "Throttled"),
    "no alarm for lost notifications": ("alarms_watch_everything", "Resources/LostNotifications/Properties/Metrics/2", None),
    "an alarm without an end": ("alarms_tell_begin_and_end", "Resources/ApiLatency/Properties/OKActions", None),
    "silence that raises no alarm": (
        "alarms_tell_begin_and_end",
        "Resources/KeyAge/Properties/TreatMissingData",
        "notBreaching",
    ),
    "a page that goes to the mailbox": (
        "alarms_tell_begin_and_end",
        "Resources/ServiceImpaired/Properties",
        {"AlarmActions": [{"Ref": "AlarmTopic"}], "OKActions": [{"Ref": "AlarmTopic"}], "AlarmRule": "TRUE"},
    ),
    "throttled requests that are not counted": (
        "costs_are_bounded",
        "Resources/ThrottledRequestsMetric/Properties/FilterPattern",
        "{ $.status = 429 }",
    ),
    "a budget for nobody": ("costs_are_bounded", "Resources/Budget/Properties/NotificationsWithSubscribers", []),
    "a condition for EventBridge": (
        "notifications_arrive",
        "Resources/AlarmTopicPolicy/Properties/PolicyDocument/Statement/1/Condition",
        {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
    ),
    "a topic that does not admit EventBridge": (
        "notifications_arrive",
        "Resources/AlarmTopicPolicy/Properties/PolicyDocument/Statement/1",
        None,
    ),
    "a notification without dead letters": (
        "notifications_arrive",
        "Resources/RotationFailed/Properties/Targets/0/DeadLetterConfig",
        None,
    ),
    "dead letters that the queue refuses": (
        "notifications_arrive",
        "Resources/DeadLettersPolicy/Properties/PolicyDocument/Statement/0",
        None,
    ),
    "messages without TLS": ("notifications_arrive", "Resources/PageTopicPolicy/Properties/PolicyDocument/Statement/1", None),
    "an integration of the function itself": (
        "callers_use_the_alias",
        "Resources/TokenIntegration/Properties/IntegrationUri",
        {"Fn::GetAtt": ["TokenFunction", "Arn"]},
    ),
    "an export of the function itself": (
        "callers_use_the_alias",
        "Outputs/AuthorizerFunctionArn/Value",
        {"Fn::GetAtt": ["AuthorizerFunction", "Arn"]},
    ),
    "a rotation by the function itself": (
        "callers_use_the_alias",
        "Resources/SigningKeysRotation/Properties/RotationLambdaARN",
        {"Fn::GetAtt": ["RotateKeysFunction", "Arn"]},
    ),
    "an integration before its permission": (
        "integrations_wait_for_their_permission",
        "Resources/TokenIntegration/DependsOn",
        "UserPermission",
    ),
    "a setting that never reaches the alias": (
        "settings_reach_the_alias",
        "Resources/Settings/Properties/Content",
        {"Fn::Join": [" ", [{"Ref": "ResourceId"}]]},
    ),
    "a version with a constant description": (
        "settings_reach_the_alias",
        f"{FUNCTION}/VersionDescription",
        "settings",
    ),
    "a function with a constant description": ("settings_reach_the_alias", f"{FUNCTION}/Description", "user"),
    "no way back": ("settings_reach_the_alias", "Resources/UserFunction/UpdateReplacePolicy", None),
    "a release that never rolls back": (
        "releases_roll_back",
        "Globals/Function/DeploymentPreference/Alarms",
        {"Fn::If": ["IsGradual", [{"Ref": "AWS::NoValue"}], [{"Ref": "AWS::NoValue"}]]},
    ),
    "a rotation of two releases": (
        "releases_roll_back",
        "Resources/RotateKeysFunction/Properties/DeploymentPreference",
        None,
    ),
    "unanswered paths": ("other_paths_are_answered", "Resources/OtherPathsRoute", None),
    "paths answered by a function with secrets": (
        "other_paths_are_answered",
        "Resources/OtherPathsRoute/Properties/Target",
        {"Fn::Sub": "integrations/${UserIntegration}"},
    ),
    "two names for one API": ("api_has_an_address_of_its_own", "Resources/Api/Properties/DisableExecuteApiEndpoint", False),
    "no address in IPv6": ("api_has_an_address_of_its_own", "Resources/Api/Properties/IpAddressType", None),
    "no client certificates": ("api_has_an_address_of_its_own", "Resources/Domain/Properties/MutualTlsAuthentication", {}),
    "text of the client in the access log": (
        "access_log_is_quiet",
        f"{STAGE}/AccessLogSettings/Format",
        '{"a":"$context.requestId","b":"$context.identity.userAgent"}',
    ),
    "an access log that joins no other log": (
        "access_log_is_quiet",
        f"{STAGE}/AccessLogSettings/Format",
        '{"a":"$context.requestId","status":"$context.status"}',
    ),
    "a rotation at any time of the day": (
        "rotations_are_scheduled",
        "Resources/SigningKeysRotation/Properties/RotationRules/Duration",
        None,
    ),
    "a window over midnight": ("rotations_are_scheduled", "Parameters/RotationWindow/Default", "22h"),
    "a schedule change that revokes every token": (
        "rotations_are_scheduled",
        "Parameters/RotateOnScheduleChange/Default",
        "true",
    ),
    "a table without encryption by KMS": ("table_is_protected", f"{TABLE}/SSESpecification", {"SSEEnabled": False}),
    "a function that is traced": ("functions_run_as_built", "Parameters/Tracing/Default", "Active"),
    "a secret that `keys` may read": ("permissions", STATEMENTS.format("Keys") + "/0", READS_A_SECRET),
    "a key item that `token` may write": ("permissions", STATEMENTS.format("Token") + "/0/Action", "dynamodb:PutItem"),
    "every item": ("permissions", STATEMENTS.format("Token") + "/0/Condition", None),
    "a missing permission": ("permissions", STATEMENTS.format("Revoke") + "/1", None),
    "the binary of another function": ("functions", "Resources/UserFunction/Properties/CodeUri", "../target/lambda/token/"),
    "a missing route": ("routes", "Resources/IdentityRoute", None),
    "a route to another function": (
        "routes",
        "Resources/IdentityRoute/Properties/Target",
        {"Fn::Sub": "integrations/${TokenIntegration}"},
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault_is_found(fault):
    finder, place, value = PLANTED[fault]
    # SAM transforms only the functions.
    if place.startswith("Globals/") or "Function/" in place:
        template = sam.transformed(planted(SOURCE, place, value))
    else:
        template = planted(TRANSFORMED, place, value)
    assert any(found.startswith(f"{finder}:") for found in findings(template, finder)), findings(template, finder)


def planted(template, place, value):
    template = copy.deepcopy(template)
    *way, last = place.split("/")
    node = template
    for step in way:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    key = int(last) if isinstance(node, list) else last
    if value is None:
        del node[key]
    else:
        node[key] = value
    return template


def findings(template, finder):
    if finder[0] in "EW" and finder[1:].isdigit():
        return lint.findings(template)
    if finder == "permissions":
        difference = permissions.granted(template) ^ permissions.documented()
        return [f"permissions: {grant}" for grant in sorted(difference)]
    if finder == "functions":
        return [f"functions: {name} runs {code}" for name, code in functions(template) if code != f"{name}.zip"]
    if finder == "routes":
        return [f"routes: {route}" for route in sorted(routes(template) ^ documented_routes())]
    return rules.faults(template)
