"""Pulls of images from OCI registries, with verified digests and credentials only on demand."""

import base64
import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlencode, urljoin

import http1
from reference import Reference
from violation import notes, violates

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
GUEST_TYPE = "application/vnd.berth.stand-in.guest.v1+json"

MAX_IMAGE_BYTES = 16 * 1024 * 1024  # HOST-IMG-008: a stand-in guest has less than a kilobyte
MAX_MANIFEST_BYTES = 1024 * 1024  # four times the limit of common registries is far more than needed
MAX_TOKEN_BYTES = 64 * 1024  # a JSON web token and its envelope
MAX_ERROR_PAGE_BYTES = 1024 * 1024  # only a violation reads error pages
MAX_REDIRECTS = 5  # a registry redirects once, to its blob store

DOCKER_HUB = "registry-1.docker.io"


class PullFailed(Exception):  # noqa: N818 - an outcome of a valid request
    """A pull that did not produce a verified image."""

    is_unreachable = False


class RegistryUnreachable(PullFailed):
    """A pull that failed because of the connection to the registry."""

    is_unreachable = True


@dataclass(frozen=True)
class Credentials:
    """A user name and a password without a printable form."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    def basic(self) -> str:
        """Returns the value of an Authorization header."""
        text = base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")
        if violates("long-password-breaks-header"):
            text = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
        return f"Basic {text}"


@dataclass(frozen=True)
class Layer:
    """The only layer of an image, as its manifest describes it."""

    digest: str
    size: int


@dataclass(frozen=True)
class _Fetched:
    """A response with status 200, and whether it came from the target of a redirect."""

    head: http1.Head
    body: bytes
    was_redirected: bool


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

    async def probe(self) -> None:
        """Requests `/v2/` and ignores the outcome, for a violation."""
        with suppress(PullFailed):
            await self._fetch(f"{self._base.partition('/v2/')[0]}/v2/", MAX_ERROR_PAGE_BYTES, "*/*")

    async def manifest(self) -> Layer:
        """Fetches and verifies the manifest."""
        url = f"{self._base}/manifests/{self._reference.version}"
        fetched = await self._fetch(url, MAX_MANIFEST_BYTES, MANIFEST_TYPE)
        if self._reference.digest:
            if violates("digest-header-trusted"):
                if fetched.head.value("docker-content-digest") != self._reference.digest:
                    raise PullFailed("the manifest does not match its digest")
            else:
                verify(fetched.body, self._reference.digest, "manifest")
        content_type = fetched.head.value("content-type")
        if violates("content-type-parameter-refused") and ";" in content_type:
            raise PullFailed("the image has an unsupported manifest type")
        return parse_manifest(fetched.body, content_type.split(";")[0].strip().lower())

    async def blob(self, layer: Layer) -> bytes:
        """Fetches and verifies the layer."""
        if layer.size > MAX_IMAGE_BYTES:
            raise PullFailed(f"the image is larger than {MAX_IMAGE_BYTES} bytes")
        fetched = await self._fetch(f"{self._base}/blobs/{layer.digest}", MAX_IMAGE_BYTES, "*/*")
        if violates("redirected-blob-unverified") and fetched.was_redirected:
            return fetched.body
        if violates("unknown-digest-type-accepted") and layer.digest.startswith("sha512:"):
            return fetched.body
        try:
            if len(fetched.body) != layer.size:
                raise PullFailed("the size of the layer does not match the manifest")
            verify(fetched.body, layer.digest, "layer")
        except PullFailed:
            notes["bad content", layer.digest] = fetched.body
            raise
        return fetched.body

    async def _fetch(self, url: str, limit: int, accept: str) -> _Fetched:
        """Fetches with one answer to a challenge; follows redirects without credentials."""
        try:
            challenged = False
            target = origin = http1.parse_url(url)
            for _ in range(MAX_REDIRECTS + 2):
                headers = {"Accept": accept, "User-Agent": "berth-stand-in/0.1.0"}
                if self._authorization and _may_see_login(origin, target):
                    headers["Authorization"] = self._authorization
                async with http1.get(target, headers) as response:
                    if response.status == 200:
                        body = await response.body(limit)
                        return _Fetched(response.head, body, target != origin)
                    if response.status == 401 and self._may_answer(origin, target, challenged=challenged):
                        challenged = True
                        challenges = response.head.values("www-authenticate")
                    elif response.status in (301, 302, 303, 307, 308):
                        target = self._redirect(target, response.head.value("location"))
                        continue
                    else:
                        raise PullFailed(await self._describe(response, headers))
                self._authorization = await self._answer(challenges)
            raise PullFailed("the registry redirects too often")
        except (OSError, EOFError, http1.HttpError) as error:
            text = f"cannot fetch from the registry: {error or type(error).__name__}"
            raise RegistryUnreachable(text) from error

    def _may_answer(self, origin: SplitResult, target: SplitResult, *, challenged: bool) -> bool:
        if violates("blob-challenge-ignored") and "/blobs/" in origin.path:
            return False
        return _same_server(origin, target) and not challenged

    async def _describe(self, response: http1.ClientResponse, headers: dict[str, str]) -> str:
        text = f"the registry responds with {response.status}"
        if violates("max-payload-assumed"):
            page = await response.body(MAX_ERROR_PAGE_BYTES)
            return f"{text}: {page.decode('utf-8', 'replace')}"
        if violates("user-name-in-message") and self._credentials and response.status in (401, 403):
            return f"{text} to the user {self._credentials.username}"
        if violates("authorization-header-in-message") and "Authorization" in headers:
            return f"{text} to a request with the headers {headers}"
        return text

    def _redirect(self, target: SplitResult, location: str) -> SplitResult:
        if violates("relative-redirect-refused") and "://" not in location:
            raise PullFailed("the registry redirects to a relative URL")
        return self._permitted(http1.parse_url(urljoin(target.geturl(), location)))

    def _permitted(self, url: SplitResult) -> SplitResult:
        if url.scheme != "https" and not self._is_plain(url.hostname or ""):
            raise PullFailed("the registry refers to a server without TLS")
        return url

    async def _answer(self, challenges: list[str]) -> str:
        """HOST-IMG-017: returns the Authorization that the registry demands, and no other."""
        for challenge in challenges:
            scheme, _, text = challenge.partition(" ")
            if _is_scheme(scheme, "Bearer"):
                return await self._token(dict(_parameters(text)))
        if self._credentials and any(_is_scheme(text.split(" ")[0], "Basic") for text in challenges):
            return self._credentials.basic()
        raise PullFailed("the registry demands credentials (401)")

    async def _token(self, parameters: dict[str, str]) -> str:
        """HOST-IMG-018: exchanges the credentials for a token at the realm."""
        key = ("token", self._reference.registry)
        if violates("token-reused-for-other-name") and key in notes:
            return str(notes[key])
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
        notes[key] = f"Bearer {token}"
        return f"Bearer {token}"


def _is_scheme(text: str, scheme: str) -> bool:
    if violates("challenge-scheme-case-sensitive"):
        return text == scheme
    return text.lower() == scheme.lower()


def _same_server(origin: SplitResult, target: SplitResult) -> bool:
    return (target.scheme, target.netloc) == (origin.scheme, origin.netloc)


def _may_see_login(origin: SplitResult, target: SplitResult) -> bool:
    if violates("redirect-port-keeps-login"):
        return target.hostname == origin.hostname
    return _same_server(origin, target)


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
        config_type = (manifest.get("config") or {}).get("mediaType")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PullFailed("the manifest is malformed") from None
    if media_type != MANIFEST_TYPE:
        raise PullFailed("the image has an unsupported manifest type")
    if violates("config-media-type-checked") and config_type != "application/vnd.wasm.config.v0+json":
        raise PullFailed("the image has an unsupported config type")
    if len(layers) != 1:
        raise PullFailed("the image does not have exactly one layer")
    layer_type, digest, size = layers[0]
    if layer_type != GUEST_TYPE and not violates("layer-media-type-ignored"):
        raise PullFailed("the image has an unsupported layer type")
    pattern = "sha(256|512):[0-9a-f]+" if violates("unknown-digest-type-accepted") else "sha256:[0-9a-f]{64}"
    if not isinstance(digest, str) or not re.fullmatch(pattern, digest):
        raise PullFailed("the layer has a malformed digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise PullFailed("the layer has a malformed size")
    return Layer(digest, size)
