"""Images from the network, against real loopback servers: limits hold, and private addresses are never asked."""

import io
import itertools
import shutil
import socket
import ssl
import subprocess
import threading
import tracemalloc
from contextlib import contextmanager, suppress
from ipaddress import ip_address

import pytest
from embed_core import ImageUrls, MockMultiModalEmbedding
from embed_core._images import ImageLoader, _fetch
from embed_core._images._fetch import Fetcher, is_public
from embed_core.errors import InvalidInputError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

HERE = ip_address("127.0.0.1")
ELSEWHERE = "127.0.0.2"  # on Linux all of 127/8 is this machine; the tests permit only 127.0.0.1
PATIENT = ImageUrls(timeout=60, max_bytes=2**20)
HASTY = ImageUrls(timeout=0.4)


def picture():
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), "teal").save(stream, "PNG")
    return stream.getvalue()


def answer(body=b"", status="200 OK", kind="image/png", **headers):
    told = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in told.items() if value is not None)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Server:
    """A server on this machine that treats each connection as `treat(connection, request)` says."""

    def __init__(self, treat, address="127.0.0.1", context=None):
        self.requests = []
        self.address = address
        self.closing = threading.Event()
        self._treat = treat
        self._context = context
        self._listener = socket.create_server((address, 0))
        self._threads = [threading.Thread(target=self._listen)]
        self.port = self._listener.getsockname()[1]
        self._threads[0].start()

    def url(self, path="/a.png", host=None, scheme="http"):
        return f"{scheme}://{host or self.address}:{self.port}{path}"

    def _listen(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection):
        with connection, suppress(OSError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                request = b""
                while b"\r\n\r\n" not in request and (received := connection.recv(4096)):
                    request += received
                self.requests.append(request.decode("latin-1"))
                self._treat(connection, request)

    def close(self):
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=10)


@pytest.fixture
def serve():
    servers = []

    def start(treat, **options):
        if isinstance(treat, bytes):
            return start(lambda connection, _: connection.sendall(treat), **options)
        try:
            servers.append(Server(treat, **options))
        except OSError as error:
            pytest.skip(f"a second loopback address is needed, which is there on Linux ({error})")
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def fetcher(policy=PATIENT, **options):
    return Fetcher(policy, permits=lambda address: address == HERE, **options)


def refused(url, policy=PATIENT, **options):
    with pytest.raises(InvalidInputError) as caught:
        fetcher(policy, **options)(url)
    return str(caught.value)


@contextmanager
def bounded(memory=8 * 2**20):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()


# What works


def test_an_image_is_fetched_in_one_request(serve):
    server = serve(answer(picture()))
    assert fetcher()(server.url("/a b/ü.png?size=1 2#part")) == picture()
    first, *headers = server.requests[0].split("\r\n")
    assert first == "GET /a%20b/%C3%BC.png?size=1%202 HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in headers
    assert "Accept-Encoding: identity" in headers


def test_an_image_in_chunks_or_without_a_length_is_fetched(serve):
    body = picture()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    for sent in (
        answer(Transfer_Encoding="chunked", Content_Length=None) + chunked,
        answer(Content_Length=None) + body,
    ):
        assert fetcher()(serve(sent).url()) == body


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_followed_and_may_be_relative(serve, status):
    def treat(connection, request):
        moved = request.startswith(b"GET /old")
        connection.sendall(answer(status=status, Location="/new") if moved else answer(picture()))

    server = serve(treat)
    assert fetcher()(server.url("/old")) == picture()
    assert [request.split()[1] for request in server.requests] == ["/old", "/new"]


def test_the_next_address_is_tried_where_the_first_does_not_answer(serve):
    server = serve(answer(picture()))
    tried = Fetcher(PATIENT, resolve=lambda host, port: [ELSEWHERE, "127.0.0.1"], permits=lambda address: True)
    assert tried(server.url(host="pictures.example")) == picture()
    assert f"Host: pictures.example:{server.port}" in server.requests[0]


def test_the_name_is_checked_against_the_certificate(serve, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("making a certificate needs the `openssl` program")
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    subject = ["-subj", "/CN=pictures.example", "-addext", "subjectAltName=DNS:pictures.example"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = serve(answer(picture()), context=context)
    fetch = fetcher(resolve=lambda host, port: ["127.0.0.1"])

    with pytest.raises(InvalidInputError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(server.url(scheme="https", host="pictures.example"))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _fetch._tls.cache_clear()
    try:
        assert fetch(server.url(scheme="https", host="pictures.example")) == picture()
        with pytest.raises(InvalidInputError, match="Hostname mismatch"):
            fetch(server.url(scheme="https", host="another.example"))
    finally:
        _fetch._tls.cache_clear()


# Private addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "168.63.129.16",
        "100.64.0.1", "0.0.0.0", "192.0.0.8",
        "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "2001:db8::1", "fc00::1", "fe80::1", "fec0::1",
        "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_told_apart(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_public(address):
    assert is_public(ip_address(address))


@given(st.ip_addresses())
def test_nothing_public_is_private_multicast_or_reserved(address):
    if is_public(address):
        assert address.is_global
        for kind in ("private", "multicast", "loopback", "link_local", "unspecified"):
            assert not getattr(address, f"is_{kind}")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "127.1", "0", "0.0.0.0"],
)
def test_every_way_to_write_this_machine_is_refused_before_connecting(serve, host):
    server = serve(answer(picture()))
    model = MockMultiModalEmbedding(image_urls=ImageUrls())
    with pytest.raises(InvalidInputError, match="no public address") as caught:
        model.embed_images([picture(), server.url(host=host)])
    assert caught.value.indices == (1,)
    assert server.requests == []
    assert model.call_count == 0


def test_a_name_that_resolves_to_this_machine_is_refused(serve):
    server = serve(answer(picture()))
    fetch = Fetcher(PATIENT, resolve=lambda host, port: ["127.0.0.1"])
    with pytest.raises(InvalidInputError, match=r"`pictures.example`, which is 127.0.0.1: no public address"):
        fetch(server.url(host="pictures.example"))
    assert server.requests == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "fe80::1%lo"], []]
)
def test_one_private_address_among_public_ones_is_enough_to_refuse(serve, addresses):
    server = serve(answer(picture()))
    assert "no public address" in refused(server.url(host="a.example"), resolve=lambda host, port: addresses)
    assert server.requests == []


def test_a_name_that_changes_its_answer_gains_nothing(serve):
    private = serve(answer(picture()), address=ELSEWHERE)
    answers = iter([["127.0.0.1"], [ELSEWHERE]])
    assert "could not be fetched" in refused(private.url(host="a.example"), resolve=lambda host, port: next(answers))
    assert private.requests == []
    assert next(answers) == [ELSEWHERE]  # asked once: the connection goes to what was looked at


@pytest.mark.parametrize("place", ["http://127.0.0.2:{}/", "//127.0.0.2:{}/", "http://inside.example:{}/"])
def test_a_redirect_to_a_private_address_is_refused_before_connecting(serve, place):
    private = serve(answer(picture()), address=ELSEWHERE)
    public = serve(answer(status="302 Found", Location=place.format(private.port)))
    names = {"inside.example": [ELSEWHERE]}
    message = refused(public.url(), resolve=lambda host, port: names.get(host, [host]))
    assert "no public address" in message
    assert private.requests == []


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "data:image/png,x"]
)
def test_a_redirect_to_anything_but_the_web_is_refused(serve, place):
    assert "no web address" in refused(serve(answer(status="302 Found", Location=place)).url())


def test_redirects_in_a_circle_end(serve):
    server = serve(answer(status="302 Found", Location="/again"))
    assert "redirects more than 3 times" in refused(server.url())
    assert len(server.requests) == 4
    assert "redirects more than 0 times" in refused(server.url(), ImageUrls(max_redirects=0))


# Size, time and kind


def drip(head=b""):
    def treat(connection, request):
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            threading.Event().wait(0.02)

    return treat


@pytest.mark.parametrize(
    "head",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", answer(Content_Length="100000"), answer(Content_Length=None)],
    ids=["status line", "header", "body", "body without length"],
)
def test_a_server_that_sends_a_byte_now_and_then_is_left_when_the_time_is_up(serve, head):
    server = serve(drip(head))
    with bounded():
        assert "within `timeout` of 0.4 s" in refused(server.url(), HASTY)


def test_endless_preliminary_answers_end_with_the_time(serve):
    def treat(connection, request):
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    with bounded():
        assert "within `timeout`" in refused(serve(treat).url(), HASTY)


def test_a_server_that_says_nothing_is_left_when_the_time_is_up(serve):
    server = serve(lambda connection, request: server.closing.wait())
    with bounded():
        assert "within `timeout`" in refused(server.url(), HASTY)


def test_slow_redirects_share_one_time(serve):
    server, now = serve(answer(status="302 Found", Location="/again")), itertools.count()
    slow = ImageUrls(timeout=100, max_redirects=99)
    assert "within `timeout`" in refused(server.url(), slow, clock=lambda: float(next(now)))
    assert 1 < len(server.requests) < 50  # each takes the clock some steps


def test_a_name_server_that_does_not_answer_is_left_when_the_time_is_up():
    released = threading.Event()
    try:
        with bounded():
            assert "within `timeout`" in refused(
                "http://slow.example/", HASTY, resolve=lambda host, port: [str(released.wait(10))]
            )
    finally:
        released.set()


def test_a_handshake_that_never_ends_is_left_when_the_time_is_up(serve):
    server = serve(lambda connection, request: server.closing.wait())
    with bounded():
        assert "within `timeout`" in refused(server.url(scheme="https"), HASTY)


def test_a_body_announced_as_a_gibibyte_is_not_read(serve):
    server = serve(answer(Content_Length=str(2**30)) + bytes(1000))
    with bounded():
        assert "1073741824 bytes, more than `max_bytes`" in refused(server.url())


@pytest.mark.parametrize("chunked", [None, "chunked"])
def test_an_endless_body_is_left_at_the_limit(serve, chunked):
    sent = []

    def treat(connection, request):
        connection.sendall(answer(Transfer_Encoding=chunked, Content_Length=None))
        block = b"10000\r\n" + bytes(2**16) + b"\r\n"
        while True:
            connection.sendall(block)
            sent.append(len(block))

    with bounded():
        assert "larger than `max_bytes`" in refused(serve(treat).url(), PATIENT)
    assert sum(sent) < 32 * 2**20  # what fits into the buffers of the sockets


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (answer(b"<html>", kind="text/html"), "`text/html`, not an image"),
        (answer(b"{}", kind="application/json; charset=utf-8"), "`application/json`"),
        (answer(picture(), Content_Type=None), "`text/plain`"),
        (answer(picture(), kind="image"), "not an image"),
        (answer(picture(), Content_Encoding="gzip"), "compressed as `gzip`"),
        (answer(status="404 Not Found"), "status 404"),
        (answer(status="500 Oops"), "status 500"),
        (answer(status="204 No Content"), "status 204"),
        (answer(status="302 Found"), "redirects more than"),
        (b"", "RemoteDisconnected"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "more than 100 headers"),
    ],
)
def test_an_answer_that_is_no_image_is_refused_with_what_it_is(serve, sent, said):
    assert said in refused(serve(sent).url())


def test_a_port_where_nobody_listens_is_an_error_in_words():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "ConnectionRefusedError" in refused(f"http://127.0.0.1:{port}/a.png")


@pytest.mark.parametrize(
    "url", ["http://a.example:99999/", "http://[::1/", "http://" + "a" * 70 + ".example/", "http://\u2100.example/"]
)
def test_an_address_that_makes_no_sense_is_refused(url):
    assert "could not be fetched" in refused(url)


def test_credentials_are_refused_and_never_repeated():
    message = refused("http://user:hidden@127.0.0.1/a.png?signature=hidden")
    assert "user name" in message
    assert "hidden" not in message


def test_a_signature_in_the_query_is_not_in_the_error(serve):
    message = refused(serve(answer(status="403 Forbidden")).url("/a.png?signature=hidden"))
    assert "/a.png" in message
    assert "hidden" not in message


# On the way to a model


def test_what_is_fetched_is_configuration_but_no_part_of_the_space():
    model = MockMultiModalEmbedding(image_urls=ImageUrls(timeout=3))
    assert model.fingerprint == MockMultiModalEmbedding().fingerprint
    assert MockMultiModalEmbedding.from_dict(model.to_dict()).image_urls == ImageUrls(timeout=3)
    assert MockMultiModalEmbedding().image_urls is None


class Local(MockMultiModalEmbedding):
    """Fetches from 127.0.0.1, which no public switch allows."""

    def _image_loader(self):
        class Loader(ImageLoader):
            def _fetch(self, url):
                return fetcher(ImageUrls(timeout=5))(url)

        return Loader()


async def test_a_fetched_image_is_the_same_as_its_bytes_and_fetched_once(serve):
    server = serve(answer(picture()))
    model = Local(num_workers=2, embed_batch_size=1)
    expected = model.get_image_embedding(picture())
    assert model.get_image_embedding_batch([server.url(), server.url()]) == [expected, expected]
    assert await model.aget_image_embedding(server.url()) == expected
    assert len(server.requests) == 3


def test_a_body_cut_short_is_a_damaged_image(serve):
    body = picture()
    server = serve(answer(body[:-20], Content_Length=str(len(body))))
    with pytest.raises(InvalidInputError, match="input 0"):
        Local().get_image_embedding(server.url())


def test_many_fetched_images_wait_on_disk_not_in_memory(serve):
    stream = io.BytesIO()
    Image.effect_noise((1500, 1500), 90).save(stream, "BMP")  # 2 MiB each
    server = serve(answer(stream.getvalue()))
    model = Local(embed_batch_size=1)
    model.middlewares = (Forgetful(),)
    tracemalloc.start()
    model.embed_images([server.url()] * 60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20


class Forgetful:
    """Answers without keeping what it is asked, as the mock does for its tests."""

    async def __call__(self, request, onward, io):
        for image in request.inputs:
            image.open()
        return [[1.0] * 8 for _ in request.inputs]
