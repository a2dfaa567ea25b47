"""What must be true of a package, checked with another library's parser (facts: pkcs12.md B7, assertions 1 to 9)."""

from __future__ import annotations

import hashlib
import hmac

from asn1crypto import pkcs12
from asn1crypto.algos import EncryptionAlgorithm
from asn1crypto.keys import PrivateKeyInfo
from cryptography import x509
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests import oldphone

MAC = {"phone": ("sha1", 20), "modern": ("sha256", 32)}
ROUNDS = {"phone": 2048, "modern": 100_000}


def faults(der: bytes, profile: str, password: str) -> list[str]:
    """Everything that is not as the profile says; empty for a good package."""
    try:
        return [text for text, good in _assertions(pkcs12.Pfx.load(der, strict=True), der, profile, password) if not good]
    except (ValueError, TypeError, KeyError, oldphone.WrongPasswordError) as error:
        return [f"cannot be read: {error}"]


def _assertions(pfx: pkcs12.Pfx, der: bytes, profile: str, password: str) -> list[tuple[str, bool]]:
    name, length = MAC[profile]
    checks = [
        ("strict DER", pfx.dump(force=True) == der),
        ("under 64 KB", len(der) < 64 * 1024),
        ("version 3", pfx["version"].native == "v3"),
        ("password integrity", pfx["auth_safe"]["content_type"].native == "data"),
        ("a MAC", bool(pfx["mac_data"].native)),
    ]
    if not pfx["mac_data"].native:
        return checks
    mac = pfx["mac_data"]
    digest = mac["mac"]["digest"].native
    algorithm = mac["mac"]["digest_algorithm"]
    checks += [
        ("the profile's MAC", algorithm["algorithm"].native == name and len(digest) == length),
        ("NULL parameters", algorithm["parameters"].dump() == b"\x05\x00"),
        ("at least 2048 MAC iterations", mac["iterations"].native >= 2048),
        ("a salt of at least 8 bytes", len(mac["mac_salt"].native) >= 8),
        ("the MAC itself", mac_of(pfx, password) == digest),
    ]
    infos = list(pfx.authenticated_safe)
    kinds = [info["content_type"].native for info in infos]
    checks.append(("an encrypted safe and a plain one", kinds == ["encrypted_data", "data"]))
    return checks + _inside(infos, profile, password) if kinds == ["encrypted_data", "data"] else checks


def mac_of(pfx: pkcs12.Pfx, password: str) -> bytes:
    """RFC 7292 appendix B with purpose 3, over the content octets."""
    mac = pfx["mac_data"]
    name = mac["mac"]["digest_algorithm"]["algorithm"].native
    size = hashlib.new(name).digest_size
    key = oldphone.derive(password, mac["mac_salt"].native, mac["iterations"].native, 3, size, name)
    return hmac.new(key, pfx["auth_safe"]["content"].contents, name).digest()


def salts(der: bytes) -> list[bytes]:
    """Every salt and IV in a file."""
    pfx = pkcs12.Pfx.load(der, strict=True)
    found = [pfx["mac_data"]["mac_salt"].native]
    for algorithm in _algorithms(list(pfx.authenticated_safe)):
        if algorithm["algorithm"].native == "pbes2":
            found += [algorithm["parameters"]["key_derivation_func"]["parameters"]["salt"].native, algorithm.encryption_iv]
        else:
            found.append(algorithm["parameters"]["salt"].native)
    return found


def _algorithms(infos: list[pkcs12.ContentInfo]) -> list[EncryptionAlgorithm]:
    first = infos[0]["content"]["encrypted_content_info"]["content_encryption_algorithm"]
    bags = pkcs12.SafeContents.load(infos[1]["content"].native)
    keys = [bag["bag_value"] for bag in bags if bag["bag_id"].native == "pkcs8_shrouded_key_bag"]
    return [first, *(key["encryption_algorithm"] for key in keys)]


def _inside(infos: list[pkcs12.ContentInfo], profile: str, password: str) -> list[tuple[str, bool]]:
    algorithms_used = _algorithms(infos)
    checks = [("the profile's encryption, twice", len(algorithms_used) == 2 and all(_fits(a, profile) for a in algorithms_used))]
    if not checks[0][1]:
        return checks
    key_bags = list(pkcs12.SafeContents.load(infos[1]["content"].native))
    info = infos[0]["content"]["encrypted_content_info"]
    opened = decrypt(algorithms_used[0], info["encrypted_content"].native, password)
    certificates = list(pkcs12.SafeContents.load(opened, strict=True))
    key = decrypt(algorithms_used[1], key_bags[0]["bag_value"]["encrypted_data"].native, password)
    return checks + _bags(key_bags, certificates, key)


def _bags(key_bags: list[pkcs12.SafeBag], certificates: list[pkcs12.SafeBag], key: bytes) -> list[tuple[str, bool]]:
    ders = [bag["bag_value"]["cert_value"].parsed.dump() for bag in certificates]
    leaf = x509.load_der_x509_certificate(ders[0])
    spki = leaf.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    mine = ser.load_der_private_key(key, None).public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    own, names = attributes(key_bags[0]), attributes(certificates[0])
    return [
        ("one shrouded key", [b["bag_id"].native for b in key_bags] == ["pkcs8_shrouded_key_bag"]),
        ("certificates only", {b["bag_id"].native for b in certificates} == {"cert_bag"}),
        ("X.509 only", {b["bag_value"]["cert_id"].native for b in certificates} == {"x509"}),
        ("each certificate once", len(set(ders)) == len(ders)),
        ("the leaf first", not _is_ca(ders[0]) and all(_is_ca(d) for d in ders[1:])),
        ("one name and number for key and leaf", own == names and set(own) == {"friendly_name", "local_key_id"}),
        ("the number is the leaf's SHA-1", own.get("local_key_id") == hashlib.sha1(ders[0]).digest()),  # noqa: S324  as the format says
        ("no attributes on CA certificates", not any(attributes(b) for b in certificates[1:])),
        ("an RSA or EC key", PrivateKeyInfo.load(key, strict=True).algorithm in {"rsa", "ec"}),
        ("the key of the leaf", spki == mine),
    ]


def attributes(bag: pkcs12.SafeBag) -> dict[str, object]:
    """A bag's attributes by name."""
    found = bag["bag_attributes"]
    return {a["type"].native: a["values"][0].native for a in found} if found.native else {}


def _is_ca(der: bytes) -> bool:
    try:
        return x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _fits(algorithm: EncryptionAlgorithm, profile: str) -> bool:
    if profile == "phone":
        chosen = algorithm["parameters"].native
        return (
            algorithm["algorithm"].dotted == "1.2.840.113549.1.12.1.3"
            and len(chosen["salt"]) == 8
            and chosen["iterations"] == ROUNDS["phone"]
        )
    if algorithm["algorithm"].dotted != "1.2.840.113549.1.5.13":
        return False
    kdf = algorithm["parameters"]["key_derivation_func"]
    cipher = algorithm["parameters"]["encryption_scheme"]
    return (
        kdf["algorithm"].dotted == "1.2.840.113549.1.5.12"
        and kdf["parameters"]["prf"]["algorithm"].dotted == "1.2.840.113549.2.9"
        and kdf["parameters"]["prf"]["parameters"].dump() == b"\x05\x00"
        and kdf["parameters"]["iteration_count"].native == ROUNDS["modern"]
        and len(kdf["parameters"]["salt"].native) >= 16
        and kdf["parameters"]["key_length"].native in {None, 32}
        and cipher["algorithm"].dotted == "2.16.840.1.101.3.4.1.42"
        and len(cipher["parameters"].native) == 16
    )


def decrypt(algorithm: EncryptionAlgorithm, data: bytes, password: str) -> bytes:
    """Either profile's encryption undone."""
    if algorithm["algorithm"].native != "pbes2":
        return oldphone.decrypt(oldphone.read(algorithm.dump())[0], data, password)
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), algorithm.kdf_salt, algorithm.kdf_iterations, 32)
    cipher = Cipher(algorithms.AES(key), modes.CBC(algorithm.encryption_iv)).decryptor()
    unpad = padding.PKCS7(128).unpadder()
    return unpad.update(cipher.update(data) + cipher.finalize()) + unpad.finalize()
