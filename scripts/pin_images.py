"""`make pin-images`: writes the digest behind each image's tag into the compose files and the Dockerfile.

`name:1.2.3` becomes `name:1.2.3@sha256:…`; an image that has a digest gets the one that its tag has now. Nothing is
written unless every image was found. With --check nothing is written at all: exit code 1 if something would be. Asks
the registries by their HTTP API, as `docker pull` does; observes HTTPS_PROXY; public images need no account.
Exit code 2: a registry could not be asked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
FILES = ("docker-compose.yml", "docker-compose.cluster.yml", "deploy/Dockerfile")
NAMED = re.compile(r"^(?P<before>\s*image: |ARG BASE_IMAGE=)(?P<image>[\w./:@-]+)", re.MULTILINE)
OUR_OWN = "vision-app:"  # built here; no registry has it
SECONDS = 30
MAX_BYTES = 4 * 1024 * 1024
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
OUT_OF_DATE, NOT_ASKED = 1, 2


class RegistryError(Exception):
    """A registry gave no digest for an image. The message names the image and says what to do next."""


@dataclass(frozen=True)
class Image:
    """A tag in a registry, as in `docker pull`: `redis:7.2`, `grafana/grafana:12.1.0`, `127.0.0.1:5000/team/app:1`."""

    text: str
    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Image:
        """Read a name with a tag; a digest behind it is left out. Raises ValueError without a tag."""
        named, _, _ = text.partition("@")
        path, colon, tag = named.rpartition(":")
        if not colon or "/" in tag:
            raise ValueError(f"{text} has no tag; write the exact version behind a colon")
        host, slash, rest = path.partition("/")
        if slash and ("." in host or ":" in host or host == "localhost"):
            return cls(named, host, rest, tag)
        return cls(named, "registry-1.docker.io", path if slash else f"library/{path}", tag)

    @property
    def manifest_url(self) -> str:
        """Loopback registries are spoken to without TLS, as the Docker engine does."""
        host = urlsplit(f"//{self.registry}").hostname
        scheme = "http" if host in ("localhost", "127.0.0.1", "::1") else "https"
        return f"{scheme}://{self.registry}/v2/{self.repository}/manifests/{self.tag}"


def images(text: str) -> set[str]:
    """The images that a file names, except our own."""
    return {found["image"] for found in NAMED.finditer(text) if not found["image"].startswith(OUR_OWN)}


def pinned(text: str, digests: Mapping[str, str]) -> str:
    """The file with digests. `digests`: by the image as the file names it."""

    def replace(found: re.Match[str]) -> str:
        image = found["image"]
        return found["before"] + (f"{Image.parse(image).text}@{digests[image]}" if image in digests else image)

    return NAMED.sub(replace, text)


def digest(image: Image) -> str:
    """The digest of the manifest behind a tag: of the list, where there are several platforms. Raises RegistryError."""
    try:
        body, told = _manifest(image)
    except HTTPError as fault:
        hint = {
            401: "it wants an account; pull the image by `docker pull` once logged in and pin it by hand",
            404: "there is no such tag; correct the name",
            429: "too many requests; try again in some hours",
        }.get(fault.code, "try again later")
        raise RegistryError(f"{image.text}: {image.registry} answers HTTP {fault.code}: {hint}") from None
    except (URLError, OSError, ValueError) as fault:
        reason = getattr(fault, "reason", fault)
        raise RegistryError(
            f"{image.text}: {image.registry} cannot be asked ({reason}); check the network and HTTPS_PROXY"
        ) from None
    computed = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if told and told != computed:
        raise RegistryError(f"{image.text}: {image.registry} says {told}, its answer has {computed}; do not use it")
    return computed


def _manifest(image: Image) -> tuple[bytes, str]:
    """The manifest and the digest that the registry says it has, after the registry's token if it wants one."""
    headers = {"Accept": ", ".join(MANIFESTS)}
    try:
        return _get(image.manifest_url, headers)
    except HTTPError as fault:
        challenge = fault.headers.get("WWW-Authenticate", "")
        if fault.code != 401 or not challenge.lower().startswith("bearer "):
            raise
    given = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = {"service": given.get("service", ""), "scope": f"repository:{image.repository}:pull"}
    body, _ = _get(f"{given.get('realm', '')}?{urlencode(query)}", {})
    answer = json.loads(body)
    token = answer.get("token") or answer.get("access_token")
    return _get(image.manifest_url, headers | {"Authorization": f"Bearer {token}"})


def _get(url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is not an address of a registry")
    with urlopen(Request(url, headers=dict(headers)), timeout=SECONDS) as answer:  # noqa: S310 - checked above
        body = answer.read(MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise ValueError(f"the answer is larger than {MAX_BYTES} bytes")
        return body, answer.headers.get("Docker-Content-Digest", "")


def main(arguments: list[str], root: Path = ROOT, files: Iterable[str] = FILES) -> int:
    parser = argparse.ArgumentParser(description="Write the digest behind each image's tag.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something would be written")
    only_check = parser.parse_args(arguments).check
    texts = {name: (root / name).read_text() for name in files}
    try:
        digests = {
            image: digest(Image.parse(image)) for image in sorted(set().union(*(images(t) for t in texts.values())))
        }
    except (RegistryError, ValueError) as fault:
        print(f"{fault}\nnothing was changed", file=sys.stderr)
        return NOT_ASKED
    changed = {name: new for name, text in texts.items() if (new := pinned(text, digests)) != text}
    for image, found in digests.items():
        is_new = not image.endswith(found)
        print(f"{'new ' if is_new else 'same'} {Image.parse(image).text}@{found}")
    if only_check:
        return OUT_OF_DATE if changed else 0
    for name, text in changed.items():
        (root / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
