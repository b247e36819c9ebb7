"""Deploys the template to the stand-in, without the resource types that the stand-in does not support."""

import contextlib
import http.client
import io
import json
import pathlib
import time
import zipfile

import template as sam

STACK = "identity"
# The alias that all callers use.
LIVE = "live"
LEFT_OUT = {
    # The tests drive the four steps by hand instead.
    "AWS::SecretsManager::RotationSchedule",
    # The stand-in moves an alias at once.
    "AWS::CodeDeploy::Application",
    "AWS::CodeDeploy::DeploymentGroup",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::Budgets::Budget",
}
DEPLOYS_WITHIN = 120


class Deployment:
    """A deployed stack."""

    def __init__(self, stand_in, outputs, front, parameters):
        self.stand_in = stand_in
        self.outputs = outputs
        self.front = front
        self.parameters = parameters
        self.releases = 0

    def update(self, **parameters):
        """Updates the stack. A parameter that is not named keeps its value, as with `sam deploy`."""
        self.parameters = {**self.parameters, **parameters}
        template = for_the_stand_in(sam.transformed(parameters=self.parameters))
        cloudformation = self.stand_in.client("cloudformation")
        cloudformation.update_stack(**call(self.stand_in, STACK, json.dumps(template), self.parameters))
        self.outputs = outputs(cloudformation, STACK, "UPDATE_COMPLETE")

    def update_release(self, template, code):
        """Updates the stack to the template and the functions of another release."""
        self.releases += 1
        transformed = sam.transformed(template, self.parameters, prefix=f"{self.releases}/")
        template = for_the_stand_in(transformed)
        upload(self.stand_in, template, code)
        known = template["Parameters"]
        values = {name: value for name, value in self.parameters.items() if name in known}
        cloudformation = self.stand_in.client("cloudformation")
        cloudformation.update_stack(**call(self.stand_in, STACK, json.dumps(template), values))
        self.outputs = outputs(cloudformation, STACK, "UPDATE_COMPLETE")

    def replace_code(self, name, bootstrap):
        """Replaces the code of one function, and moves its alias to it."""
        functions = self.stand_in.client("lambda")
        functions.update_function_code(FunctionName=self.function(name), ZipFile=zipped(bootstrap))
        version = functions.publish_version(FunctionName=self.function(name))["Version"]
        functions.update_alias(FunctionName=self.function(name), Name=LIVE, FunctionVersion=version)

    def delete(self):
        """Deletes the stack, and waits for its end."""
        cloudformation = self.stand_in.client("cloudformation")
        name = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["StackId"]
        cloudformation.delete_stack(StackName=STACK)
        outputs(cloudformation, name, "DELETE_COMPLETE")

    def deploy_again(self, parameters):
        """Makes the stack of the same name again, with these parameters in addition."""
        self.parameters = {**self.parameters, **parameters}
        template = for_the_stand_in(sam.transformed(parameters=self.parameters))
        self.outputs = create_stack(self.stand_in, STACK, json.dumps(template), self.parameters)

    def function(self, name):
        return f"{STACK}-{name}"

    def invoke(self, name, event):
        """Returns the answer of the function. Raises FunctionFailed when the function fails."""
        functions = self.stand_in.client("lambda")
        # A release before the aliases has none.
        aliases = functions.list_aliases(FunctionName=self.function(name))["Aliases"]
        qualifier = {"Qualifier": LIVE} if aliases else {}
        answer = functions.invoke(
            FunctionName=self.function(name), Payload=json.dumps(event).encode(), **qualifier
        )
        payload = json.loads(answer["Payload"].read() or b"null")
        if "FunctionError" in answer:
            raise FunctionFailed(payload)
        return payload

    def log(self, name):
        """Returns every log line of a function."""
        pages = self.stand_in.client("logs").get_paginator("filter_log_events")
        settings = self.stand_in.client("lambda").get_function_configuration(FunctionName=self.function(name))
        group = settings["LoggingConfig"]["LogGroup"]
        return [event["message"] for page in pages.paginate(logGroupName=group) for event in page["events"]]


class FunctionFailed(Exception):
    @property
    def error_type(self):
        return self.args[0].get("errorType")


def deploy(stand_in, code, parameters, front, template=None):
    """Deploys a template. `code(name)` is the bootstrap of each function. Clients connect through `front`."""
    template = for_the_stand_in(sam.transformed(template, parameters))
    upload(stand_in, template, code)
    values = {"Architecture": "x86_64", **sam.PARAMETERS, **parameters}
    made = create_stack(stand_in, STACK, json.dumps(template), values)
    empty(stand_in, made["AccessKeysSecret"], made["SigningKeysSecret"])
    return Deployment(stand_in, made, front, values)


def deploy_api(stack, name, template, **parameters):
    """Deploys a resource server's API beside the stack. Returns a call from (method, path, token) to (status, body)."""
    stand_in = stack.stand_in
    stand_in.client("s3").put_object(Bucket=sam.CODE_BUCKET, Key="chat.zip", Body=zipped(echo("chat")))
    made = create_stack(stand_in, name, json.dumps(template), {"CodeBucket": sam.CODE_BUCKET, **parameters})

    def call(method, path, token):
        connection = http.client.HTTPConnection("127.0.0.1", stand_in.port, timeout=30)
        host = f"{made['ApiId']}.execute-api.localhost:{stand_in.port}"
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Host": host, "Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")

    return call


def empty(stand_in, *secrets):
    """Removes the label of the first version. On AWS a secret without a value has no version, but the stand-in makes one."""
    client = stand_in.client("secretsmanager")
    for secret in secrets:
        for version in client.describe_secret(SecretId=secret)["VersionIdsToStages"]:
            client.update_secret_version_stage(
                SecretId=secret, VersionStage="AWSCURRENT", RemoveFromVersionId=version
            )


def create_stack(stand_in, name, template, parameters):
    """Makes a stack and returns its outputs."""
    cloudformation = stand_in.client("cloudformation")
    cloudformation.create_stack(**call(stand_in, name, template, parameters))
    return outputs(cloudformation, name)


def call(stand_in, name, template, parameters):
    """Returns the members of a call that makes or updates a stack."""
    return {
        "StackName": name,
        "TemplateURL": upload_template(stand_in, name, template),
        "Parameters": [{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM"],
    }


def for_the_stand_in(template):
    kept = {
        name: item
        for name, item in template["Resources"].items()
        # The stand-in has no alarm over several metrics.
        if item["Type"] not in LEFT_OUT and "Metrics" not in item.get("Properties", {})
    }
    for resource in kept.values():
        resource.pop("UpdatePolicy", None)
    # A wait of 15 minutes would be too long for a test.
    kept["EnsureKeys"]["Properties"]["ScheduleExpression"] = "rate(1 minute)"
    return {**template, "Resources": kept}


def upload(stand_in, template, code):
    storage = stand_in.client("s3")
    storage.create_bucket(Bucket=sam.CODE_BUCKET)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Lambda::Function":
            key = resource["Properties"]["Code"]["S3Key"]
            storage.put_object(Bucket=sam.CODE_BUCKET, Key=key, Body=zipped(code(pathlib.PurePath(key).stem)))


def upload_template(stand_in, name, template):
    """Uploads the template and returns its address, because a template may be too large for a call."""
    stand_in.client("s3").put_object(Bucket=sam.CODE_BUCKET, Key=name, Body=template.encode())
    return f"{stand_in.endpoint}/{sam.CODE_BUCKET}/{name}"


def zipped(bootstrap):
    """Returns a zip with this one executable file."""
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(entry, bootstrap, compresslevel=1)
    return content.getvalue()


def outputs(cloudformation, name, wanted="CREATE_COMPLETE"):
    deadline = time.monotonic() + DEPLOYS_WITHIN
    while time.monotonic() < deadline:
        [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
        if stack["StackStatus"] == wanted:
            return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            break
        time.sleep(0.2)
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    faults = [event for event in events if "FAILED" in event["ResourceStatus"]]
    raise RuntimeError(f"{stack['StackStatus']}: {stack.get('StackStatusReason')}: {faults}")


def echo(_name):
    return pathlib.Path(__file__).with_name("echo_bootstrap.py").read_bytes()
