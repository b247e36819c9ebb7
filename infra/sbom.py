"""Lists of the crates in a binary: an SBOM in the format CycloneDX 1.6, and the tool that writes the list into the binary."""

import json
import os
import subprocess
import tomllib
import uuid

AUDITABLE = "0.7.7"


def install_auditable(folder):
    """Installs `cargo auditable` into `folder`/bin. A build with it has the list of its crates, which scanners read."""
    command = ("cargo", "install", "--quiet", "--locked", "--root", str(folder), "--version", AUDITABLE)
    subprocess.run((*command, "cargo-auditable"), check=True)


def document(root, triple, name, version, digests, package="functions"):
    """Returns the SBOM as text. `digests` has the SHA-256 of each binary."""
    linked = crates(root, package, triple, "normal,no-proc-macro")
    built = crates(root, package, triple, "normal,build")
    packages = metadata(root, triple)
    checksums = locked(root)
    components = [component(packages[key], key in linked, checksums.get(key)) for key in sorted(built)]
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {**time_of(root), "component": application(name, version, triple, digests)},
        "components": components,
        "dependencies": dependencies(packages, built),
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content))
    return json.dumps({**content, "serialNumber": f"urn:uuid:{serial}"}, indent=2) + "\n"


def crates(root, package, triple, edges):
    """Returns (name, version) of the crates that Cargo uses for the package, with the features that it chooses."""
    command = ("cargo", "tree", "--locked", "--package", package, "--target", triple, "--edges", edges)
    lines = output(root, *command, "--prefix", "none", "--format", "{p}").splitlines()
    return {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line}


def metadata(root, triple):
    """Returns each package of the workspace by name and version, with the packages that it depends on."""
    command = ("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", triple)
    answer = json.loads(output(root, *command))
    keys = {package["id"]: (package["name"], package["version"]) for package in answer["packages"]}
    needs = {node["id"]: sorted(keys[need] for need in node["dependencies"]) for node in answer["resolve"]["nodes"]}
    return {keys[item["id"]]: {**item, "needs": needs.get(item["id"], [])} for item in answer["packages"]}


def locked(root):
    """Returns the checksums of Cargo.lock."""
    packages = tomllib.loads((root / "Cargo.lock").read_text(encoding="utf-8"))["package"]
    return {(item["name"], item["version"]): item["checksum"] for item in packages if "checksum" in item}


def application(name, version, triple, digests):
    functions = [
        {"type": "application", "bom-ref": f"function/{function}", "name": function, "hashes": sha256(value)}
        for function, value in sorted(digests.items())
    ]
    properties = [{"name": "target", "value": triple}]
    return {
        "type": "application",
        "bom-ref": name,
        "name": name,
        "version": version,
        "licenses": [{"expression": "Apache-2.0"}],
        "properties": properties,
        "components": functions,
    }


def component(package, is_linked, checksum):
    """Returns a crate. A crate that only the build runs has the scope `excluded`, as CycloneDX defines it."""
    found = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if is_linked else "excluded",
    }
    if package["license"]:
        # Old crates write a slash for "or".
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum:
        found |= {"hashes": sha256(checksum), "purl": reference(package)}
    return found


def reference(package):
    """Returns the package URL of a crate from a registry. The crates of this workspace are in no registry."""
    name = f"{package['name']}@{package['version']}"
    return f"pkg:cargo/{name}" if package["source"] else f"workspace/{name}"


def dependencies(packages, built):
    needs = {key: [need for need in packages[key]["needs"] if need in built] for key in sorted(built)}
    return [
        {"ref": reference(packages[key]), "dependsOn": [reference(packages[need]) for need in found]}
        for key, found in needs.items()
    ]


def sha256(value):
    return [{"alg": "SHA-256", "content": value}]


def time_of(root):
    """Returns the time of the commit, because the time of the build would change the bytes."""
    try:
        time = output(root, "git", "log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", TZ="UTC")
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"timestamp": time.strip()}


def output(root, *command, **environment):
    done = subprocess.run(
        command, cwd=root, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    return done.stdout
