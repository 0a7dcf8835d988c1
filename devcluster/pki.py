"""Certificates and keys of one cluster: one RSA authority (CDI's signer must be RSA), P-256 leaves.

Everything is made once per cluster directory and found again by a restart.
"""

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=3650)
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Leaf:
    """A certificate for serving on the loopback interface and for naming a client by its common name."""

    file: str
    common_name: str
    names: tuple[str, ...] = ()


LEAVES = (
    Leaf("apiserver", "kube-apiserver", ("kubernetes", "kubernetes.default", "kubernetes.default.svc")),
    Leaf("controller-manager", "system:kube-controller-manager"),
    Leaf("scheduler", "system:kube-scheduler"),
    Leaf("front-proxy", "front-proxy-client"),
    Leaf("virt-api", "virt-api", ("virt-api.kubevirt.svc",)),
    Leaf("virt-api-client", "kubevirt.io:system:client:virt-handler"),
    Leaf("virt-controller", "virt-controller", ("virt-controller.kubevirt.svc",)),
    Leaf("virt-handler", "kubevirt.io:system:node:virt-handler"),
    Leaf("cdi-api", "cdi-api", ("cdi-api.cdi.svc",)),
    Leaf("bmc", "bmc"),
)


@dataclass(frozen=True)
class Pki:
    """Where the files are. ``cert`` and ``key`` take the ``file`` of a leaf, or ``ca``."""

    directory: Path

    def cert(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    @property
    def ca(self) -> Path:
        return self.cert("ca")

    @property
    def service_accounts(self) -> Path:
        """Key that signs and, as it holds the public half, verifies service account tokens."""
        return self.key("service-accounts")

    @property
    def clone_tokens(self) -> Path:
        """RSA key that signs CDI's clone tokens."""
        return self.key("clone-tokens")


def ensure(directory: Path) -> Pki:
    """Create what is missing. A directory that was left half filled by an interrupted run is completed anew."""
    pki = Pki(directory)
    complete = directory / "complete"
    if complete.exists() and all(pki.cert(leaf.file).exists() for leaf in LEAVES):
        return pki
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ca = _authority(ca_key)
    _write(pki.key("ca"), _pem(ca_key))
    _write(pki.ca, ca.public_bytes(serialization.Encoding.PEM))
    for leaf in LEAVES:
        key = ec.generate_private_key(ec.SECP256R1())
        _write(pki.key(leaf.file), _pem(key))
        _write(pki.cert(leaf.file), _issue(leaf, key, ca, ca_key).public_bytes(serialization.Encoding.PEM))
    _write(pki.service_accounts, _pem(ec.generate_private_key(ec.SECP256R1())))
    _write(pki.clone_tokens, _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    complete.touch()
    return pki


def public_key(private: Path) -> bytes:
    """The public half of a PEM key file, as PEM."""
    key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = _name("devcluster")
    return (
        _builder(name, name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _issue(
    leaf: Leaf, key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, ca_key: rsa.RSAPrivateKey
) -> x509.Certificate:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in ("localhost", *leaf.names)]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    return (
        _builder(_name(leaf.common_name), ca.subject)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    # The traditional form ("RSA PRIVATE KEY", "EC PRIVATE KEY") is the one that every consumer here reads.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
