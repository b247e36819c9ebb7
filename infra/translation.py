"""Translates the template as SAM does it, for tools that take plain CloudFormation only."""

import copy
import json
import os

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

BUCKET = {
    "Type": "String",
    "Description": "The bucket with the zips of the functions, in the Region of the stack",
    "AllowedPattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
    "ConstraintDescription": "the name of a bucket",
}


class NoManagedPolicies:
    """SAM requests the ARNs of managed policies from IAM. The roles of this template are written out, so it needs none."""

    def load(self):
        return {}


def document(text, keys):
    """Returns the translated template as text. `keys` has the key of each zip in the bucket."""
    # The translator needs a Region, and its client library reads it from the environment.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    template = yaml_parse(text)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            key = keys[resource["Properties"]["CodeUri"].removeprefix("./")]
            resource["Properties"]["CodeUri"] = {"Bucket": {"Ref": "CodeBucket"}, "Key": key}
    parameters = copy.deepcopy(template["Parameters"])
    # With a default, SAM puts the value of some parameters into the resources, so that the parameters have no effect.
    for parameter in template["Parameters"].values():
        parameter.pop("Default", None)
    template["Parameters"]["CodeBucket"] = BUCKET
    plain = transform(template, {}, NoManagedPolicies())
    for resource in plain["Resources"].values():
        if resource["Type"] == "AWS::CodeDeploy::DeploymentGroup":
            name_configuration(resource["Properties"])
    return json.dumps({**plain, "Parameters": {"CodeBucket": BUCKET, **parameters}}, indent=1) + "\n"


def name_configuration(group):
    """Completes the name of a configuration of CodeDeploy. SAM does it only for the value of a parameter."""
    name = group["DeploymentConfigName"]
    if isinstance(name, dict) and "Ref" in name:
        group["DeploymentConfigName"] = {"Fn::Sub": f"CodeDeployDefault.Lambda${{{name['Ref']}}}"}
