"""Tests infra/release with small binaries: the zips, the templates, the SBOM, and the deployment of each template."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile

import pytest

import deployment
import front
import lint
import stand_in
import template as sam
import translation
from account import INFRA, FakeAccount, executable, preflight
from releases import NAMES, binaries, packed
from service import binary

TOOLS = pathlib.Path(sys.executable).parent
VERSION = tomllib.loads((sam.ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release of functions that return their event, for this machine."""
    return packed(tmp_path_factory.mktemp("release"), deployment.echo("any"), "--x86-64")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_binaries_give_the_same_bytes(release, tmp_path):
    umask = os.umask(0o077)
    try:
        folder, archive = packed(tmp_path, deployment.echo("any"), "--x86-64")
    finally:
        os.umask(umask)
    assert files_of(folder) == files_of(release[0])
    assert archive.read_bytes() == release[1].read_bytes()
    assert archive.name == f"communication-identity-{VERSION}-x86_64.zip"


def test_checksums_verify_every_file(release, tmp_path):
    with zipfile.ZipFile(release[1]) as archive:
        archive.extractall(tmp_path)
    [folder] = tmp_path.iterdir()
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(check, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0
    listed = {line.split(": ")[0] for line in done.stdout.splitlines()}
    assert listed == set(files_of(folder)) - {"SHA256SUMS"}
    (folder / "keys.zip").write_bytes(b"PK")
    assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_zip_holds_one_executable_bootstrap(release, name):
    with zipfile.ZipFile(release[0] / f"{name}.zip") as archive:
        [entry] = archive.infolist()
        assert archive.read(entry) == deployment.echo(name)
    assert entry.filename == "bootstrap" and entry.date_time == (1980, 1, 1, 0, 0, 0)
    assert stat.S_IMODE(entry.external_attr >> 16) == 0o755 and entry.create_system == 3


def test_template_differs_only_in_code_and_architecture(release):
    packed, source = sam.parsed((release[0] / "template.yaml").read_text()), sam.source()
    for resource in source["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            folder = pathlib.PurePosixPath(resource["Properties"]["CodeUri"])
            resource["Properties"]["CodeUri"] = f"./{folder.name}.zip"
    source["Parameters"]["Architecture"]["Default"] = "x86_64"
    assert packed == source


def test_release_passes_its_own_preflight(tmp_path):
    folder, _ = packed(tmp_path, executable("arm64"))
    spec = preflight.Template(folder / "template.yaml")
    target = preflight.Target(FakeAccount(), spec, "identity", "us-east-1", sam.PARAMETERS)
    assert {status for status, _, _ in preflight.findings(target)} == {"ok", "skip"}
    help_text = subprocess.run([sys.executable, folder / "preflight", "--help"], capture_output=True, text=True)
    assert help_text.returncode == 0 and "--try-api" in help_text.stdout


@pytest.mark.parametrize("text, other", [
    ("CodeUri: ../target/lambda/keys/", "CodeUri: ../elsewhere/keys/"),
    ("CodeUri: ../target/lambda/keys/", "CodeUri: ../target/lambda/user/"),
    ("    Default: arm64", "    Default: x86_64"),
])
def test_template_of_another_form_is_refused(tmp_path, text, other):
    for name in ("infra", "Cargo.toml"):
        place = sam.ROOT / name
        shutil.copytree(place, tmp_path / name) if place.is_dir() else shutil.copy(place, tmp_path)
    path = tmp_path / "infra" / "template.yaml"
    path.write_text(path.read_text().replace(text, other))
    command = [sys.executable, tmp_path / "infra" / "release", "--binaries", binaries(tmp_path / "binaries", b"")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "change infra/release" in done.stderr


# The plain template.

@pytest.fixture(scope="module")
def plain(release):
    return json.loads((release[0] / "cloudformation.json").read_text())


def test_plain_template_has_no_lint_findings(plain):
    assert "Transform" not in plain
    assert lint.findings(plain) == []


def test_plain_template_has_the_resources_of_the_transformation(plain):
    translated = sam.transformed()
    assert types(plain) == types(translated)
    assert translated["Outputs"] == plain["Outputs"] and translated.get("Rules") == plain.get("Rules")


def types(template):
    """Returns the types of all resources. The names of versions contain a digest of the place of the code."""
    return sorted(resource["Type"] for resource in template["Resources"].values())


def test_every_parameter_has_an_effect_in_the_plain_template(plain):
    assert set(plain["Parameters"]) == {"CodeBucket", *sam.source()["Parameters"]}
    used = json.dumps([plain["Resources"], plain["Conditions"], plain["Outputs"]])
    forms = {name: (f'{{"Ref": "{name}"}}', f"${{{name}}}") for name in plain["Parameters"]}
    assert [name for name, texts in forms.items() if not any(text in used for text in texts)] == []


def test_configuration_of_a_gradual_deployment_has_its_full_name():
    group = {"DeploymentConfigName": {"Ref": "Choice"}}
    translation.name_configuration(group)
    assert group == {"DeploymentConfigName": {"Fn::Sub": "CodeDeployDefault.Lambda${Choice}"}}


def test_keys_of_the_plain_template_contain_the_digests_of_the_zips(release, plain):
    functions = [item for item in plain["Resources"].values() if item["Type"] == "AWS::Lambda::Function"]
    codes = [function["Properties"]["Code"] for function in functions]
    assert [code["S3Bucket"] for code in codes] == [{"Ref": "CodeBucket"}] * len(NAMES)
    assert sorted(code["S3Key"] for code in codes) == sorted(keys(release[0]).values())


def keys(folder):
    """Returns the key of each zip."""
    zips = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.zip")}
    return {path: f"communication-identity/{digest}/{path.name}" for path, digest in zips.items()}


# The SBOM.

@pytest.fixture(scope="module")
def sbom(release):
    return json.loads((release[0] / "sbom.cdx.json").read_text())


def test_sbom_has_the_required_fields(sbom):
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", sbom["serialNumber"])
    described = sbom["metadata"]["component"]
    assert (described["name"], described["version"]) == ("communication-identity", VERSION)
    digest = hashlib.sha256(deployment.echo("any")).hexdigest()
    digests = {item["name"]: item["hashes"][0]["content"] for item in described["components"]}
    assert digests == dict.fromkeys(NAMES, digest)
    references = [item["bom-ref"] for item in sbom["components"]]
    assert len(references) == len(set(references))
    needed = {need for item in sbom["dependencies"] for need in item["dependsOn"]}
    assert needed <= set(references) == {item["ref"] for item in sbom["dependencies"]}


def test_sbom_lists_the_locked_crates_that_the_functions_use(sbom):
    found = {(item["name"], item["version"]): item for item in sbom["components"]}
    packages = tomllib.loads((sam.ROOT / "Cargo.lock").read_text())["package"]
    locked = {(item["name"], item["version"]): item for item in packages}
    for key, item in found.items():
        assert item.get("hashes", [{}])[0].get("content") == locked[key].get("checksum"), key
        assert item["licenses"], key
    # Cargo's own list of the crates that a build of the functions compiles, as `crate v1.2.3`.
    tree = ["cargo", "tree", "--locked", "--offline", "--package", "functions", "--edges", "no-dev", "--prefix", "none"]
    listed = subprocess.run(tree, cwd=sam.ROOT, capture_output=True, text=True, check=True).stdout
    assert set(found) == {tuple(line.replace(" v", " ").split()[:2]) for line in listed.splitlines()}


def test_sbom_separates_linked_crates_from_those_of_the_build(sbom):
    scopes = {item["name"]: item["scope"] for item in sbom["components"]}
    required = ("functions", "identity", "aws-lc-rs", "aws-sdk-dynamodb", "jsonwebtoken", "lambda_runtime", "rustls")
    assert [name for name in required if scopes.get(name) != "required"] == []
    assert [name for name in ("serde_derive", "cc", "syn") if scopes[name] != "excluded"] == []
    # Only tests and the local platform use these crates.
    assert {"axum", "clap", "openssl", "proptest", "rcgen"} & set(scopes) == set()


@pytest.mark.parametrize("name", NAMES)
def test_sbom_has_the_crates_of_the_linked_binary(sbom, name):
    """The messages of panics name the files of the crates, as `<crate>-<version>/src/`."""
    content = binary(name)
    named = {match.decode() for match in re.findall(rb"/registry/src/[^/]+/([A-Za-z0-9_+.-]+)/src/", content)}
    required = {f"{item['name']}-{item['version']}" for item in sbom["components"] if item["scope"] == "required"}
    assert named and named <= required


# The deployments of a release that docs/deploy-with-other-tools.md describes.

@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """The stand-in with an empty bucket."""
    port = stand_in.free_port()
    folder = tmp_path_factory.mktemp("front")
    with front.serving("identity.example.com", port, folder) as https, stand_in.running(port, https) as running:
        running.client("s3").create_bucket(Bucket="releases")
        yield running


def test_aws_cli_deploys_the_template_of_sam(release, aws, tmp_path):
    packaged = tmp_path / "packaged.yaml"
    package = ("package", "--template-file", release[0] / "template.yaml", "--s3-bucket", "releases")
    cloudformation(aws, *package, "--output-template-file", packaged)
    translated = sam.translated(sam.parsed(packaged.read_text()), {"Architecture": "x86_64"})
    deploy(aws, translated, packaged, "sam")


def test_aws_cli_deploys_the_plain_template(release, plain, aws, tmp_path):
    for path, key in keys(release[0]).items():
        aws.client("s3").put_object(Bucket="releases", Key=key, Body=path.read_bytes())
    deploy(aws, plain, tmp_path / "plain.yaml", "plain", "CodeBucket=releases")


def deploy(aws, template, path, stack, *parameters):
    """Deploys the resources that the stand-in supports, and invokes each function."""
    sam.write(deployment.for_the_stand_in(template), path)
    capabilities = ("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
    given = ("--parameter-overrides", f"ResourceId={sam.PARAMETERS['ResourceId']}", *parameters)
    place = ("--template-file", path, "--s3-bucket", "releases", "--stack-name", stack)
    cloudformation(aws, "deploy", *place, *capabilities, *given)
    for name in NAMES:
        answer = aws.client("lambda").invoke(FunctionName=f"{stack}-{name}", Payload=b"{}")
        told = json.loads(answer["Payload"].read())
        assert told["function"] == f"{stack}-{name}", told
        assert told["settings"]["RESOURCE_ID"] == sam.PARAMETERS["ResourceId"]


def cloudformation(aws, *arguments):
    environment = {
        "PATH": f"{TOOLS}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": stand_in.REGION,
    }
    done = subprocess.run(["aws", "cloudformation", *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
