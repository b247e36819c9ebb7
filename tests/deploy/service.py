"""The deployed service, with the information that an operator has.

The binaries come from the folder DEPLOY_BINARIES, by default target/debug: `cargo build --package functions --bins`.
"""

import json
import os
import pathlib
import time
import urllib.parse
import uuid

import pytest
from azure.communication.identity import CommunicationIdentityClient
from raw_http import RawClient

import template as sam

BINARIES = pathlib.Path(os.environ.get("DEPLOY_BINARIES", sam.ROOT / "target" / "debug"))
SETS_UP_WITHIN = 120
FORM = "application/x-www-form-urlencoded"


def binary(name):
    path = BINARIES / name
    if not path.is_file():
        pytest.fail(
            f"{path} is missing: run `cargo build --package functions --bins`, or name the folder in DEPLOY_BINARIES"
        )
    return path.read_bytes()


class Service:
    def __init__(self, stack):
        self.stack = stack
        self.secrets = stack.stand_in.client("secretsmanager")
        self.access_keys_secret = stack.outputs["AccessKeysSecret"]
        self.signing_keys_secret = stack.outputs["SigningKeysSecret"]

    def wait_for_keys(self):
        """Waits until the schedule has made the first keys. No other caller makes them."""
        deadline = time.monotonic() + SETS_UP_WITHIN
        while "IN_FORCE" not in self.labels(self.access_keys_secret):
            assert time.monotonic() < deadline, self.stack.log("rotate-keys")
            time.sleep(1)

    def access_keys(self):
        return self.in_force(self.access_keys_secret)

    def signing_keys(self):
        return self.in_force(self.signing_keys_secret)

    def in_force(self, secret):
        answer = self.secrets.get_secret_value(SecretId=secret, VersionStage="IN_FORCE")
        return json.loads(answer["SecretString"])

    def labels(self, secret):
        """Returns the version that holds each label."""
        versions = self.secrets.describe_secret(SecretId=secret)["VersionIdsToStages"]
        return {label: version for version, labels in versions.items() for label in labels}

    def connection_string(self, slot="primary"):
        return f"endpoint=https://{self.stack.front.authority}/;accesskey={self.access_keys()[slot]}"

    def client(self, slot="primary"):
        return CommunicationIdentityClient.from_connection_string(self.connection_string(slot))

    def raw(self):
        front = self.stack.front
        return RawClient(front.host, front.port, self.access_keys()["primary"])

    def issue(self, slot="primary", scopes=("chat",)):
        """Creates a user and returns it with a token."""
        user, token = self.client(slot).create_user_and_token(list(scopes))
        return user, token.token

    def introspect(self, token):
        body = urllib.parse.urlencode({"token": token}).encode()
        reply = self.raw().call("POST", "/introspect", body, content_type=FORM)
        assert reply.status == 200, reply.body
        return reply.json

    def rotate(self, event):
        return self.stack.invoke("rotate-keys", event)

    def scheduled_rotation(self, steps=("createSecret", "setSecret", "testSecret", "finishSecret")):
        """Runs the steps as Secrets Manager does. It first makes the version, which has no value yet."""
        version = str(uuid.uuid4())
        secret = self.signing_keys_secret
        versions = self.secrets.describe_secret(SecretId=secret)["VersionIdsToStages"]
        # On AWS a label moves. The stand-in would leave it on its former version too.
        for former in [former for former, labels in versions.items() if "AWSPENDING" in labels]:
            self.secrets.update_secret_version_stage(
                SecretId=secret, VersionStage="AWSPENDING", RemoveFromVersionId=former
            )
        self.secrets.put_secret_value(SecretId=secret, ClientRequestToken=version, VersionStages=["AWSPENDING"])
        for name in steps:
            self.rotation_step(name, version)
        return version

    def rotation_step(self, name, version):
        secret = self.secrets.describe_secret(SecretId=self.signing_keys_secret)["ARN"]
        self.rotate({"Step": name, "SecretId": secret, "ClientRequestToken": version})
