"""Pulls the single file of a script image from an OCI registry.

Supports no credentials, no cache and no redirects; a production host should use a library.
"""

import asyncio
import hashlib
import json
from urllib.parse import urlsplit

import berth

PULL_TIMEOUT_S = 50.0
"""Timeout of one pull; less than 60 s, because a start must be answered within that time."""

MAX_SCRIPT_BYTES = 1 << 20
"""Maximum size of a manifest or a script; no role needs more."""

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


async def pull(reference: str) -> bytes:
    """Returns the single layer of an image, `registry/repository:tag` or `registry/repository@sha256:…`."""
    try:
        async with asyncio.timeout(PULL_TIMEOUT_S):
            return await _pull(reference)
    except (OSError, TimeoutError, ValueError, LookupError, asyncio.IncompleteReadError) as error:
        raise berth.StartError(f"cannot pull image {reference}: {error or type(error).__name__}") from error


async def _pull(reference: str) -> bytes:
    registry, _, rest = reference.partition("/")
    repository, at, digest = rest.partition("@")
    repository, _, tag = repository.partition(":")
    manifest = await _get(registry, f"/v2/{repository}/manifests/{digest or tag or 'latest'}")
    if at and _digest(manifest) != digest:
        raise ValueError("manifest digest mismatch")
    [layer] = json.loads(manifest)["layers"]
    if layer["size"] > MAX_SCRIPT_BYTES:
        raise ValueError(f"layer has {layer['size']} bytes; the maximum is {MAX_SCRIPT_BYTES}")
    script = await _get(registry, f"/v2/{repository}/blobs/{layer['digest']}")
    if _digest(script) != layer["digest"]:
        raise ValueError("layer digest mismatch")
    return script


async def _get(registry: str, path: str) -> bytes:
    address = urlsplit(f"//{registry}")  # understands IPv6, as in `[::1]:5000`
    # Plain HTTP only for a registry on this machine.
    tls = address.hostname not in ("127.0.0.1", "::1", "localhost")
    port = address.port or (443 if tls else 80)
    reader, writer = await asyncio.open_connection(address.hostname, port, ssl=tls)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {registry}\r\nAccept: {MANIFEST_TYPE}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.split(maxsplit=2)[1]
        if status != b"200":
            raise ValueError(f"GET {path}: status {status.decode()}")
        body = await reader.read(MAX_SCRIPT_BYTES + 1)
        while len(body) <= MAX_SCRIPT_BYTES and (more := await reader.read(MAX_SCRIPT_BYTES)):
            body += more
    finally:
        writer.close()
    return body


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
