"""The template, as CloudFormation sees it: what SAM makes of infra/template.yaml, made here without AWS."""

import copy
import os
import pathlib

import yaml
from cfnlint.decode import decode_str
from samtranslator.translator.transform import transform as sam_transform

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "infra" / "template.yaml"
CHAT_API = pathlib.Path(__file__).with_name("chat_api.yaml")

PARAMETERS = {"ResourceId": "5e0d8f7c-0b0a-4c8e-9a54-6a4f3d1c2b10"}

CODE_BUCKET = "code-of-functions"


class NoManagedPolicies:
    """SAM asks IAM for the managed policies' ARNs. The roles here are written out: there are none."""

    def load(self):
        return {}


def source():
    """The template as it is written."""
    return parsed(SOURCE.read_text(encoding="utf-8"))


def chat_api():
    """A resource server's API, behind the stack's authorizer."""
    return parsed(CHAT_API.read_text(encoding="utf-8"))


def parsed(text):
    """A template, or a part of one, with its short-form functions read out."""
    template, faults = decode_str(text)
    assert not faults, faults
    return plain(template)


def transformed(template=None, parameters=None):
    """The plain CloudFormation template for these parameters, of code that lies in the bucket CODE_BUCKET."""
    # The translator asks for a Region, and its client library looks for one in the environment.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    fragment = copy.deepcopy(template if template is not None else source())
    package(fragment)
    return plain(sam_transform(fragment, {**PARAMETERS, **(parameters or {})}, NoManagedPolicies()))


def package(template):
    """What deploying does first: the folder target/lambda/<name>/ becomes the object <name>.zip."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            folder = pathlib.PurePosixPath(resource["Properties"]["CodeUri"])
            resource["Properties"]["CodeUri"] = {"Bucket": CODE_BUCKET, "Key": f"{folder.name}.zip"}


def plain(node):
    """Dictionaries, lists and scalars only, without the marks that parsers leave."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    return str(node) if isinstance(node, str) else node


def write(template, path):
    path.write_text(yaml.safe_dump(template, sort_keys=False), encoding="utf-8")
