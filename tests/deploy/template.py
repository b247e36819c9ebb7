"""The template in the form for CloudFormation: infra/template.yaml transformed as SAM does it, without AWS."""

import copy
import os
import pathlib

import yaml
from cfnlint.decode import decode_str
from samtranslator.translator.transform import transform as sam_transform
from translation import NoManagedPolicies

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "infra" / "template.yaml"
CHAT_API = pathlib.Path(__file__).with_name("chat_api.yaml")

PARAMETERS = {"ResourceId": "5e0d8f7c-0b0a-4c8e-9a54-6a4f3d1c2b10"}

CODE_BUCKET = "code-of-functions"


def source():
    """Returns the template as it is in the file."""
    return parsed(SOURCE.read_text(encoding="utf-8"))


def chat_api():
    """Returns the API of a resource server, behind the stack's authorizer."""
    return parsed(CHAT_API.read_text(encoding="utf-8"))


def parsed(text):
    """Parses a template or a part of one, and expands its short-form functions."""
    template, faults = decode_str(text)
    assert not faults, faults
    return plain(template)


def transformed(template=None, parameters=None, prefix=""):
    """Returns the plain CloudFormation template for these parameters, with its code in the bucket CODE_BUCKET."""
    fragment = copy.deepcopy(template if template is not None else source())
    package(fragment, prefix)
    return translated(fragment, parameters)


def translated(packaged, parameters=None):
    """Returns the plain CloudFormation template of one whose code is in a bucket."""
    # The translator needs a Region, and its client library reads it from the environment.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    return plain(sam_transform(packaged, {**PARAMETERS, **(parameters or {})}, NoManagedPolicies()))


def package(template, prefix=""):
    """Replaces the folder target/lambda/<name>/ by the object <prefix><name>.zip, as a deployment does first."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            folder = pathlib.PurePosixPath(resource["Properties"]["CodeUri"])
            resource["Properties"]["CodeUri"] = {"Bucket": CODE_BUCKET, "Key": f"{prefix}{folder.name}.zip"}


def plain(node):
    """Returns plain dictionaries, lists and scalars, without the parsers' own types."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    return str(node) if isinstance(node, str) else node


def write(template, path):
    path.write_text(yaml.safe_dump(template, sort_keys=False), encoding="utf-8")
