"""Tests the template: lint, rules, permissions, routes, functions, parameters."""

import re

import pytest

import lint
import openapi
import permissions
import rules
import template as sam

README = sam.ROOT / "README.md"


@pytest.fixture(scope="module")
def template():
    return sam.transformed()


def test_lint_has_no_findings(template):
    assert lint.findings(template) == []


def test_only_the_budget_is_missing_in_other_partitions(template):
    for region in ("us-gov-west-1", "cn-north-1"):
        assert [found for found in lint.findings(template, region) if "AWS::Budgets::Budget" not in found] == []


def test_no_rule_is_violated(template):
    assert rules.faults(template) == []


def test_granted_permissions_equal_documented_permissions(template):
    assert permissions.granted(template) == permissions.documented()


def test_routes_equal_the_paths_of_the_openapi_document(template):
    assert routes(template) == documented_routes()


def routes(template):
    """Returns (path, function) of every route. The rules check that a route has every method."""
    resources = template["Resources"]
    found = set()
    for _, route, _ in rules.resources(template, "AWS::ApiGatewayV2::Route"):
        if route["RouteKey"] == rules.OTHER_PATHS:
            continue
        integration = resources[rules.integration_of(route)]["Properties"]
        alias = resources[rules.target(integration["IntegrationUri"])]["Properties"]
        function = resources[rules.target(alias["FunctionName"])]["Properties"]
        _, _, path = route["RouteKey"].partition(" ")
        found.add((path, permissions.name_of(function)))
    return found


def documented_routes():
    return {(operation.path, operation.function) for operation in openapi.operations()}


def test_functions_are_deployed_under_their_names(template):
    built = {path.stem for path in (sam.ROOT / "functions" / "src" / "bin").iterdir()}
    assert built == openapi.functions() | openapi.OTHER_FUNCTIONS
    assert functions(template) == {(name, f"{name}.zip") for name in built}


def functions(template):
    """Returns (name, code) of every function."""
    return {
        (permissions.name_of(function), function["Code"]["S3Key"])
        for _, function, _ in rules.resources(template, "AWS::Lambda::Function")
    }


def test_way_back_acts_on_every_function(template):
    names = {name for name, _ in functions(template)}
    text = (sam.ROOT / "docs/upgrade.md").read_text(encoding="utf-8")
    assert set(re.search(r"for function in ([a-z -]+); do", text).group(1).split()) == names


def test_documented_cost_of_a_flood_equals_the_throttles(template):
    defaults = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}
    [(_, stage, _)] = rules.resources(template, "AWS::ApiGatewayV2::Stage")
    busy = len(stage["RouteSettings"])
    others = len(list(rules.resources(template, "AWS::ApiGatewayV2::Route"))) - busy
    rate = busy * defaults["BusyRouteRate"] + others * defaults["RouteRate"]
    text = permissions.DOCUMENT.read_text(encoding="utf-8")
    assert f"`BusyRouteRate` × {busy} + `RouteRate` × {others}" in text
    assert f"**{rate} requests a second**" in text and f"{rate * 86_400 / 1e6} million requests a day" in text
    refused = float(re.search(r"\*\*sum\*\*.*?\*\*([0-9.]+)\*\* \| \*\*[0-9.]+\*\* \|$", text, re.MULTILINE).group(1))
    assert f"**{round(rate * 0.0864 * refused, -1):.0f} USD a day**" in text


def test_documented_sums_of_the_costs_are_right():
    table = permissions.DOCUMENT.read_text(encoding="utf-8").split("\n## Cost\n")[1].split("\n\n")[2]
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")[1:]] for line in table.splitlines()[2:]]
    *parts, sums = [[0 if cell == "–" else float(cell) for cell in row] for row in rows]
    assert [round(sum(column), 2) for column in zip(*parts)] == sums


def test_documented_number_of_metrics_with_alarms(template):
    alarms = [alarm for _, alarm, _ in rules.resources(template, "AWS::CloudWatch::Alarm")]
    watched = [metric for alarm in alarms for metric in rules.metrics(alarm)]
    text = permissions.DOCUMENT.read_text(encoding="utf-8")
    assert f"{len(watched) / 10:.2f} for alarms with {len(watched)} metrics" in text


def test_every_alarm_is_documented(template):
    text = (sam.ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    alarms = {name for name, _, _ in rules.resources(template, "AWS::CloudWatch::Alarm")}
    behind_the_api = {f"{name}Errors" for name in ("User", "Token", "Revoke", "TeamsExchange", "Introspect", "Keys", "Revocations")}
    assert {name for name in alarms - behind_the_api if f"`{name}`" not in text} == set()


def test_every_function_is_documented():
    named = {name for name, _, _ in permissions.documented()}
    assert named == openapi.functions() | openapi.OTHER_FUNCTIONS | {"ensure-keys", "deployments"}
    text = README.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\|[^|]+\| `([A-Z]+) (\S+)` \| `(\S+)` \|", text, re.MULTILINE))
    assert rows <= {(operation.method, operation.path, operation.function) for operation in openapi.operations()}
    assert {function for _, _, function in rows} == openapi.functions()


GUID = "5e0d8f7c-0b0a-4c8e-9a54-6a4f3d1c2b10"
ORIGINS = ["", "https://app.example.com", "https://app.example.com:8443,http://localhost:3000"]
NO_ORIGINS = ["*", "app.example.com", "https://app.example.com/", "https://a, https://b", "ftp://a", "https://a,"]
TABLE_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/"
SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
VALUES = {
    "ResourceId": ([GUID], ["", "x", GUID.upper(), f"{{{GUID}}}"]),
    "ResourceLocation": (["unitedstates", "emea"], ["", "United States", "a" * 41]),
    "ResourceRegion": (["amer"], ["", "AMER"]),
    "RotationSchedule": (
        ["cron(0 3 ? * SUN *)", "cron(0 0 1 * ? *)", "cron(0 0/12 * * ? *)", "cron(0 4 ? 1-6 MON-FRI *)"],
        ["", "weekly", "rate(7 days)", "cron(30 3 ? * SUN *)", "cron(0 3 * * * *)", "cron(0 3 ? * SUN 2027)"],
    ),
    "DomainName": (["", "id.example.com"], ["localhost", "https://id.example.com", "ID.example.com"]),
    "CertificateArn": (["", f"arn:aws:acm:eu-west-1:123456789012:certificate/{GUID}"], ["certificate"]),
    "AllowedHosts": (["", "a.example.com", "a.example.com,b.example.com:8443"], ["a, b", "https://a", "a,"]),
    "EntraAuthority": (["https://login.microsoftonline.com"], ["", "http://a", "https://a?b"]),
    "EntraTenants": (["", GUID, f"{GUID},{GUID}"], ["contoso", f"{GUID}, {GUID}"]),
    "EntraServicePrincipals": (["", f"{GUID}/{GUID}", f"{GUID}/{GUID},{GUID}/{GUID}"], [GUID]),
    "AllowedOrigins": (ORIGINS, NO_ORIGINS),
    "AllowedOriginsWithAccessKey": (ORIGINS, NO_ORIGINS),
    "AlarmEmail": (["", "on-call@example.com"], ["on-call"]),
    "RotationWindow": (["1h", "12h", "24h"], ["", "1", "0h", "25h", "90m"]),
    "Issuer": (
        ["", "https://id.example.com", "https://a1b2c3.execute-api.eu-west-1.amazonaws.com"],
        ["id.example.com", "http://id.example.com", "https://id.example.com/", "https://ID.example.com"],
    ),
    "MutualTlsTruststoreUri": (
        ["", "s3://bucket/clients.pem"],
        ["bucket/clients.pem", "https://bucket/clients.pem", "s3://bucket"],
    ),
    "AuthorizerRulesLayer": (
        ["", "arn:aws:lambda:eu-west-1:123456789012:layer:route-rules:3"],
        ["route-rules.txt", "arn:aws:lambda:eu-west-1:123456789012:layer:route-rules"],
    ),
    "KmsKeyArn": (["", f"arn:aws:kms:eu-west-1:123456789012:key/{GUID}"], ["alias/identity", GUID]),
    "SecretReaders": (
        ["", "arn:aws:iam::123456789012:role/on-call", "arn:aws:iam::123456789012:role/aws-reserved/*"],
        ["on-call", "arn:aws:iam::123456789012:root", "arn:aws:sts::123456789012:assumed-role/on-call/me"],
    ),
    "PermissionsBoundary": (["", "arn:aws:iam::123456789012:policy/boundary"], ["boundary"]),
    "RolePath": (["/", "/identity/", "/a/b/"], ["", "identity", "/identity"]),
    "ExistingTableStreamArn": (
        ["", f"{TABLE_ARN}identity-Table-1A2B3C/stream/2026-01-02T03:04:05.678"],
        [f"{TABLE_ARN}identity-Table-1A2B3C", f"{TABLE_ARN}a/index/b", "2026-01-02T03:04:05.678"],
    ),
    "ExistingTableArn": (["", f"{TABLE_ARN}identity-Table-1A2B3C"], ["identity-Table-1A2B3C", f"{TABLE_ARN}a/index/b"]),
    "ExistingAssignmentsTableArn": (["", f"{TABLE_ARN}identity-AssignmentsTable-1A2B3C"], ["AssignmentsTable"]),
    "ExistingAccessKeysArn": (["", f"{SECRET_ARN}identity/access-keys-AbCdEf"], ["identity/access-keys"]),
    "ExistingSigningKeysArn": (["", f"{SECRET_ARN}identity/signing-keys-AbCdEf"], ["identity/signing-keys"]),
}


@pytest.mark.parametrize("name", VALUES)
def test_parameter_pattern_refuses_invalid_values(name):
    parameter = sam.source()["Parameters"][name]
    pattern = re.compile(parameter["AllowedPattern"])
    accepted, refused = VALUES[name]
    assert parameter["ConstraintDescription"]
    assert [value for value in accepted if not pattern.fullmatch(value)] == []
    assert [value for value in refused if pattern.fullmatch(value)] == []


def test_every_free_text_parameter_has_a_limit():
    parameters = sam.source()["Parameters"]
    bound = {"AllowedPattern", "AllowedValues", "MinValue", "MaxLength"}
    assert [name for name, parameter in parameters.items() if not bound & set(parameter)] == []


def test_every_pattern_is_tested():
    parameters = sam.source()["Parameters"]
    assert {name for name, parameter in parameters.items() if "AllowedPattern" in parameter} == set(VALUES)


def test_every_parameter_is_documented_and_grouped():
    source = sam.source()
    groups = source["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(source["Parameters"])
    text = permissions.DOCUMENT.read_text(encoding="utf-8").split("\n## Parameters\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(source["Parameters"])


def test_invalid_rotation_schedules_are_found():
    good = ["0 3 ? * SUN *", "0 0/4 * * ? *", "0 8 1,15 * ? *", "0 3 L * ? *", "0 3 ? * 3#2 *"]
    bad = ["0 * * * ? *", "0 25 * * ? *", "0 1,2 * * ? *", "0 3 ? * XYZ *", "0 3 ? * SUN", "30 3 ? * SUN *"]
    assert [fields for fields in good if rules.rotation_fault(f"cron({fields})")] == []
    assert [fields for fields in bad if not rules.rotation_fault(f"cron({fields})")] == []


def test_invalid_rotation_windows_are_found():
    good = [("0 3 ? * SUN *", "1h"), ("0 0 ? * SUN *", "24h"), ("0 0/12 * * ? *", "12h"), ("0 23 1 * ? *", "1h")]
    bad = [("0 3 ? * SUN *", None), ("0 3 ? * SUN *", "22h"), ("0 0/4 * * ? *", "5h"), ("0 23 1 * ? *", "2h")]
    assert [pair for pair in good if rules.window_fault(f"cron({pair[0]})", pair[1])] == []
    assert [pair for pair in bad if not rules.window_fault(f"cron({pair[0]})", pair[1])] == []
