"""Tests infra/preflight: its reading of the template, its checks against the stand-in, and its command line."""

import json
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

import front
import stand_in
import template as sam
from account import GUID, INFRA, FakeAccount, calls_of, checkout, denial, executable, preflight
from deployment import zipped

REGION = stand_in.REGION
ROLE = "arn:aws:iam::000000000000:role/a"


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """The stand-in without a stack."""
    port = stand_in.free_port()
    with front.serving("identity.example.com", port, tmp_path_factory.mktemp("front")) as https:
        with stand_in.running(port, https) as running:
            yield running


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return checkout(tmp_path_factory.mktemp("built"))


def target(aws, template, stack="identity", try_api=False, **given):
    given = {"ResourceId": GUID, **given}
    return preflight.Target(aws, preflight.Template(template), stack, REGION, given, try_api)


def results(name, aws, template, **options):
    """Returns (status, text) of one check."""
    check = {**preflight.LOCAL_CHECKS, **preflight.account_checks.CHECKS}[name]
    return preflight.account_checks.made(check, target(aws, template, **options))


def faults(check, aws, template, **options):
    return [text for status, text in results(check, aws, template, **options) if status == "fail"]


def statuses(check, aws, template, **options):
    return [status for status, _ in results(check, aws, template, **options)]


# The template.

def test_facts_equal_those_of_the_parsed_template():
    parsed, read = sam.source(), preflight.Template(sam.SOURCE)
    assert set(read.resources) == set(parsed["Resources"]) and set(read.parameters) == set(parsed["Parameters"])
    for name, parameter in parsed["Parameters"].items():
        for key in set(parameter) & {"Default", "AllowedPattern", "Type", "MinValue", "MaxValue"}:
            assert read.parameters[name][key] == str(parameter[key]), (name, key)
        assert ("AllowedValues" in read.parameters[name]) == ("AllowedValues" in parameter), name


@pytest.mark.parametrize("kind, attribute", [
    ("AWS::Serverless::Function", "FunctionName"),
    ("AWS::Logs::LogGroup", "LogGroupName"),
    ("AWS::SecretsManager::Secret", "Name"),
])
def test_names_equal_those_of_the_parsed_template(kind, attribute):
    named = [item["Properties"].get(attribute, {}).get("Fn::Sub") for item in of_type(kind)]
    names = [name.replace("${AWS::StackName}", "s") for name in named if isinstance(name, str)]
    assert preflight.Template(sam.SOURCE).names(kind, attribute, "s") == names


def of_type(kind):
    return [item for item in sam.source()["Resources"].values() if item["Type"] == kind]


def test_every_reservation_is_read():
    read = preflight.Template(sam.SOURCE)
    every = {name: "7" for name in read.parameters}
    shared = sam.source()["Globals"]["Function"]
    functions = [{**shared, **item["Properties"]} for item in of_type("AWS::Serverless::Function")]
    found = [item["ReservedConcurrentExecutions"] for item in functions if "ReservedConcurrentExecutions" in item]
    assert read.reserved(every) == sum(amount if isinstance(amount, int) else 7 for amount in found)


LONG = "!If\n        - HasA\n        - !Ref A\n        - !Ref AWS::NoValue"


@pytest.mark.parametrize("text, reserved", [
    ("3", 3), ("!Ref A", 7), ("!If [HasA, !Ref A, !Ref AWS::NoValue]", 7), (LONG, 7), ("!Ref B", 0),
])
def test_each_form_of_a_reservation_is_read(tmp_path, text, reserved):
    path = tmp_path / "template.yaml"
    line = f"ReservedConcurrentExecutions: {text}\n"
    function = "    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: a\n"
    path.write_text(
        "Parameters:\n  A: {Type: Number, Default: 7}\n  B:\n    Type: Number\n    Default: 0\n"
        f"Globals:\n  Function:\n    {line}Resources:\n  F:\n{function}  G:\n{function}"
        f"  H:\n{function}      ReservedConcurrentExecutions: 1\n"
    )
    read = preflight.Template(path)
    assert read.reserved({name: item["Default"] for name, item in read.parameters.items()}) == 2 * reserved + 1


def test_every_service_of_the_template_has_a_read():
    assert preflight.Template(sam.SOURCE).services() - set(preflight.account_checks.READS) == set()


# The checks without an account.

def test_account_without_faults_passes(built):
    found = list(preflight.findings(target(FakeAccount(), built, try_api=True)))
    assert {status for status, _, _ in found} == {"ok"}, found


def test_items_of_a_list_are_checked_each():
    listed = {"Type": "CommaDelimitedList", "AllowedPattern": "[a-z]+"}
    assert preflight.value_fault(listed, "a,b") is None
    assert preflight.value_fault(listed, "a,1")


@pytest.mark.parametrize("stack, fault", [
    ("a" * 49, None), ("a" * 50, "at most 49"), ("1a", "begin with a letter"), ("a_b", "letters, digits and hyphens"),
    ("", "letters"),
])
def test_stack_name_must_leave_room_for_function_names(built, stack, fault):
    found = faults("stack name", FakeAccount(), built, stack=stack)
    assert (fault in found[0]) if fault else found == []


@pytest.mark.parametrize("name, value, fault", [
    ("ResourceId", GUID.upper(), "a GUID in lower case"),
    ("ResourceId", f"{{{GUID}}}", "a GUID in lower case"),
    ("ResourceId", "", "a GUID in lower case"),
    ("SigningAlgorithm", "HS256", "RS256"),
    ("RouteRate", "0", "a number from 1 to"),
    ("RouteRate", "many", "a number from 1 to"),
    ("LogRetentionDays", "31", "one of 7, 14"),
    ("RotationSchedule", "rate(7 days)", "cron(0"),
    ("Nothing", "1", "no parameter Nothing"),
])
def test_invalid_parameter_is_found(built, name, value, fault):
    [found] = faults("parameters", FakeAccount(), built, **{name: value})
    assert fault in found and name in found


def test_missing_parameter_is_named(built):
    unset = preflight.Target(FakeAccount(), preflight.Template(built), "identity", REGION, {})
    [text] = [text for status, text in preflight.check_parameters(unset) if status == "skip"]
    assert "--parameter ResourceId=" in text and "a GUID in lower case" in text


def damage(path, way):
    """Makes a function undeployable."""
    if way == "missing":
        path.unlink()
    elif way == "not executable":
        path.chmod(0o644)
    elif way == "another machine":
        path.write_bytes(executable("x86_64"))
    else:
        path.write_bytes(b"#!/bin/sh\n")


@pytest.mark.parametrize("way, fault", [
    ("missing", "has no file bootstrap"), ("not executable", "is not executable"),
    ("another machine", "built for x86_64 and not for arm64"), ("a script", "an unknown machine"),
])
def test_undeployable_function_is_found(tmp_path, way, fault):
    path = checkout(tmp_path / "checkout")
    damage(preflight.Template(path).codes()["KeysFunction"] / "bootstrap", way)
    [found] = faults("functions", FakeAccount(), path)
    assert fault in found and "1 of 10 functions" in found and "lambda/keys" in found


def test_functions_must_match_the_architecture_parameter(tmp_path):
    path = checkout(tmp_path / "checkout", "x86_64")
    assert statuses("functions", FakeAccount(), path, Architecture="x86_64") == ["ok"]
    [found] = faults("functions", FakeAccount(), path)
    assert "10 of 10" in found and "--arm64" in found


def test_zips_are_checked_like_folders(tmp_path):
    path = tmp_path / "template.yaml"
    path.write_text(re.sub(r"CodeUri: \.\./target/lambda/(\S+)/", r"CodeUri: ./\1.zip", sam.SOURCE.read_text()))
    for place in preflight.Template(path).codes().values():
        write_zip(place, executable("arm64"), 0o755)
    assert statuses("functions", FakeAccount(), path) == ["ok"]
    write_zip(tmp_path / "user.zip", executable("arm64"), 0o644)
    assert "not executable" in faults("functions", FakeAccount(), path)[0]
    (tmp_path / "user.zip").write_bytes(b"PK")
    assert "no file bootstrap" in faults("functions", FakeAccount(), path)[0]


def write_zip(path, bootstrap, mode):
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, bootstrap)


# The checks of an account, against the stand-in.

@pytest.fixture
def reserves_one(monkeypatch):
    """Makes the template reserve one execution, which depends on its parameters otherwise."""
    monkeypatch.setattr(preflight.Template, "reserved", lambda *_: 1)


@pytest.mark.usefixtures("reserves_one")
def test_reserved_concurrency_must_leave_a_hundred(account, built):
    functions = account.client("lambda")
    free = functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    make_function(account, "other")
    aws = calls_of(account)
    reserve(functions, "other", free - 101)
    assert statuses("concurrency", aws, built) == ["ok"]
    reserve(functions, "other", free - 100)
    [found] = faults("concurrency", aws, built)
    assert "100 executions are unreserved" in found and "L-B99A9384" in found
    functions.delete_function(FunctionName="other")


def reserve(functions, name, amount):
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=amount)


def make_function(account, name):
    account.client("lambda").create_function(
        FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=ROLE, Code={"ZipFile": zipped(b"")}
    )


@pytest.mark.usefixtures("reserves_one")
def test_own_reservation_counts_for_an_update(account, built):
    aws = calls_of(account)
    make_stack(account, "updated")
    make_function(account, "updated-rotate-keys")
    functions = account.client("lambda")
    free = functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    reserve(functions, "updated-rotate-keys", free - 99)
    assert statuses("concurrency", aws, built, stack="updated") == ["ok"]
    assert statuses("concurrency", aws, built, stack="new") == ["fail"]
    functions.delete_function(FunctionName="updated-rotate-keys")


def make_stack(account, name):
    topic = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    account.client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(topic))
    account.client("cloudformation").get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def test_existing_stack_is_updated(account, built):
    make_stack(account, "existing")
    account.client("secretsmanager").create_secret(Name="existing/access-keys")
    [(status, text)] = results("stack", calls_of(account), built, stack="existing")
    assert status == "ok" and "updates it" in text


def test_state_of_a_former_stack_is_found(account, built):
    aws = calls_of(account)
    assert statuses("stack", aws, built, stack="former") == ["ok", "ok"]
    keeps = account.client("secretsmanager")
    keeps.create_secret(Name="former/access-keys")
    keeps.create_secret(Name="former/signing-keys")
    keeps.delete_secret(SecretId="former/signing-keys", RecoveryWindowInDays=7)
    named = preflight.Template(built).names("AWS::Logs::LogGroup", "LogGroupName", "former")
    for name in (*named, "/aws/lambda/former-other"):
        account.client("logs").create_log_group(logGroupName=name)
    log_groups = [f"the log group {name}" for name in sorted(named)]
    for name in ("former-Table-1ABC", "former-AssignmentsTable-1ABC", "former-Other-1ABC"):
        make_table(account, name)
    found = faults("stack", aws, built, stack="former")
    assert [text.split(" exists")[0].split(" waits")[0] for text in found] == [
        "the secret former/access-keys of a former stack",
        "the secret former/signing-keys",
        "the table former-AssignmentsTable-1ABC of a former stack",
        "the table former-Table-1ABC of a former stack",
        *log_groups,
    ]
    assert "to use it again" in found[0] and "--force-delete-without-recovery" in found[0]
    assert "restore-secret" in found[1]


def test_given_state_of_a_former_stack_is_no_fault(built, tmp_path):
    parameter = '\nParameters:\n  ExistingState:\n    Type: String\n    Default: ""\n'
    path = tmp_path / "template.yaml"
    path.write_text(built.read_text().replace("\nParameters:\n", parameter))
    aws = FakeAccount(secretsmanager__describe_secret={"Name": "identity/access-keys"})
    assert faults("stack", aws, built) and "ExistingState" not in faults("stack", aws, built)[0]
    assert faults("stack", aws, path, ExistingState="arn") == []
    assert "ExistingState" in faults("stack", aws, path, ExistingState="")[0]


def test_rules_layer_must_exist(built, tmp_path):
    layer = "arn:aws:lambda:us-east-1:123456789012:layer:rules:1"
    missing = FakeAccount(lambda__get_layer_version_by_arn=denial("ResourceNotFoundException"))
    assert faults("rules layer", missing, built, AuthorizerRulesLayer=layer)
    assert statuses("rules layer", FakeAccount(), built, AuthorizerRulesLayer=layer) == ["ok"]
    assert statuses("rules layer", missing, built) == ["ok"]


def make_table(account, name):
    account.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )


@pytest.fixture
def trails(account):
    """The client of a trail that is called `all` and is off."""
    client = account.client("cloudtrail")
    account.client("s3").create_bucket(Bucket="trail")
    client.create_trail(Name="all", S3BucketName="trail", IsMultiRegionTrail=True)
    yield client
    client.delete_trail(Name="all")


def test_account_without_a_trail_fails(account, built):
    assert "no trail records" in faults("trail", calls_of(account), built)[0]


def test_trail_must_record_management_events(account, built, trails):
    aws = calls_of(account)
    assert faults("trail", aws, built)
    trails.start_logging(Name="all")
    select(trails, ReadWriteType="ReadOnly", IncludeManagementEvents=True)
    assert faults("trail", aws, built)
    select(trails, ReadWriteType="All", IncludeManagementEvents=False)
    assert faults("trail", aws, built)
    select(trails, ReadWriteType="WriteOnly", IncludeManagementEvents=True)
    assert statuses("trail", aws, built) == ["ok"]


def select(trails, **selector):
    trails.put_event_selectors(TrailName="all", EventSelectors=[selector])


def test_api_of_the_trial_is_deleted(account, built):
    assert statuses("route key", calls_of(account), built) == ["skip"]
    assert statuses("route key", calls_of(account), built, try_api=True) == ["ok"]
    assert account.client("apigatewayv2").get_apis()["Items"] == []


# The checks of an account, against fixed answers.

MANAGEMENT = {"Field": "eventCategory", "Equals": ["Management"]}


@pytest.mark.parametrize("fields, status", [
    ([MANAGEMENT], "ok"),
    ([MANAGEMENT, {"Field": "readOnly", "Equals": ["false"]}], "ok"),
    ([MANAGEMENT, {"Field": "readOnly", "Equals": ["true"]}], "fail"),
    ([MANAGEMENT, {"Field": "eventSource", "NotEquals": ["secretsmanager.amazonaws.com"]}], "fail"),
    ([{"Field": "eventCategory", "Equals": ["Data"]}], "fail"),
])
def test_advanced_selectors_of_a_trail_are_read(built, fields, status):
    answer = {"AdvancedEventSelectors": [{"FieldSelectors": fields}]}
    aws = FakeAccount(cloudtrail__get_event_selectors=answer)
    assert statuses("trail", aws, built) == [status]


@pytest.mark.parametrize("trail, status", [
    ({"IsMultiRegionTrail": False, "HomeRegion": REGION}, "ok"),
    ({"IsMultiRegionTrail": False, "HomeRegion": "eu-west-1"}, "fail"),
])
def test_trail_must_cover_the_region(built, trail, status):
    aws = FakeAccount(cloudtrail__describe_trails={"trailList": [{"TrailARN": "arn:t", **trail}]})
    assert statuses("trail", aws, built) == [status]


def test_unreadable_trail_is_no_finding(built):
    aws = FakeAccount(cloudtrail__get_trail_status=denial("AccessDeniedException"))
    [(status, text)] = results("trail", aws, built)
    assert status == "skip" and "arn:t" in text


@pytest.mark.parametrize("stack_status, status", [
    ("UPDATE_ROLLBACK_COMPLETE", "ok"), ("ROLLBACK_COMPLETE", "fail"), ("DELETE_FAILED", "fail"),
    ("UPDATE_IN_PROGRESS", "fail"), ("REVIEW_IN_PROGRESS", "ok"),
])
def test_stack_must_accept_a_deployment(built, stack_status, status):
    aws = FakeAccount(cloudformation__describe_stacks={"Stacks": [{"StackStatus": stack_status}]})
    assert statuses("stack", aws, built)[0] == status


@pytest.mark.usefixtures("reserves_one")
@pytest.mark.parametrize("free, status", [(10, "fail"), (50, "fail"), (100, "fail"), (101, "ok")])
def test_reduced_quota_is_found(built, free, status):
    aws = FakeAccount(lambda__get_account_settings={"AccountLimit": {"UnreservedConcurrentExecutions": free}})
    assert statuses("concurrency", aws, built) == [status]


def test_reduced_quota_is_enough_without_reservations(built, monkeypatch):
    monkeypatch.setattr(preflight.Template, "reserved", lambda *_: 0)
    aws = FakeAccount(lambda__get_account_settings={"AccountLimit": {"UnreservedConcurrentExecutions": 10}})
    assert statuses("concurrency", aws, built) == ["ok"]


def test_region_without_arm64_is_found(built):
    aws = FakeAccount(pricing__get_products={"PriceList": []})
    [found] = faults("arm64", aws, built)
    assert "Architecture=x86_64" in found
    assert statuses("arm64", FakeAccount(pricing__get_products=denial("AccessDeniedException")), built) == ["skip"]


def test_region_without_a_service_is_found(built):
    unreachable = denial(None)
    [found] = faults("services", FakeAccount(scheduler__list_schedules=unreachable), built)
    assert "Scheduler" in found and "choose a Region" in found
    denied = denial("AccessDeniedException")
    assert statuses("services", FakeAccount(scheduler__list_schedules=denied), built) == ["ok"]


def test_missing_credentials_skip_every_check_of_the_account(built):
    aws = FakeAccount(sts__get_caller_identity=denial("ExpiredToken"))
    found = list(preflight.findings(target(aws, built)))
    assert [name for status, name, _ in found if status == "fail"] == ["credentials"]
    assert {name for status, name, _ in found if status == "skip"} == set(preflight.account_checks.CHECKS)
    assert aws.calls == ["sts get-caller-identity"]


def test_denied_check_is_skipped(built):
    aws = FakeAccount(lambda__get_account_settings=denial("AccessDeniedException"))
    [(status, text)] = results("concurrency", aws, built)
    assert status == "skip" and "allow it" in text


def test_refused_route_key_is_found_and_the_api_deleted(built):
    aws = FakeAccount(apigatewayv2__create_route=denial("BadRequestException"))
    [found] = faults("route key", aws, built, try_api=True)
    assert "POST /a/{id}/:b" in found and aws.calls[-1] == "apigatewayv2 delete-api"


def test_interrupted_trial_deletes_its_api(built):
    def interrupted(*_):
        raise KeyboardInterrupt

    aws = FakeAccount(apigatewayv2__create_route=interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(preflight.account_checks.check_route_key(target(aws, built, try_api=True)))
    assert aws.calls[-1] == "apigatewayv2 delete-api"


def test_undeleted_api_is_found(built):
    aws = FakeAccount(apigatewayv2__delete_api=denial("TooManyRequestsException"))
    [found] = faults("route key", aws, built, try_api=True)
    assert "preflight-" in found and "is still there" in found


# The command line, with the real AWS CLI.

def run(*arguments, **environment):
    tools = pathlib.Path(sys.executable).parent
    command = [sys.executable, INFRA / "preflight", "cli", "--region", REGION, *arguments]
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": "/nonexistent", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_program_checks_an_account_through_the_cli(account, built, trails):
    trails.start_logging(Name="all")
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    value = f"ResourceId={GUID}"
    done = run("--template", built, "--endpoint-url", account.endpoint, "--parameter", value, "--try-api", **keys)
    counted = [line.split()[0] for line in done.stdout.splitlines()[:-1]]
    assert done.returncode == 0 and "fail" not in counted, done.stdout + done.stderr
    # The stand-in has no price list.
    assert [line for line in done.stdout.splitlines() if line.startswith("skip")][0].startswith("skip arm64")
    assert counted.count("skip") == 1
    assert account.client("apigatewayv2").get_apis()["Items"] == []


def test_program_fails_without_credentials(built):
    done = run("--template", built, "--parameter", f"ResourceId={GUID}", AWS_EC2_METADATA_DISABLED="true")
    assert done.returncode == 1 and "fail credentials" in done.stdout
    assert run("--parameter", "ResourceId").returncode == 2
