"""Certificates: what a client that trusts our authority, and only it, says of them."""

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from devcluster import pki


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.ensure(tmp_path_factory.mktemp("pki"))


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verifier(keys: pki.Pki) -> verification.PolicyBuilder:
    return verification.PolicyBuilder().store(verification.Store([load(keys.ca)]))


@pytest.mark.parametrize(
    ("leaf", "name"),
    [
        ("apiserver", "localhost"),
        ("apiserver", "kubernetes.default.svc"),
        ("virt-api", "virt-api.kubevirt.svc"),
        ("cdi-api", "cdi-api.cdi.svc"),
    ],
)
def test_servers_are_trusted_under_their_names(keys: pki.Pki, leaf: str, name: str) -> None:
    chain = verifier(keys).build_server_verifier(x509.DNSName(name)).verify(load(keys.cert(leaf)), [])
    assert len(chain) == 2


def test_a_server_is_not_trusted_under_another_name(keys: pki.Pki) -> None:
    with pytest.raises(verification.VerificationError):
        verifier(keys).build_server_verifier(x509.DNSName("cdi-api.cdi.svc")).verify(load(keys.cert("virt-api")), [])


@pytest.mark.parametrize(
    ("leaf", "common_name"),
    [
        ("scheduler", "system:kube-scheduler"),
        ("front-proxy", "front-proxy-client"),
        ("virt-api-client", "kubevirt.io:system:client:virt-handler"),
        ("virt-handler", "kubevirt.io:system:node:virt-handler"),
    ],
)
def test_clients_are_known_by_their_common_name(keys: pki.Pki, leaf: str, common_name: str) -> None:
    certificate = load(keys.cert(leaf))
    verifier(keys).build_client_verifier().verify(certificate, [])
    assert [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [common_name]


def test_certificates_hold_for_the_life_of_a_cluster(keys: pki.Pki) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for leaf in pki.LEAVES:
        certificate = load(keys.cert(leaf.file))
        assert (
            certificate.not_valid_before_utc
            < now
            < now + datetime.timedelta(days=365)
            < certificate.not_valid_after_utc
        )


def test_keys_are_private_and_kept(keys: pki.Pki) -> None:
    files = {path: path.read_bytes() for path in keys.directory.glob("*.key")}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    pki.ensure(keys.directory)
    assert {path: path.read_bytes() for path in files} == files


def test_a_half_filled_directory_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "ca.key").write_text("half a key")
    keys = pki.ensure(tmp_path)
    assert keys.key("ca").read_text().startswith("-----BEGIN RSA PRIVATE KEY")
    assert pki.public_key(keys.clone_tokens).startswith(b"-----BEGIN PUBLIC KEY")
