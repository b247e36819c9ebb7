"""Tests the root certificates of AWS in the functions, because no test connects to AWS.

https://www.amazontrust.com/repository/ publishes the fingerprints.
"""

import datetime
import re

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

import template as sam

ROOTS = sam.ROOT / "functions" / "src" / "aws" / "amazon_roots.pem"
FINGERPRINTS = {
    "Amazon Root CA 1": "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
    "Amazon Root CA 2": "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
    "Amazon Root CA 3": "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
    "Amazon Root CA 4": "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
    "Starfield Services Root Certificate Authority - G2": (
        "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5"
    ),
}
# A deployment that is not rebuilt for so long must still connect.
REMAINING = datetime.timedelta(days=2 * 365)


def certificates():
    return x509.load_pem_x509_certificates(ROOTS.read_bytes())


def test_roots_are_those_of_amazon_trust_services():
    found = {
        certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value: certificate.fingerprint(SHA256()).hex()
        for certificate in certificates()
    }
    assert found == FINGERPRINTS


def test_each_root_has_its_name_above_it():
    names = re.findall(r"^# (.+)\n# SHA-256 .+\n-----BEGIN", ROOTS.read_text(encoding="ascii"), re.MULTILINE)
    assert names == list(FINGERPRINTS)


def test_roots_are_valid_for_two_more_years():
    limit = datetime.datetime.now(datetime.timezone.utc) + REMAINING
    assert all(certificate.not_valid_after_utc > limit for certificate in certificates())
