"""Writes the container image without a container engine: one layer with the static program, and nothing else.

The archive is an OCI image layout (https://github.com/opencontainers/image-spec, version 1.1). Its `manifest.json` is for
`docker load`. The same program and commit give the same bytes.
"""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from datetime import datetime, timezone

NAME = "acs-identity"
# A user and a group without a name and without rights.
USER = 65532
PLATFORMS = {"x86_64": "amd64", "aarch64": "arm64"}
SETTINGS = ["ACS_IDENTITY_LISTEN=::", "ACS_IDENTITY_DATA_DIR=/data", "PATH=/"]
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Facts:
    """The facts of one image. `time` is in seconds since the epoch."""

    arch: str
    version: str
    commit: str
    time: int

    @property
    def created(self):
        return datetime.fromtimestamp(self.time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def tar(files, time, folders=()):
    """Returns a tar archive. `files` maps a path to content and mode, `folders` has path, mode and owner."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, mode, owner in folders:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode, entry.mtime, entry.uid, entry.gid = tarfile.DIRTYPE, mode, time, owner, owner
            archive.addfile(entry)
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(content), mode, time
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def gzipped(content):
    return gzip.compress(content, compresslevel=9, mtime=0)


def archive(program, licence, facts):
    """Returns the archive of an image with this program."""
    folders = [("data", 0o700, USER), ("tmp", 0o1777, 0)]
    files = {NAME: (program, 0o755), "LICENSE": (licence, 0o644)}
    content = tar(files, facts.time, folders)
    layer = gzipped(content)
    config = encode(configuration(digest(content), facts))
    manifest = encode({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, config),
        "layers": [described(LAYER, layer)],
        "annotations": labels(facts),
    })
    tag = {"org.opencontainers.image.ref.name": facts.version, "io.containerd.image.name": f"docker.io/library/{NAME}:{facts.version}"}
    platform = {"architecture": PLATFORMS[facts.arch], "os": "linux"}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [described(MANIFEST, manifest) | {"platform": platform, "annotations": tag}],
    }
    docker = [{
        "Config": blob(config),
        "RepoTags": [f"{NAME}:{facts.version}"],
        "Layers": [blob(layer)],
    }]
    files = {
        "oci-layout": encode({"imageLayoutVersion": "1.0.0"}),
        "index.json": encode(index),
        "manifest.json": encode(docker),
        **{blob(content): content for content in (config, manifest, layer)},
    }
    return tar({path: (content, 0o644) for path, content in files.items()}, facts.time)


def configuration(diff_id, facts):
    return {
        "created": facts.created,
        "architecture": PLATFORMS[facts.arch],
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {"8443/tcp": {}, "8080/tcp": {}},
            "Env": SETTINGS,
            "Entrypoint": [f"/{NAME}"],
            "Volumes": {"/data": {}},
            "WorkingDir": "/",
            "Labels": labels(facts),
            # Docker reads this member. It is no part of the OCI specification.
            "Healthcheck": {"Test": ["CMD", f"/{NAME}", "healthcheck"], "Interval": 5_000_000_000, "StartPeriod": 5_000_000_000},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": facts.created, "created_by": NAME}],
    }


def labels(facts):
    return {
        "org.opencontainers.image.title": NAME,
        "org.opencontainers.image.version": facts.version,
        "org.opencontainers.image.revision": facts.commit,
        "org.opencontainers.image.licenses": "Apache-2.0",
    }


def encode(document):
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def blob(content):
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def described(media_type, content):
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}
