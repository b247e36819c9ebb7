"""The program infra/preflight, and the accounts that its tests check."""

import importlib.machinery
import importlib.util
import pathlib
import shutil

import botocore.exceptions
from botocore import xform_name

import template as sam

INFRA = sam.ROOT / "infra"
GUID = sam.PARAMETERS["ResourceId"]
MACHINES = {"arm64": 0xB7, "x86_64": 0x3E}
# The only name of a command that boto3 does not use.
SERVICES = {"deploy": "codedeploy"}


def program(name):
    """Loads a program of infra/ that has no suffix."""
    loader = importlib.machinery.SourceFileLoader(name, str(INFRA / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


preflight = program("preflight")
AwsError = preflight.AwsError


def calls_of(stand_in):
    """Returns the calls of the program as requests of boto3 to the stand-in. Each start of the CLI would take a second."""

    def call(service, operation, *arguments, region=None):
        if service == "pricing":
            raise AwsError((service, operation), None, "the stand-in has no price list")
        client = stand_in.client(SERVICES.get(service, service))
        method = operation.replace("-", "_")
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method]).input_shape
        names = {f"--{xform_name(member, '-')}": member for member in shape.members}
        given = dict(zip(arguments[::2], arguments[1::2]))
        given.pop("--max-items", None)
        try:
            return getattr(client, method)(**{names[name]: value for name, value in given.items()})
        except botocore.exceptions.ClientError as error:
            raise AwsError((service, operation), error.response["Error"]["Code"], str(error)) from error

    return call


class FakeAccount:
    """An account with fixed answers, for states that the stand-in does not have. A function as an answer is called."""

    def __init__(self, **changes):
        self.calls = []
        self.answers = {
            "sts get-caller-identity": {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/a"},
            "pricing get-products": {"PriceList": ["{}"]},
            "lambda get-account-settings": {"AccountLimit": {"UnreservedConcurrentExecutions": 1000}},
            "cloudformation describe-stacks": denial("ValidationError"),
            "secretsmanager describe-secret": denial("ResourceNotFoundException"),
            "logs describe-log-groups": {"logGroups": []},
            "dynamodb list-tables": {"TableNames": []},
            "cloudtrail describe-trails": {"trailList": [{"TrailARN": "arn:t", "IsMultiRegionTrail": True}]},
            "cloudtrail get-trail-status": {"IsLogging": True},
            "cloudtrail get-event-selectors": {
                "EventSelectors": [{"IncludeManagementEvents": True, "ReadWriteType": "All"}]
            },
            "apigatewayv2 create-api": {"ApiId": "a1"},
            **{name.replace("__", " ").replace("_", "-"): answer for name, answer in changes.items()},
        }

    def __call__(self, service, operation, *arguments, region=None):
        self.calls.append(f"{service} {operation}")
        answer = self.answers.get(f"{service} {operation}", {})
        if isinstance(answer, Exception):
            raise answer
        return answer(*arguments) if callable(answer) else answer


def denial(code):
    return AwsError(("service", "operation"), code, f"An error occurred ({code})")


def checkout(folder, architecture="arm64"):
    """Makes a folder with the template and eight functions of this architecture. Returns the template's path."""
    (folder / "infra").mkdir(parents=True)
    path = shutil.copy(sam.SOURCE, folder / "infra" / "template.yaml")
    for code in preflight.Template(pathlib.Path(path)).codes().values():
        code.mkdir(parents=True)
        (code / "bootstrap").write_bytes(executable(architecture))
        (code / "bootstrap").chmod(0o755)
    return pathlib.Path(path)


def executable(architecture):
    """Returns the first bytes of a program for this architecture."""
    return b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + MACHINES[architecture].to_bytes(2, "little") + b"\0" * 44
