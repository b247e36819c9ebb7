"""Tests infra/examples: the deployment of a release by the AWS CDK, Terraform and GitHub, without AWS."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

import lint
import template as sam
from releases import packed

CDK = sam.ROOT / "infra" / "examples" / "cdk"
GITHUB = sam.ROOT / "infra" / "examples" / "github"
TERRAFORM = sam.ROOT / "infra" / "examples" / "terraform"
# A folder with the provider hashicorp/aws, as `terraform providers mirror` makes it.
MIRROR = os.environ.get("TERRAFORM_MIRROR")
# The arguments that the provider documents.
STACK_ARGUMENTS = {"name", "template_url", "parameters", "capabilities", "depends_on"}
OBJECT_ARGUMENTS = {"for_each", "bucket", "key", "source"}

needs_terraform = pytest.mark.skipif(not shutil.which("terraform"), reason="Terraform is not installed")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("release"), b"#!/bin/sh\n")[0]


@pytest.fixture(scope="module")
def plain(release):
    return json.loads((release / "cloudformation.json").read_text())


@pytest.fixture(scope="module")
def assembly(release, tmp_path_factory):
    """The files that the CDK makes of the example."""
    if not (CDK / "node_modules").is_dir():
        pytest.skip("the AWS CDK is not installed: run `npm ci` in infra/examples/cdk")
    folder = tmp_path_factory.mktemp("cdk")
    environment = {**os.environ, "RELEASE": str(release), "CDK_OUTDIR": str(folder)}
    done = subprocess.run(["node", "app.js"], cwd=CDK, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_cdk_changes_only_the_place_of_the_code(assembly, plain):
    made = json.loads((assembly / "identity.template.json").read_text())
    assert set(made["Parameters"]) == set(plain["Parameters"]) - {"CodeBucket"} | {"BootstrapVersion"}
    assert made["Outputs"] == plain["Outputs"] and made["Conditions"] == plain["Conditions"]
    assert comparable(made) == comparable(plain)
    assert lint.findings(made) == []


def comparable(template):
    """Returns the resources without their code, and with dependencies in one form."""
    resources = {}
    for name, resource in template["Resources"].items():
        needs = resource.get("DependsOn", [])
        properties = {key: value for key, value in resource.get("Properties", {}).items() if key != "Code"}
        needs = sorted([needs] if isinstance(needs, str) else needs)
        resources[name] = {**resource, "Properties": properties, "DependsOn": needs}
    return resources


def test_cdk_uploads_the_zip_of_each_function(assembly, release):
    made = json.loads((assembly / "identity.template.json").read_text())
    functions = {name: item for name, item in made["Resources"].items() if item["Type"] == "AWS::Lambda::Function"}
    assert len(functions) == 10
    for function in functions.values():
        file = assembly / f"asset.{function['Properties']['Code']['S3Key']}"
        name = function["Properties"]["FunctionName"]["Fn::Sub"].removeprefix("${AWS::StackName}-")
        assert file.read_bytes() == (release / f"{name}.zip").read_bytes()


def workflows():
    """Returns the workflows that concern releases."""
    paths = (sam.ROOT / ".github" / "workflows" / "release.yml", GITHUB / "deploy.yml")
    return [yaml.safe_load(path.read_text()) for path in paths]


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", workflows(), ids=lambda workflow: workflow["name"])
def test_workflow_has_pinned_actions_and_valid_scripts(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        assert "run" in step or re.fullmatch(r"[a-z-]+/[a-z-]+@v\d+", step["uses"])
        # No text of a caller becomes a part of a script.
        script = step.get("run", "")
        assert set(re.findall(r"\$\{\{ *([\w.]+)", script)) <= {"matrix.option"}
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_release_workflow_attests_the_files_that_it_publishes():
    [attest] = [step for step in steps(workflows()[0]) if "attest-build-provenance" in step.get("uses", "")]
    [upload] = [step for step in steps(workflows()[0]) if "upload-artifact" in step.get("uses", "")]
    assert attest["with"]["subject-path"] == upload["with"]["path"] == "target/release-files/*.zip"


def test_roles_of_the_workflow_have_no_lint_findings():
    assert lint.findings(sam.parsed((GITHUB / "roles.yaml").read_text())) == []


@needs_terraform
def test_terraform_files_have_the_standard_format():
    done = terraform(TERRAFORM, "fmt", "-check", "-diff")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_terraform
def test_terraform_gives_each_zip_the_key_of_the_template(release, plain, tmp_path):
    # This part of the example has no provider, so it runs without the network.
    shutil.copy(TERRAFORM / "release.tf", tmp_path)
    (tmp_path / "outputs.tf").write_text('output "zips" {\n  value = local.zips\n}\n')
    assert terraform(tmp_path, "init", "-input=false").returncode == 0
    done = terraform(tmp_path, "apply", "-auto-approve", "-input=false", f"-var=release={release}")
    assert done.returncode == 0, done.stderr
    zips = json.loads(terraform(tmp_path, "output", "-json", "zips").stdout)
    functions = [item for item in plain["Resources"].values() if item["Type"] == "AWS::Lambda::Function"]
    assert set(zips) == {function["Properties"]["Code"]["S3Key"] for function in functions}
    assert all(pathlib.Path(path).name == pathlib.Path(key).name for key, path in zips.items())


def test_terraform_resources_have_known_arguments(plain):
    text = (TERRAFORM / "main.tf").read_text()
    blocks = dict(re.findall(r'^resource "(\w+)" "\w+" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL))
    assert set(re.findall(r"^  (\w+) +=", blocks["aws_cloudformation_stack"], re.MULTILINE)) == STACK_ARGUMENTS
    assert set(re.findall(r"^  (\w+) +=", blocks["aws_s3_object"], re.MULTILINE)) <= OBJECT_ARGUMENTS
    assert "CodeBucket" in plain["Parameters"] and "Transform" not in plain
    assert re.findall(r'outputs\["(\w+)"\]', text) == ["Endpoint"] and "Endpoint" in plain["Outputs"]


@needs_terraform
@pytest.mark.skipif(not MIRROR, reason="TERRAFORM_MIRROR names no folder with the provider of AWS")
def test_terraform_accepts_the_example(tmp_path):
    for path in TERRAFORM.glob("*.tf"):
        shutil.copy(path, tmp_path)
    assert terraform(tmp_path, "init", "-backend=false", f"-plugin-dir={MIRROR}").returncode == 0
    done = terraform(tmp_path, "validate")
    assert done.returncode == 0, done.stdout + done.stderr


def terraform(folder, *arguments):
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    command = ["terraform", f"-chdir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)
