"""Files read as text: every encoding right or refused, every part with its line or page."""

import base64
import io
import json
import logging
from contextlib import suppress

import pypdf
import pytest
from embed_core import TextSplitter
from embed_core.errors import IntegrationNotInstalledError
from embed_core.index._extra import extra
from embed_core.index._html import read_html
from embed_core.index._item import ChunkedItem, Item
from embed_core.index._keys import holds_key
from embed_core.index._parsed import ParsedText, UnreadableError
from embed_core.index._readers import decode, read
from hypothesis import given
from hypothesis import strategies as st

FRENCH = "Où est le café ? L\N{RIGHT SINGLE QUOTATION MARK}été à Orléans, déjà.\n"
RUSSIAN = "Где находится библиотека и когда она открыта?\n"


def encrypted(data: bytes, password: str) -> bytes:
    writer, stream = pypdf.PdfWriter(io.BytesIO(data)), io.BytesIO()
    writer.encrypt(password, algorithm="RC4-128")
    writer.write(stream)
    return stream.getvalue()


def reason(name: str, data: bytes) -> str:
    with pytest.raises(UnreadableError) as raised:
        read(name, data)
    return str(raised.value)


class TestEncodings:
    @pytest.mark.parametrize(
        "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
    )
    def test_text_in_every_encoding_that_can_be_told_is_read(self, encoding):
        mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
        text = FRENCH.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") if encoding == "latin-1" else FRENCH
        assert decode(mark + text.encode(encoding)) == text

    def test_bytes_that_windows_1252_does_not_know_are_read_as_latin_1(self):
        assert decode(b"caf\xe9 \x81 " + b"a" * 20) == "café \x81 " + "a" * 20

    @pytest.mark.parametrize("encoding", ["cp1251", "koi8-r"])
    def test_what_only_guessing_could_read_is_refused(self, encoding):
        assert "convert it to UTF-8" in reason("a.txt", RUSSIAN.encode(encoding))

    def test_a_damaged_text_with_a_mark_is_read_as_far_as_it_goes(self):
        assert decode(b"\xef\xbb\xbfabc\xff") == "abc\N{REPLACEMENT CHARACTER}"

    @pytest.mark.parametrize(
        "data", [bytes(range(256)) * 40, b"\x7fELF\x02\x01\x01" + bytes(90), "ab".encode("utf-16-le")]
    )
    def test_binary_data_are_refused_whatever_the_name(self, data):
        assert reason("notes.txt", data) == "is binary"

    def test_a_stray_nul_does_not_make_a_text_binary(self):
        text = "a line of text\n" * 20 + "\0" + "another line\n" * 20
        assert read("log.txt", text.encode()).text == text

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])))
    def test_every_valid_unicode_text_is_read_as_it_is(self, text):
        if not text.startswith("\ufeff"):
            assert decode(text.encode()) == text


class TestPlainText:
    @pytest.mark.parametrize("data", [b"", b" \n\t\r\n "])
    def test_an_empty_or_blank_file_is_refused(self, data):
        assert reason("a.txt", data) == "is empty"

    def test_a_file_of_nothing_but_a_mark_is_refused(self):
        assert reason("a.txt", b"\xef\xbb\xbf\n") == "holds no text"

    def test_a_file_that_is_too_large_is_refused(self):
        assert "20 MB" in reason("a.txt", b"a" * 20_000_001)

    @pytest.mark.parametrize(
        ("name", "syntax", "language"),
        [
            ("README.MD", "markdown", None),
            ("a.py", "code", "python"),
            ("a.h", "code", "c"),
            ("a.tsx", "code", "tsx"),
            ("Makefile", "text", None),
            ("a.unknown", "text", None),
        ],
    )
    def test_the_name_tells_the_syntax(self, name, syntax, language):
        document = read(name, b"some text")
        assert (document.syntax, document.language) == (syntax, language)

    @given(st.lists(st.text("ab ü\n\r\0", max_size=8), min_size=1).map("\n".join), st.data())
    def test_the_lines_of_a_part_are_those_an_editor_shows(self, text, data):
        if not text.strip() or text.count("\0") * 100 > len(text.encode()):
            return
        document = read("a.txt", text.encode())
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, len(text)))
        assert document.place(start, end) == (text.count("\n", 0, start) + 1, text.count("\n", 0, end - 1) + 1)


BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
PEM = f"-----BEGIN PRIVATE KEY-----\n{BODY}\n-----END PRIVATE KEY-----\n"
PUBLIC_JWK = {"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "key_ops": ["verify"]}
PRIVATE_JWK = {"d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE", **PUBLIC_JWK}
OCT_JWK = {"kty": "oct", "k": "GawgguFyGrWKav7AX4VKUg"}


class TestKeys:
    @pytest.mark.parametrize(
        "text",
        [
            PEM,
            PEM.replace("PRIVATE KEY", "CERTIFICATE").replace("\n", "\r\n"),
            PEM.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
            f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B2C3D\n\n{BODY}\n",
            f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\nComment: none\n\n{BODY}\n",
            f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: none\n{BODY}\n",
            f"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: me\nPublic-Lines: 4\n{BODY}\n",
            f"# created: 2024-01-01\n# public key: age1xyz\nAGE-SECRET-KEY-1{'GFPYYSJZ' * 7}QQ\n",
            f"AGE-SECRET-KEY-PQ-1{'GFPYYSJZ' * 7}QQ\n",
            json.dumps({"type": "service_account", "private_key": PEM}),
            f"client-key-data: {base64.b64encode(PEM.encode()).decode()}",
            f"Some words before it.\n\n    {PEM}\nand after it.",
            *(
                PEM.replace("PRIVATE KEY", label)
                for label in ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "TRUSTED CERTIFICATE", "PKCS7", "CMS")
            ),
            PEM.replace("PRIVATE KEY", "PKCS #7 SIGNED DATA"),
            json.dumps(PRIVATE_JWK),
            json.dumps(OCT_JWK),
            json.dumps({"keys": [PUBLIC_JWK, {**PRIVATE_JWK, "oth": [{"r": "AQAB"}]}]}, indent=2),
            f"TOKEN_KEY={json.dumps(json.dumps(OCT_JWK))}",
            json.dumps({"kty": "EC", "ext": {"a": {}}, "d": PRIVATE_JWK["d"]}),
            f"kty: EC\ncrv: P-256\nd: {PRIVATE_JWK['d']}\n",
            f"keys:\n- kty: EC\n  d: {PRIVATE_JWK['d']}\n",
            f"[Interface]\nPrivateKey = {BODY[:43]}=\nAddress = 10.0.0.1/32\n",
            f"<RSAKeyValue><Modulus>{BODY}</Modulus><Exponent>AQAB</Exponent><D>{BODY}</D></RSAKeyValue>",
            PEM.replace(BODY, f"{BODY[:32]}\n{BODY[32:]}"),
            f"const key = {{kty: 'EC', d: '{PRIVATE_JWK['d']}'}};",
        ],
    )
    def test_a_private_key_or_certificate_is_told_by_its_content(self, text):
        assert holds_key(text)
        item = ChunkedItem.cut(Item("a.txt", ""), read("a.txt", text.encode()), TextSplitter(), held=False)
        assert (item.pieces, item.item.note) == ((), "holds a private key or certificate")

    @pytest.mark.parametrize(
        "text",
        [
            "`age` reads a file whose last line begins with `AGE-SECRET-KEY-1`, in capitals.",
            "A key begins with `-----BEGIN PRIVATE KEY-----` and goes on in base64.",
            'if "-----BEGIN CERTIFICATE-----" in text:\n    raise ValueError("no certificates, please")\n',
            f"-----BEGIN PUBLIC KEY-----\n{BODY}\n-----END PUBLIC KEY-----\n",
            json.dumps({"keys": [PUBLIC_JWK, {"kty": "RSA", "n": BODY, "e": "AQAB"}]}),
            f"<RSAKeyValue><Modulus>{BODY}</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>",
            "const key = {\n  kty: 'EC',\n  d: privateMemberOfTheKeyOfTheEllipticCurve,\n};",
            "A peer has `PublicKey = …` and `PrivateKey = $(wg genkey | tee private | wg pubkey)`.",
            json.dumps([{"kty": "EC"}, {"d": PRIVATE_JWK["d"]}]),
            'A private JWK has `"kty"` and the member `"d"`, or `"k"`, as in `{"kty": "oct", "k": "..."}`.',
        ],
    )
    def test_a_mention_is_no_key(self, text):
        assert not holds_key(text)


class TestHtml:
    def test_the_text_is_what_a_browser_shows(self):
        document = read_html(
            "<!doctype html><html><head><title>A page</title><style>p {color: red}</style></head>"
            "<body><!-- no --><h1>Head&shy;ing</h1><p>One <b>bold</b>\n   word &amp; more.<br>Next"
            "<script>var a = '<p>no</p>';</script></p><svg><text>no</text></svg>"
            "<ul><li>first<li>second</ul></body></html>"
        )
        assert document.text.split("\n\n") == [
            "A page",
            "Head\N{SOFT HYPHEN}ing",
            "One bold word & more.\nNext",
            "first",
            "second",
            *([""] if document.text.endswith("\n\n") else []),
        ]

    def test_preformatted_text_keeps_its_lines(self):
        assert read_html("<p>Code:</p>\n<pre>def f():\n    return 1\n</pre>").text == (
            "Code:\n\ndef f():\n    return 1\n\n\n"
        )

    def test_every_part_has_the_line_of_its_source(self):
        markup = "<html>\n<body>\n\n<p>first\nsecond\n</p>\n<div><span>third</span></div>"
        markup += "<script>\n//\n</script>\n<p>fourth<!--\n\n-->\nfifth</p><hr\n>sixth"
        document = read_html(markup)
        for word, line in (("first", 4), ("second", 5), ("third", 7), ("fourth", 10), ("fifth", 13), ("sixth", 14)):
            start = document.text.index(word)
            assert document.place(start, start + len(word)) == (line, line)

    @pytest.mark.parametrize(
        "head",
        ['<meta charset="windows-1251">', "<META http-equiv=Content-Type content='text/html; charset=windows-1251'>"],
    )
    def test_the_declared_encoding_counts(self, head):
        page = f"<html><head>{head}</head><body>{RUSSIAN}</body></html>".encode("cp1251")
        assert RUSSIAN.strip() in read("page.html", page).text

    @pytest.mark.parametrize(
        "declared", ["utf-8", "no-such-encoding", "base64", "undefined", "idna", "unicode_escape", "UTF-7", "punycode"]
    )
    def test_a_wrong_declaration_is_not_believed(self, declared):
        page = f'<meta charset="{declared}"><p>{FRENCH}'.encode("cp1252")
        assert FRENCH.split()[-1] in read("page.htm", page).text

    @pytest.mark.parametrize(
        ("markup", "text"),
        [
            ("<p>one</p><![ endif]--><p>two</p>", "one two"),
            ("<!--[if IE]><p>no</p><![endif]--><p>one</p>", "one"),
            (f"one &#{'1' * 5000}; two", "one \N{REPLACEMENT CHARACTER} two"),
            ("one\0two", "one\N{REPLACEMENT CHARACTER}two"),
            ("<html><body>one</body></html>two<p>three", "onetwo three"),
            ("one<a href='x", "one"),
            ('<?xml version="1.0" encoding="ascii"?><p>é</p>', "é"),
            ("<b>" * 1500 + "one", "one"),
        ],
    )
    def test_odd_markup_is_read(self, markup, text):
        assert read_html(markup).text.split() == text.split()

    def test_a_page_that_is_nested_without_end_is_refused_and_not_cut(self):
        assert "nested too deep" in reason("a.html", b"<p>one</p>" + b"</i>" * 300 + b"<div>" * 3000 + b"two")

    @pytest.mark.parametrize("odd", ["<!--", "<!", "<![", "<a ", "&#1", '<a b="', "<b>", "</i>", "<!--a-->", "<title>"])
    def test_broken_markup_takes_no_longer_the_more_there_is_of_it(self, odd):
        """With a parser that begins again at every sign, this would take hours."""
        with suppress(UnreadableError):
            read_html("<p>words</p>" + odd * (1_000_000 // len(odd)))

    def test_a_page_of_scripts_only_is_refused(self):
        assert reason("a.html", b"<html><script>run()</script></html>") == "holds no text"

    @given(st.text("<>/!-ab&;= '\"\n", max_size=60))
    def test_no_markup_is_too_broken(self, markup):
        document = read_html(markup)
        assert list(document.offsets) == sorted(document.offsets)
        for start in range(len(document.text)):
            assert 1 <= document.place(start, start + 1)[0] <= markup.count("\n") + 1


class TestPdf:
    def test_every_part_has_its_page(self, pdf):
        document = read("a.pdf", pdf("First page", "Second page"))
        assert document.unit == "page"
        assert document.text.split() == ["First", "page", "Second", "page"]
        start = document.text.index("Second")
        assert document.place(0, 5) == (1, 1)
        assert document.place(start, start + 6) == (2, 2)
        assert document.place(0, start + 6) == (1, 2)

    def test_the_content_tells_a_pdf_whatever_its_name(self, pdf):
        assert read("download", pdf("Some words")).unit == "page"

    def test_a_damaged_file_is_refused(self, caplog, pdf):
        assert reason("a.pdf", pdf("Some words")[:300]).startswith("is no PDF that can be read")
        assert caplog.records == []

    def test_a_page_that_is_damaged_leaves_the_others(self, caplog, pdf):
        data = pdf("First page", "Second page")
        assert data.count(b"/Parent") == 2
        damaged = data.replace(b"(First page) Tj", b"(First page( Tj")
        with caplog.at_level(logging.ERROR):
            assert "Second page" in read("a.pdf", damaged).text

    def test_an_encrypted_file_is_refused(self, pdf):
        assert "encrypted" in reason("a.pdf", encrypted(pdf("Secret words"), "word"))

    def test_a_file_that_anybody_may_open_is_read(self, pdf):
        assert "Open words" in read("a.pdf", encrypted(pdf("Open words"), "")).text

    def test_pictures_of_text_are_refused(self, pdf):
        assert "without text" in reason("a.pdf", pdf(""))


def test_a_part_without_characters_has_a_place_too():
    assert ParsedText("", [0], [1]).place(0, 0) == (1, 1)


def test_a_missing_package_is_named_with_what_to_install():
    with pytest.raises(IntegrationNotInstalledError, match=r'no_such_package.*pip install "embed-core\[index\]"'):
        extra("no_such_package")
