"""Signatures by OpenSSL, NSS and by hand: what fits its content is valid, and nothing else is."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asn1crypto import algos, core
from asn1crypto import cms as asn1_cms
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.pki.asn1 import wrap
from distributor.pki.cms import LARGEST_SIGNER, MOST_CERTIFICATES, InvalidSignature, Signature, verify
from tests.authority import Authority, Identity, key_of
from tests.needs import require
from tests.smime import SEQUENCE, SET, attribute, attributes, openssl, proved_by_openssl, signed_data, signer_info, text, twin

CONTENT = text("Installed. Reference: d-01JX0000000000000000000000")


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org")


@pytest.fixture(scope="module")
def mallory(authority: Authority) -> Identity:
    return authority.issue("mallory@example.org")


def reason(data: bytes, detached: bytes | None = CONTENT) -> str:
    found = verify(data, detached)
    assert isinstance(found, InvalidSignature), found
    return found.reason


def valid(data: bytes, detached: bytes | None = CONTENT) -> Signature:
    found = verify(data, detached)
    assert isinstance(found, Signature), found
    return found


# --- by others -------------------------------------------------------------------------------------------------------

SIGNED = {
    "detached": (),
    "opaque": ("-nodetach",),
    "opaque in BER": ("-nodetach", "-stream"),
    "RSASSA-PSS": ("-keyopt", "rsa_padding_mode:pss"),
    "RSASSA-PSS with other figures": ("-md", "sha384", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:20"),
    "SHA-384": ("-md", "sha384"),
    "SHA-512": ("-md", "sha512"),
    "with the certificate's digest": ("-cades",),
}


@pytest.mark.parametrize("options", SIGNED.values(), ids=SIGNED)
def test_a_signature_by_openssl_is_valid_and_its_proof_stands_alone(alice: Identity, mallory: Identity, options: tuple[str, ...]) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    found = valid(openssl(alice, CONTENT, *options), None if "-nodetach" in options else CONTENT)
    assert (found.content, found.certificate) == (CONTENT, hashlib.sha256(alice.der).hexdigest())
    assert found.signed_at is not None
    assert before <= found.signed_at <= datetime.now(UTC)
    assert proved_by_openssl(found.proof, alice, None)
    assert proved_by_openssl(found.proof, alice, CONTENT)
    assert not proved_by_openssl(found.proof, alice, CONTENT + b"more")
    assert not proved_by_openssl(found.proof, mallory, None)
    assert b"alice" not in found.proof


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_a_signature_with_a_key_on_a_curve_is_valid(authority: Authority, curve: ec.EllipticCurve) -> None:
    eve = authority.issue("eve@example.org", key=ec.generate_private_key(curve))
    found = valid(openssl(eve, CONTENT, "-md", "sha384"))
    assert found.certificate == hashlib.sha256(eve.der).hexdigest()
    assert proved_by_openssl(found.proof, eve, CONTENT)


def test_a_signature_with_ed25519_is_valid(authority: Authority) -> None:
    eve = authority.issue("eve@example.org", key=ed25519.Ed25519PrivateKey.generate(), usage=("digital_signature",))
    signed = attributes(CONTENT, digest="sha512")
    found = valid(signed_data([signer_info(eve, signed, digest="sha512")], [eve.der]))
    assert found.certificate == hashlib.sha256(eve.der).hexdigest()


def test_a_signer_may_be_named_by_the_identifier_of_its_key(authority: Authority) -> None:
    signer = Identity(authority.issuer_key, authority.issuer, ())
    found = valid(openssl(signer, CONTENT, "-keyid"))
    assert found.certificate == hashlib.sha256(signer.der).hexdigest()


def test_a_root_without_the_identifier_of_its_key_may_come_with_the_signature(authority: Authority, tmp_path: Path) -> None:
    old = tmp_path / "old.pem"
    old.write_bytes(authority.issue("root.example.org").pem)  # this authority's leaves have none
    found = valid(openssl(Identity(authority.issuer_key, authority.issuer, ()), CONTENT, "-keyid", "-certfile", str(old)))
    assert found.certificate == hashlib.sha256(Identity(authority.issuer_key, authority.issuer, ()).der).hexdigest()


@pytest.mark.parametrize("options", [(), ("-T",)], ids=["opaque", "detached"])
def test_a_signature_by_nss_is_valid(alice: Identity, tmp_path: Path, options: tuple[str, ...]) -> None:
    program, database = require("cmsutil"), f"sql:{tmp_path}"
    (tmp_path / "alice.p12").write_bytes(alice.pfx("secret", name="alice"))
    (tmp_path / "content").write_bytes(CONTENT)
    (tmp_path / "root").write_bytes(alice.chain[-1].public_bytes(Encoding.DER))
    signs = [program, "-S", "-d", database, "-N", "alice", "-H", "SHA256", "-G", "-P", *options]
    for command in (
        [require("certutil"), "-N", "-d", database, "--empty-password"],
        [require("certutil"), "-A", "-d", database, "-n", "root", "-t", ",CT,", "-i", str(tmp_path / "root")],
        [require("pk12util"), "-i", str(tmp_path / "alice.p12"), "-d", database, "-W", "secret"],
        [*signs, "-i", str(tmp_path / "content"), "-o", str(tmp_path / "signed")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    found = valid((tmp_path / "signed").read_bytes(), CONTENT if options else None)
    assert (found.content, found.certificate) == (CONTENT, hashlib.sha256(alice.der).hexdigest())
    assert proved_by_openssl(found.proof, alice, CONTENT)


# --- weak or incomplete ----------------------------------------------------------------------------------------------

REFUSED = {
    ("-md", "sha1"): "it was made with SHA-1; SHA-256, SHA-384 and SHA-512 are accepted",
    ("-noattr",): "it has no signed attributes, so neither time nor type",
    ("-nocerts",): "the signer's certificate is not in it",
    ("-nodetach",): "it has content of its own besides the signed part of the mail",
    ("-econtent_type", "1.2.3.4"): "it is for another type of content",
}


@pytest.mark.parametrize(("options", "why"), REFUSED.items(), ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_a_weak_or_incomplete_signature_is_not_valid(alice: Identity, options: tuple[str, ...], why: str) -> None:
    assert reason(openssl(alice, CONTENT, *options)) == why


def test_a_pss_signature_without_parameters_is_one_with_sha1(alice: Identity) -> None:
    bare = wrap(SEQUENCE, algos.SignedDigestAlgorithmId("rsassa_pss").dump())
    assert reason(signed_data([signer_info(alice, attributes(CONTENT), algorithm=bare)], [alice.der])).startswith("it was made with SHA-1")


def test_the_digest_of_the_mask_counts_as_well(alice: Identity) -> None:
    sha1 = algos.DigestAlgorithm({"algorithm": "sha1"})
    figures = {
        "hash_algorithm": algos.DigestAlgorithm({"algorithm": "sha256"}),
        "mask_gen_algorithm": algos.MaskGenAlgorithm({"algorithm": "mgf1", "parameters": sha1}),
        "salt_length": 32,
    }
    algorithm = wrap(SEQUENCE, algos.SignedDigestAlgorithmId("rsassa_pss").dump(), algos.RSASSAPSSParams(figures).dump())
    found = reason(signed_data([signer_info(alice, attributes(CONTENT), algorithm=algorithm)], [alice.der]))
    assert found.startswith("it was made with SHA-1")


# --- forged ----------------------------------------------------------------------------------------------------------


def test_what_is_built_by_hand_is_valid_before_it_is_made_wrong(alice: Identity) -> None:
    found = valid(signed_data([signer_info(alice, attributes(CONTENT))], [alice.der]))
    assert proved_by_openssl(found.proof, alice, CONTENT)


def test_another_content_is_not_what_was_signed(alice: Identity) -> None:
    assert reason(openssl(alice, CONTENT), CONTENT.replace(b"Installed", b"installed")) == "the content was changed"
    assert reason(openssl(alice, CONTENT), None) == "it has no content"


def test_attributes_of_somebody_else_do_not_fit_the_key(alice: Identity, mallory: Identity) -> None:
    forged = Identity(mallory.key, alice.certificate, ())  # names the certificate of the one, signs with the key of the other
    assert reason(signed_data([signer_info(forged, attributes(CONTENT))], [alice.der])) == "the signature does not match its attributes"


def test_a_later_time_than_the_signed_one_does_not_fit(alice: Identity) -> None:
    honest = signer_info(alice, attributes(CONTENT, signed_at=datetime(2026, 1, 1, tzinfo=UTC)))
    forged = honest.replace(b"260101000000Z", b"270101000000Z")
    assert forged != honest
    assert reason(signed_data([forged], [alice.der])) == "the signature does not match its attributes"


@pytest.mark.parametrize("time", [b"20261130120000", b"00000101000000Z", b"00010101000000+1400"], ids=["local", "year 0", "before year 1"])
def test_a_signing_time_that_cannot_be_compared_is_malformed(alice: Identity, time: bytes) -> None:
    kind, moment = asn1_cms.CMSAttributeType("signing_time").dump(), core.GeneralizedTime(contents=time).dump()
    kept = [each for number, each in enumerate(attributes(CONTENT)) if number != 1]
    data = signed_data([signer_info(alice, [*kept, attribute(kind, moment)])], [alice.der])
    assert reason(data) in {"its signing time is malformed", "it is malformed"}


@pytest.mark.parametrize("missing", range(3))
def test_without_type_or_digest_nothing_is_signed_and_without_time_none_is_given(alice: Identity, missing: int) -> None:
    kept = [each for number, each in enumerate(attributes(CONTENT)) if number != missing]
    data = signed_data([signer_info(alice, kept)], [alice.der])
    if missing == 1:
        assert valid(data).signed_at is None
    else:
        assert reason(data) == "a signed attribute is missing: content type or message digest"


def test_a_second_digest_is_not_chosen_from(alice: Identity) -> None:
    two = [*attributes(CONTENT), attributes(b"another")[2]]
    assert reason(signed_data([signer_info(alice, two)], [alice.der])) == "a signed attribute occurs twice"
    kind = asn1_cms.CMSAttributeType("message_digest").dump()
    values = [core.OctetString(hashlib.sha256(content).digest()).dump() for content in (CONTENT, b"another")]
    one = [*attributes(CONTENT)[:2], attribute(kind, *values)]
    assert reason(signed_data([signer_info(alice, one)], [alice.der])) == "it is malformed"


def test_attributes_for_another_type_do_not_count_for_a_mail(alice: Identity) -> None:
    signed = attributes(CONTENT, kind="enveloped_data")
    assert reason(signed_data([signer_info(alice, signed)], [alice.der])) == "it is for another type of content"
    assert reason(signed_data([signer_info(alice, attributes(CONTENT))], [alice.der], kind="enveloped_data"))


def test_one_signature_must_stand_alone(alice: Identity, mallory: Identity) -> None:
    both = [signer_info(who, attributes(CONTENT)) for who in (alice, mallory)]
    assert reason(signed_data(both, [alice.der, mallory.der])) == "2 signatures in one, of which one must count"
    assert reason(signed_data([], [alice.der])) == "nobody signed it"


def test_signed_again_by_another_it_is_the_others(alice: Identity, mallory: Identity) -> None:
    found = valid(signed_data([signer_info(mallory, attributes(CONTENT))], [alice.der, mallory.der]))
    assert found.certificate == hashlib.sha256(mallory.der).hexdigest()


def test_two_certificates_with_the_signers_name_are_not_chosen_from(alice: Identity) -> None:
    other = Identity(alice.key, twin(alice), ())
    signed = signer_info(alice, attributes(CONTENT))
    assert reason(signed_data([signed], [alice.der, other.der])) == "several certificates fit the signer"
    assert valid(signed_data([signed], [alice.der, alice.der])).certificate == hashlib.sha256(alice.der).hexdigest()


def test_a_certificate_that_was_exchanged_for_one_with_the_same_key_is_noticed_where_the_signature_names_it(alice: Identity) -> None:
    other = Identity(alice.key, twin(alice), ())
    data = openssl(alice, CONTENT, "-cades", "-nocerts")
    assert reason(data) == "the signer's certificate is not in it"
    signed = asn1_cms.ContentInfo.load(data)["content"]["signer_infos"][0].dump()
    assert valid(signed_data([signed], [alice.der]))
    assert reason(signed_data([signed], [other.der])) == "it names another certificate than the one that came with it"


def test_the_same_signature_has_the_same_digest_wherever_it_is_wrapped(alice: Identity) -> None:
    signed = signer_info(alice, attributes(CONTENT))
    one, other = (
        valid(signed_data([signed], chain)) for chain in ([alice.der], [alice.der, *(c.public_bytes(Encoding.DER) for c in alice.chain)])
    )
    assert (one.value, one.proof) == (other.value, other.proof)


# --- hostile ---------------------------------------------------------------------------------------------------------


def test_what_costs_too_much_is_refused(alice: Identity, authority: Authority) -> None:
    signed = signer_info(alice, attributes(CONTENT))
    many = [authority.issue(f"p{number}@example.org", key=key_of("alice@example.org")).der for number in range(MOST_CERTIFICATES)]
    assert valid(signed_data([signed], [alice.der, *many[1:]]))
    assert reason(signed_data([signed], [alice.der, *many])) == "it has more than 20 certificates"
    padded = attribute(core.ObjectIdentifier("1.2.3").dump(), wrap(0x04, bytes(LARGEST_SIGNER)))
    assert reason(signed_data([signer_info(alice, [*attributes(CONTENT), padded])], [alice.der])) == "it is larger than 8 KiB"
    more = [attribute(core.ObjectIdentifier(f"1.2.{number}").dump(), core.Null().dump()) for number in range(40)]
    assert reason(signed_data([signer_info(alice, [*attributes(CONTENT), *more])], [alice.der])) == "it has too many signed attributes"


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x80" * 1000, b"\x30\x00", b"text", wrap(SET, b"")])
def test_what_is_no_signature_is_malformed(data: bytes) -> None:
    assert reason(data) == "it is malformed"


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_changed_byte_makes_another_signature_valid(alice: Identity, data: st.DataObject) -> None:
    """A byte that nothing signs (an unused parameter, a certificate of the chain) may change, but never who signed what and when."""
    signed_at = datetime(2026, 11, 30, 12, tzinfo=UTC)
    honest = signed_data([signer_info(alice, attributes(CONTENT, signed_at=signed_at))], [alice.der])
    place = data.draw(st.integers(0, len(honest) - 1))
    forged = bytearray(honest)
    forged[place] ^= data.draw(st.integers(1, 255))
    expected = valid(honest)
    found = verify(bytes(forged), CONTENT)
    if isinstance(found, Signature) and found.certificate == expected.certificate:
        assert (found.content, found.value, found.signed_at) == (CONTENT, expected.value, signed_at)
    cut = honest[:place]
    assert isinstance(verify(cut, CONTENT), InvalidSignature)
