"""Tests updates, the way back, and state that outlives its stack, on a stack of their own."""

import pytest

import deployment
from conftest import deployed
from service import Service, binary

FUNCTIONS = (
    "user",
    "token",
    "revoke",
    "teams-exchange",
    "introspect",
    "keys",
    "revocations",
    "record-ends",
    "authorizer",
    "rotate-keys",
)
TENANT = "5e0d8f7c-0b0a-4c8e-9a54-6a4f3d1c2b10"


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory):
    """A stack with functions that return their event. The tests change and delete it."""
    with deployed(deployment.echo, tmp_path_factory.mktemp("front")) as stack:
        yield stack


def alias(stack, function):
    """Returns the version that the alias of a function names."""
    answer = stack.stand_in.client("lambda").get_alias(FunctionName=stack.function(function), Name=deployment.LIVE)
    return answer["FunctionVersion"]


def tenants(stack, function="token"):
    return stack.invoke(function, {})["settings"]["ENTRA_TENANTS"]


def test_changed_setting_publishes_a_version_and_the_way_back_restores_it(own_stack):
    former = {function: alias(own_stack, function) for function in FUNCTIONS}
    own_stack.update(EntraTenants=TENANT)
    now = {function: alias(own_stack, function) for function in FUNCTIONS}
    assert all(int(now[function]) > int(former[function]) for function in FUNCTIONS), (former, now)
    assert tenants(own_stack) == TENANT
    own_stack.stand_in.client("lambda").update_alias(
        FunctionName=own_stack.function("token"), Name=deployment.LIVE, FunctionVersion=former["token"]
    )
    assert tenants(own_stack) == ""


def test_changed_throttle_publishes_no_version(own_stack):
    former = {function: alias(own_stack, function) for function in FUNCTIONS}
    own_stack.update(EntraTenants=TENANT, RouteRate=7)
    assert {function: alias(own_stack, function) for function in FUNCTIONS} == former


def test_deleted_stack_leaves_its_state_to_the_next_one(tmp_path):
    with deployed(binary, tmp_path) as stack:
        service = Service(stack)
        service.rotate({"setUp": True})
        user, revoked = service.issue()
        _, active = service.issue()
        service.client().revoke_tokens(user)
        secrets = (service.access_keys_secret, service.signing_keys_secret)
        labels = [service.labels(secret) for secret in secrets]

        stack.delete()
        stack.deploy_again(existing_state(stack))
        assert service.introspect(active)["active"] is True
        assert service.introspect(revoked) == {"active": False}
        service.rotate({"setUp": True})
        assert [service.labels(secret) for secret in secrets] == labels
        service.rotate({"regenerate": "primary"})
        assert service.introspect(active) == {"active": False}


def existing_state(stack):
    """Returns the parameters of docs/deploy.md for the state that the stack leaves."""
    tables = stack.stand_in.client("dynamodb")
    secrets = stack.stand_in.client("secretsmanager")

    def table(output):
        return tables.describe_table(TableName=stack.outputs[output])["Table"]

    def secret(output):
        return secrets.describe_secret(SecretId=stack.outputs[output])["ARN"]

    return {
        "ExistingTableArn": table("TableName")["TableArn"],
        "ExistingTableStreamArn": table("TableName")["LatestStreamArn"],
        "ExistingAssignmentsTableArn": table("AssignmentsTableName")["TableArn"],
        "ExistingAccessKeysArn": secret("AccessKeysSecret"),
        "ExistingSigningKeysArn": secret("SigningKeysSecret"),
    }


def test_stack_continues_with_restored_tables(tmp_path):
    with deployed(binary, tmp_path) as stack:
        service = Service(stack)
        service.rotate({"setUp": True})
        user, token = service.issue()
        restored = copied_tables(stack)
        service.client().revoke_tokens(user)
        assert service.introspect(token) == {"active": False}

        stack.update(**existing_state(stack) | restored)
        stack.invoke("record-ends", {"beginEpoch": True})
        assert service.introspect(token)["active"] is True, "the backup is older than the revocation"
        service.rotate({"rotate": "signing-keys"})
        assert service.introspect(token) == {"active": False}
        fresh = service.client().get_token(user, ["chat"]).token
        assert service.introspect(fresh)["active"] is True


def copied_tables(stack):
    """Returns the parameters of copies of both tables. The state table gets a stream, which a restored table has not."""
    state = copied(stack, "TableName", ["pk"])
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    client = stack.stand_in.client("dynamodb")
    changed = client.update_table(TableName=state.split("/")[-1], StreamSpecification=stream)
    return {
        "ExistingTableArn": state,
        "ExistingTableStreamArn": changed["TableDescription"]["LatestStreamArn"],
        "ExistingAssignmentsTableArn": copied(stack, "AssignmentsTableName", ["pk", "sk"]),
    }


def copied(stack, output, keys):
    """Copies a table to a new one, as a restore to a point in time does, and returns its ARN."""
    client = stack.stand_in.client("dynamodb")
    name = f"restored-{'-'.join(keys)}"
    made = client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)],
    )
    for page in client.get_paginator("scan").paginate(TableName=stack.outputs[output]):
        for item in page["Items"]:
            client.put_item(TableName=name, Item=item)
    return made["TableDescription"]["TableArn"]


def test_restore_drill_runs_beside_the_service(tmp_path):
    """The drill of docs/deploy.md. A copied secret keeps its version id, because the pointer names that id."""
    with deployed(binary, tmp_path) as stack:
        service = Service(stack)
        service.rotate({"setUp": True})
        user, token = service.issue()
        former = (service.access_keys_secret, service.signing_keys_secret)
        labels = [service.labels(secret) for secret in former]
        stack.update(
            **copied_tables(stack),
            ExistingAccessKeysArn=copied_secret(service, service.access_keys_secret),
            ExistingSigningKeysArn=copied_secret(service, service.signing_keys_secret),
        )
        drill = Service(stack)
        drill.rotate({"setUp": True})
        assert drill.introspect(token)["active"] is True
        drill.rotate({"rotate": "signing-keys"})
        assert drill.introspect(token) == {"active": False}
        fresh = drill.client().get_token(user, ["chat"]).token
        assert drill.introspect(fresh)["active"] is True
        assert [service.labels(secret) for secret in former] == labels


def copied_secret(service, secret):
    answer = service.secrets.get_secret_value(SecretId=secret, VersionStage="IN_FORCE")
    name = f"drill-{answer['Name'].split('/')[-1]}"
    made = service.secrets.create_secret(Name=name)
    service.secrets.put_secret_value(
        SecretId=name, ClientRequestToken=answer["VersionId"], SecretString=answer["SecretString"]
    )
    return made["ARN"]
