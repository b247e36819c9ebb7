"""Tests the template on the stand-in with functions that return their event. Every route reaches its function with an
unchanged request, and the schedule fires."""

import json
import time

import pytest
from botocore.exceptions import ClientError
from raw_http import RawClient

import deployment
import openapi
import template as sam

FIRES_WITHIN = 100


@pytest.fixture(scope="module")
def client(stack):
    return RawClient(stack.front.host, stack.front.port, "")


@pytest.mark.parametrize("operation", openapi.operations(), ids=lambda operation: operation.name)
def test_every_route_reaches_its_function(stack, client, operation):
    path = operation.path.replace("{id}", "8%3Aacs%3Aa_b").replace("{tenantId}", "t").replace("{objectId}", "o")
    told = client.send(operation.method, f"{path}?api-version=1&x=a+b%2Fc", headers={"Host": client.authority}).json
    event = told["event"]
    assert told["function"] == stack.function(operation.function)
    assert event["routeKey"] == f"ANY {operation.path}"
    assert event["requestContext"]["http"]["method"] == operation.method
    assert event["version"] == "2.0"
    # As on an HTTP API, the path is decoded and the query is unchanged.
    assert event["rawPath"] == path.replace("%3A", ":")
    assert event["rawQueryString"] == "api-version=1&x=a+b%2Fc"
    assert event["headers"]["host"] == stack.front.authority


# The stand-in answers OPTIONS by itself, so it cannot show the way of a preflight.
@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT"])
def test_every_method_reaches_the_function_of_its_path(stack, client, method):
    told = client.send(method, "/identities", headers={"Host": client.authority}).json
    assert told["function"] == stack.function("user")
    assert told["event"]["requestContext"]["http"]["method"] == method


@pytest.mark.parametrize("action", [":issueAccessToken", "%3AissueAccessToken", "%3aissueAccessToken"])
def test_escaped_colon_of_an_action_is_accepted(stack, client, action):
    told = client.send("POST", f"/identities/8:acs:a_b/{action}", headers={"Host": client.authority}).json
    assert told["function"] == stack.function("token")
    assert told["event"]["rawPath"] == "/identities/8:acs:a_b/:issueAccessToken"


@pytest.mark.parametrize("target", ["/", "/identities/a/:issue", "/authorize", "/Identities"])
def test_path_without_a_route_reaches_the_function_without_secrets(stack, client, target):
    assert client.send("POST", target, headers={"Host": client.authority}).json["function"] == stack.function("keys")


def test_functions_receive_address_and_readable_secrets(stack):
    settings = {name: stack.invoke(name, {})["settings"] for name in ("token", "revoke", "keys", "authorizer")}
    assert settings["token"]["ISSUER"] == f"https://{stack.front.host}"
    hosts = settings["token"]["ACCEPTED_HOSTS"].split(",")
    assert hosts[0] == stack.front.host and hosts[-1] == stack.front.authority and len(hosts) == 3
    secrets = {name: sorted(key for key in known if "SECRET" in key) for name, known in settings.items()}
    assert secrets == {
        "token": ["ACCESS_KEYS_SECRET", "SIGNING_KEYS_SECRET"],
        "revoke": ["ACCESS_KEYS_SECRET"],
        "keys": [],
        "authorizer": [],
    }


CERTIFICATE = {"CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/5e0d8f7c-0b0a-4c8e-9a54-6a4f3d1c2b10"}
CLIENTS = {"MutualTlsTruststoreUri": "s3://bucket/clients.pem"}
DOMAIN = {"DomainName": "id.example.com"}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (DOMAIN, "DomainName needs CertificateArn"),
        (CLIENTS, "MutualTlsTruststoreUri needs DomainName"),
        (CLIENTS | DOMAIN | CERTIFICATE | {"DisableExecuteApiEndpoint": "false"}, "must be true"),
        ({"ExistingTableArn": "arn:aws:dynamodb:us-east-1:000000000000:table/a"}, "are given together"),
    ],
)
def test_combination_that_cannot_work_is_refused(stack, parameters, reason):
    template = deployment.for_the_stand_in(sam.transformed(parameters=parameters))
    with pytest.raises(ClientError) as refused:
        deployment.create_stack(stack.stand_in, "refused", json.dumps(template), sam.PARAMETERS | parameters)
    assert reason in str(refused.value)


def test_schedule_invokes_the_key_set_up(stack):
    deadline = time.monotonic() + FIRES_WITHIN
    asked = json.dumps({"event": {"setUp": True}})
    while asked not in "\n".join(stack.log("rotate-keys")):
        assert time.monotonic() < deadline, stack.log("rotate-keys")
        time.sleep(2)
