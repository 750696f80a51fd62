"""Certificates for tests: an authority, a stranger, and servers whose certificates are wrong in one way each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """PEM files. Servers' certificates are for localhost and 127.0.0.1 unless the name says otherwise.

    `ca`: the authority; `other_ca`: one that has signed nothing of ours. Each pair: certificate chain, key.
    """

    ca: Path
    other_ca: Path
    server: tuple[Path, Path]
    expired: tuple[Path, Path]
    other_name: tuple[Path, Path]
    distant: tuple[Path, Path]  # for 127.1, which clients take for no loopback address
    client: tuple[Path, Path]
    stranger: tuple[Path, Path]  # a client's, signed by other_ca


def make_certificates(folder: Path) -> Certificates:
    """Write all of them into `folder`, which must exist."""
    authority, other = trustme.CA(), trustme.CA()

    def pair(name: str, leaf: trustme.LeafCert) -> tuple[Path, Path]:
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return chain, key

    ca, other_ca = folder / "ca.pem", folder / "other_ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    other.cert_pem.write_to_path(str(other_ca))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    names = ("localhost", "127.0.0.1")
    return Certificates(
        ca=ca,
        other_ca=other_ca,
        server=pair("server", authority.issue_cert(*names)),
        expired=pair(
            "expired", authority.issue_cert(*names, not_before=yesterday - timedelta(days=9), not_after=yesterday)
        ),
        other_name=pair("other_name", authority.issue_cert("elsewhere.example")),
        distant=pair("distant", authority.issue_cert("127.1")),
        client=pair("client", authority.issue_cert("vision@localhost", common_name="vision")),
        stranger=pair("stranger", other.issue_cert("vision@localhost", common_name="vision")),
    )
