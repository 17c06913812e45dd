"""Pulls of images from OCI registries, with verified digests and credentials only on demand."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlencode, urljoin

import http1
from reference import Reference

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
GUEST_TYPE = "application/vnd.berth.stand-in.guest.v1+json"

MAX_IMAGE_BYTES = 16 * 1024 * 1024  # HOST-IMG-008: a stand-in guest has less than a kilobyte
MAX_MANIFEST_BYTES = 1024 * 1024  # four times the limit of common registries is far more than needed
MAX_TOKEN_BYTES = 64 * 1024  # a JSON web token and its envelope
MAX_REDIRECTS = 5  # a registry redirects once, to its blob store

DOCKER_HUB = "registry-1.docker.io"


class PullFailed(Exception):  # noqa: N818 - an outcome of a valid request
    """A pull that did not produce a verified image."""


@dataclass(frozen=True)
class Credentials:
    """A user name and a password without a printable form."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    def basic(self) -> str:
        """Returns the value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


@dataclass(frozen=True)
class Layer:
    """The only layer of an image, as its manifest describes it."""

    digest: str
    size: int


class Pull:
    """The requests of one pull; a challenge of the registry is answered once and remembered."""

    def __init__(
        self, reference: Reference, credentials: Credentials | None, plain_http: frozenset[str]
    ) -> None:
        """`plain_http` contains the registry host names that the operator permits without TLS."""
        self._reference = reference
        self._credentials = credentials
        self._plain_http = plain_http
        self._authorization = ""
        host = DOCKER_HUB if reference.registry == "docker.io" else reference.registry
        try:
            hostname = http1.parse_url(f"https://{host}").hostname or ""
        except http1.HttpError as error:
            raise PullFailed(f"cannot use the registry: {error}") from error
        scheme = "http" if self._is_plain(hostname) else "https"
        self._base = f"{scheme}://{host}/v2/{reference.name}"

    def _is_plain(self, hostname: str) -> bool:
        return hostname in self._plain_http

    async def manifest(self) -> Layer:
        """Fetches and verifies the manifest."""
        url = f"{self._base}/manifests/{self._reference.version}"
        response_type, data = await self._fetch(url, MAX_MANIFEST_BYTES, MANIFEST_TYPE)
        if self._reference.digest:
            verify(data, self._reference.digest, "manifest")
        return parse_manifest(data, response_type)

    async def blob(self, layer: Layer) -> bytes:
        """Fetches and verifies the layer."""
        if layer.size > MAX_IMAGE_BYTES:
            raise PullFailed(f"the image is larger than {MAX_IMAGE_BYTES} bytes")
        _, data = await self._fetch(f"{self._base}/blobs/{layer.digest}", MAX_IMAGE_BYTES, "*/*")
        if len(data) != layer.size:
            raise PullFailed("the size of the layer does not match the manifest")
        verify(data, layer.digest, "layer")
        return data

    async def _fetch(self, url: str, limit: int, accept: str) -> tuple[str, bytes]:
        """Returns the media type and the body; follows redirects without credentials."""
        try:
            challenged = False
            target = http1.parse_url(url)
            origin = (target.scheme, target.netloc)
            for _ in range(MAX_REDIRECTS + 2):
                headers = {"Accept": accept, "User-Agent": "berth-stand-in/0.1.0"}
                at_registry = (target.scheme, target.netloc) == origin
                if at_registry and self._authorization:
                    headers["Authorization"] = self._authorization
                async with http1.get(target, headers) as response:
                    if response.status == 200:
                        media_type = response.head.value("content-type").split(";")[0].strip().lower()
                        return media_type, await response.body(limit)
                    if response.status == 401 and at_registry and not challenged:
                        challenged = True
                        challenges = response.head.values("www-authenticate")
                    elif response.status in (301, 302, 303, 307, 308):
                        target = self._redirect(target, response.head.value("location"))
                        continue
                    else:
                        raise PullFailed(f"the registry responds with {response.status}")
                self._authorization = await self._answer(challenges)
            raise PullFailed("the registry redirects too often")
        except (OSError, EOFError, http1.HttpError) as error:
            raise PullFailed(f"cannot fetch from the registry: {error or type(error).__name__}") from error

    def _redirect(self, target: SplitResult, location: str) -> SplitResult:
        return self._permitted(http1.parse_url(urljoin(target.geturl(), location)))

    def _permitted(self, url: SplitResult) -> SplitResult:
        if url.scheme != "https" and not self._is_plain(url.hostname or ""):
            raise PullFailed("the registry refers to a server without TLS")
        return url

    async def _answer(self, challenges: list[str]) -> str:
        """HOST-IMG-017: returns the Authorization that the registry demands, and no other."""
        for challenge in challenges:
            scheme, _, text = challenge.partition(" ")
            if scheme.lower() == "bearer":
                return await self._token(dict(_parameters(text)))
        if self._credentials and any(text.split(" ")[0].lower() == "basic" for text in challenges):
            return self._credentials.basic()
        raise PullFailed("the registry demands credentials (401)")

    async def _token(self, parameters: dict[str, str]) -> str:
        """HOST-IMG-018: exchanges the credentials for a token at the realm."""
        realm = self._permitted(http1.parse_url(parameters.get("realm", "")))
        scope = parameters.get("scope", f"repository:{self._reference.name}:pull")
        query = {"service": parameters.get("service", ""), "scope": scope}
        added = urlencode({name: value for name, value in query.items() if value})
        realm = realm._replace(query="&".join(filter(None, [realm.query, added])))
        headers = {"Accept": "application/json", "User-Agent": "berth-stand-in/0.1.0"}
        if self._credentials:
            headers["Authorization"] = self._credentials.basic()
        async with http1.get(realm, headers) as response:
            if response.status != 200:
                raise PullFailed(f"the token server of the registry responds with {response.status}")
            data = await response.body(MAX_TOKEN_BYTES)
        try:
            answer = json.loads(data)
            token = answer.get("token") or answer["access_token"]
        except (ValueError, KeyError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise PullFailed("the token server of the registry sends no token")
        return f"Bearer {token}"


def _parameters(text: str) -> list[tuple[str, str]]:
    found = re.findall(r'([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', text)
    return [(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain) for name, quoted, plain in found]


def verify(data: bytes, digest: str, part: str) -> None:
    """HOST-IMG-002: refuses content that does not match its digest."""
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise PullFailed(f"the {part} does not match its digest")


def parse_manifest(data: bytes, response_type: str) -> Layer:
    """Returns the layer of an image that this host can run."""
    try:
        manifest = json.loads(data)
        media_type = manifest.get("mediaType") or response_type
        layers = [(layer["mediaType"], layer["digest"], layer["size"]) for layer in manifest.get("layers", [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PullFailed("the manifest is malformed") from None
    if media_type != MANIFEST_TYPE:
        raise PullFailed("the image has an unsupported manifest type")
    if len(layers) != 1:
        raise PullFailed("the image does not have exactly one layer")
    layer_type, digest, size = layers[0]
    if layer_type != GUEST_TYPE:
        raise PullFailed("the image has an unsupported layer type")
    if not isinstance(digest, str) or not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise PullFailed("the layer has a malformed digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise PullFailed("the layer has a malformed size")
    return Layer(digest, size)
