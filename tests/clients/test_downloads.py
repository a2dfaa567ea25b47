"""Fetching CRLs and authorities' certificates: what is bounded, what is refused, and that nothing is asked for twice."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from distributor.clients import ip_addresses
from distributor.clients.downloads import CONCURRENT, MOST_SILENT, DownloadCache
from distributor.clients.ip_addresses import allowed
from distributor.pki.validation.revocation import DownloadFailed, Fetched
from tests.authority import Identity
from tests.doubles.pki import Server, certificate, ec_key, root, server

Fetch = Callable[..., Fetched | DownloadFailed]


@pytest.fixture
def site() -> Iterator[Server]:
    with server() as made:
        yield made


@pytest.fixture
def web() -> Iterator[Callable[..., DownloadCache]]:
    """Webs as a test wants them; by default they may go to loopback."""
    made: list[DownloadCache] = []

    def make(*, private: bool = True, seconds: float = 20.0, **how: object) -> DownloadCache:
        made.append(DownloadCache(private=private, seconds=seconds, **how))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


def reason(came: Fetched | DownloadFailed) -> str:
    assert isinstance(came, DownloadFailed), came
    return came.reason


def test_what_lies_there_comes_with_its_time(site: Server, web: Callable[..., DownloadCache]) -> None:
    came = web().get(site.put("/a.crl", b"list"), crl=True)
    assert isinstance(came, Fetched)
    assert came.data == b"list"
    assert 0 < came.seconds < 20


def test_a_url_is_fetched_once_a_run_and_so_is_a_failure(site: Server, web: Callable[..., DownloadCache]) -> None:
    one = web()
    for path, what in (("/good", b"x"), ("/gone", 404)):
        url = site.put(path, what)
        threads = [threading.Thread(target=one.get, args=(url,), kwargs={"crl": True}) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert site.asked == {"/good": 1, "/gone": 1}
    assert reason(one.get(f"{site.url}/gone", crl=True)) == "the server responded with 404"


def test_different_urls_are_fetched_side_by_side_but_not_too_many(site: Server, web: Callable[..., DownloadCache]) -> None:
    together = threading.Barrier(CONCURRENT)
    inside, most, lock = 0, 0, threading.Lock()

    def meet(answer: BaseHTTPRequestHandler) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait(20)
        with lock:
            inside -= 1
        answer.send_response(200)
        answer.send_header("Content-Length", "0")
        answer.end_headers()

    one = web()
    urls = [site.put(f"/{number}", meet) for number in range(2 * CONCURRENT)]
    for url in urls:
        one.start(url, crl=True)
    assert all(isinstance(one.get(url, crl=True), Fetched) for url in urls)
    assert most == CONCURRENT


def test_a_redirect_is_followed_and_a_circle_is_not(site: Server, web: Callable[..., DownloadCache]) -> None:
    site.put("/new", b"moved")
    assert web().get(site.put("/old", "new"), crl=True).data == b"moved"  # type: ignore[union-attr]
    site.put("/a", "/b")
    assert reason(web().get(site.put("/b", "/a"), crl=True)) == "redirect loop"
    for number in range(10):
        site.put(f"/{number}", f"/{number + 1}")
    assert reason(web().get(f"{site.url}/0", crl=True)) == "more than 5 redirects"
    assert site.asked["/6"] == 0


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a", "ldap://127.0.0.1/", "gopher://x", "javascript:0"])
def test_only_http_is_fetched_at_first_and_after_a_redirect(site: Server, web: Callable[..., DownloadCache], place: str) -> None:
    assert "only http and https are" in reason(web().get(place, crl=True))
    assert "only http and https are" in reason(web().get(site.put("/leads", place), crl=True))


def test_a_url_with_a_password_is_refused(web: Callable[..., DownloadCache]) -> None:
    assert "password" in reason(web().get("http://a:b@127.0.0.1/", crl=True))


def test_an_address_of_ones_own_network_is_refused_unless_allowed(site: Server, web: Callable[..., DownloadCache]) -> None:
    url = site.put("/a.crl", b"x")
    came = web(private=False).get(url, crl=True)
    assert "127.0.0.1, which is not a public address" in reason(came)
    assert isinstance(came, DownloadFailed)
    assert came.private
    assert site.asked == {}


def test_a_redirect_to_a_private_address_is_refused(
    site: Server, web: Callable[..., DownloadCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first host passes as one of the internet; where it leads does not."""
    monkeypatch.setattr(ip_addresses, "allowed", lambda address, *, private: address == "127.0.0.1" or allowed(address, private=private))
    one = web(private=False)
    for number, target in enumerate(("http://10.0.0.1/secret", "http://[::1]/", "http://2130706434/", "http://169.254.169.254/latest")):
        assert "not a public address" in reason(one.get(site.put(f"/{number}", target), crl=True))


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/"])
def test_a_redirect_to_where_a_cloud_keeps_its_keys_is_refused_always(site: Server, web: Callable[..., DownloadCache], target: str) -> None:
    assert "not a public address" in reason(web().get(site.put("/leads", target), crl=True))


def test_a_name_that_changes_its_mind_is_connected_to_where_it_was_looked_up(site: Server, web: Callable[..., DownloadCache]) -> None:
    port = site.url.rpartition(":")[2]
    asked: list[str] = []

    def rebinding(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.9.9.9"]

    came = web(resolver=rebinding).get(f"http://crl.example.org:{port}{site.put('/a', b'x').rpartition(port)[2]}", crl=True)
    assert isinstance(came, Fetched)
    assert asked == ["crl.example.org"]
    assert site.hosts == [f"crl.example.org:{port}"]


def test_the_next_address_is_tried_where_one_does_not_answer(site: Server, web: Callable[..., DownloadCache]) -> None:
    with socket.socket() as free:  # bound and not listening: refused
        free.bind(("127.0.0.2", 0))
        url = site.put("/a", b"x").replace("127.0.0.1", "crl.example.org")
        assert isinstance(web(resolver=lambda *_: ["127.0.0.2", "127.0.0.1"]).get(url, crl=True), Fetched)


def test_ipv6_is_spoken(web: Callable[..., DownloadCache]) -> None:
    try:
        made = server(six=True)
        with made as site:
            assert isinstance(web().get(site.put("/a", b"x"), crl=True), Fetched)
            assert "which is not a public address" in reason(web(private=False).get(f"{site.url}/a", crl=True))
    except OSError:
        pytest.skip("this machine lacks IPv6")


def test_what_is_too_large_is_not_read_to_its_end(site: Server, web: Callable[..., DownloadCache]) -> None:
    sent = 0

    def endless(answer: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        answer.send_response(200)
        answer.end_headers()
        try:
            while sent < 2**28:
                sent += answer.wfile.write(bytes(2**16))
        except OSError:
            pass  # the reader has gone

    url = site.put("/huge", endless)
    assert reason(web(largest_crl=2**20).get(url, crl=True)) == "larger than 1 MiB"
    assert reason(web().get(site.put("/bundle", bytes(2**18 + 1)), crl=False)) == "larger than 256 KiB"
    assert sent < 2**27


def test_who_trickles_or_is_silent_is_given_up_in_time_and_asked_no_more(site: Server, web: Callable[..., DownloadCache]) -> None:
    over = threading.Event()

    def trickle(answer: BaseHTTPRequestHandler) -> None:
        answer.wfile.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while not over.wait(0.02):
                answer.wfile.write(b"X-Slow: 1\r\n")
                answer.wfile.flush()
        except OSError:
            pass  # the reader has gone

    one = web(seconds=0.3)
    urls = [site.put(f"/{number}", trickle) for number in range(MOST_SILENT + 2)]
    came = [reason(one.get(url, crl=True)) for url in urls]
    over.set()
    assert came == ["no answer in 0.3 s"] * MOST_SILENT + ["the host did not respond to an earlier request"] * 2


def test_a_resolver_that_hangs_holds_up_nobody(web: Callable[..., DownloadCache]) -> None:
    over = threading.Event()
    assert reason(web(seconds=0.2, resolver=lambda *_: [str(over.wait(30))]).get("http://x.example/", crl=True)) == "no answer in 0.2 s"
    over.set()


def test_https_is_verified_against_the_name_though_an_address_is_connected_to(web: Callable[..., DownloadCache], tmp_path: Path) -> None:
    top = root()
    key = ec_key()
    name = x509.SubjectAlternativeName([x509.DNSName("crl.example.org")])
    served = certificate("crl.example.org", key, top, extensions=[(name, False)])
    (tmp_path / "key.pem").write_bytes(Identity(key, served).pem + Identity(key, served).key_pem())
    speaks = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    speaks.load_cert_chain(tmp_path / "key.pem")
    trust = ssl.create_default_context(cadata=top.certificate.public_bytes(Encoding.PEM).decode())
    with server(tls=speaks) as site:
        port = site.url.rpartition(":")[2]
        site.put("/a", b"x")
        fetch = web(trust=lambda: trust, resolver=lambda *_: ["127.0.0.1"]).get
        assert isinstance(fetch(f"https://crl.example.org:{port}/a", crl=True), Fetched)
        for url in (f"https://other.example.org:{port}/a", f"{site.url}/a"):
            assert "the certificate is not trusted" in reason(fetch(url, crl=True))
        assert "the certificate is not trusted" in reason(
            web(resolver=lambda *_: ["127.0.0.1"]).get(f"https://crl.example.org:{port}/a", crl=True)
        )
        assert site.hosts == [f"crl.example.org:{port}"]


def test_compressed_bytes_stay_what_they_are(site: Server, web: Callable[..., DownloadCache]) -> None:
    def bomb(answer: BaseHTTPRequestHandler) -> None:
        answer.send_response(200)
        answer.send_header("Content-Encoding", "gzip")
        answer.send_header("Content-Length", "4")
        answer.end_headers()
        answer.wfile.write(b"\x1f\x8bxx")

    came = web().get(site.put("/bomb", bomb), crl=True)
    assert isinstance(came, Fetched)
    assert came.data == b"\x1f\x8bxx"


OURS = (
    "127.0.0.1 ::1 10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 240.0.0.1 fc00::1 ::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1::1"
    " ::10.0.0.1 192.0.2.1 2001:db8::1 nothing"
)
NOBODYS = (
    "169.254.169.254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 168.63.129.16 100.100.100.200 224.0.0.1 0.0.0.0 :: fe80::1%eth0 ff02::1"
    " fd00:ec2::254 169.254.1.1 fe80::1 fec0::1 feff::1 0.1.2.3 240.0.0.1 255.255.255.255 64:ff9b:1::a00:1 64:ff9b:1:ffff::808:808"
    " 2002:a9fe:a9fe::1 ::169.254.169.254 2001:0:808:808::5601:5601 2001:0:a9fe:a9fe::f7f7:f7f7 2001:0:7f00:1::5601:5601"  # Teredo
    " fd00::5efe:a9fe:a9fe fd00::200:5efe:a9fe:a9fe fd00::5efe:a83f:8110 ::ffff:0.0.0.0 64:ff9b::e000:1"  # ISATAP, mapped, NAT64
)


@pytest.mark.parametrize("address", [*OURS.split(), *NOBODYS.split()])
def test_what_is_no_address_of_the_internet(address: str) -> None:
    assert not allowed(address, private=False)


@pytest.mark.parametrize("address", NOBODYS.split())
def test_what_is_never_allowed(address: str) -> None:
    assert not allowed(address, private=True)


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "fc00::1",
        "::ffff:10.0.0.1",
        "2002:a00:1::1",
        "64:ff9b::a00:1",
        "fd00::5efe:a00:1",
        "::10.0.0.1",
        "2001:0:808:808::f5ff:fffe",
    ],
)
def test_what_is_allowed_where_private_addresses_are(address: str) -> None:
    assert allowed(address, private=True)
    assert not allowed(address, private=False)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "::ffff:8.8.8.8"])
def test_what_is_always_allowed(address: str) -> None:
    assert allowed(address, private=False)
    assert allowed("127.0.0.1", private=True)
    assert allowed("::1", private=True)
