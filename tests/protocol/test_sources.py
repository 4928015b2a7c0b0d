"""Sources as words: what is read, and what is refused before anything is fetched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.messages import SourceFile
from helexa.protocol.sources import (
    Place,
    check_file_name,
    check_sha256,
    parse_source,
    why_incomplete,
)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hf:OWNER/REPO", Place("hf", "OWNER/REPO")),
        ("hf:a-b.c/D_1@refs/pr/3", Place("hf", "a-b.c/D_1", "refs/pr/3")),
        ("https://example.org/a.gguf?x=1", Place("https", "https://example.org/a.gguf?x=1")),
        ("https://[2001:db8::1]:8443/a", Place("https", "https://[2001:db8::1]:8443/a")),
        ("http://127.0.0.5:1/a", Place("http", "http://127.0.0.5:1/a")),
        ("http://localhost/a", Place("http", "http://localhost/a")),
        ("http://[::1]/a", Place("http", "http://[::1]/a")),
        ("file:/models/my model.gguf", Place("file", "/models/my model.gguf")),
        ("file:///models/a.gguf", Place("file", "///models/a.gguf")),
        ("peer:", Place("peer", "")),
    ],
)
def test_a_source_is_read(text: str, place: Place) -> None:
    assert parse_source(text) == place


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a source; write hf:OWNER/REPO"),
        ("OWNER/REPO", "is not a source"),
        ("ftp://host/a", "is not a source"),
        ("HF:OWNER/REPO", "is not a source"),
        ("hf:OWNER", "names no repository; write hf:OWNER/REPO"),
        ("hf:a/b/c", "names no repository"),
        ("hf:../b", "names no repository"),
        ("hf:a/b..c", "names no repository"),
        ("hf:a/b@", "is not a revision"),
        ("hf:a/b@../x", "is not a revision"),
        ("hf:a/b@x y", "is not a revision"),
        ("https:example.org", "is not a URL"),
        ("https:///a", "is not a URL"),
        ("https://host:99999/a", "is not a URL"),
        ("https://[::1/a", "is not a URL"),
        ("https://host/a b", "is not a URL"),
        ("https://host/a\n", "cannot be printed"),
        ("https://name:password@host/a", "neither a name with password"),
        ("https://host/a#b", "nor #"),
        ("http://example.org/a", "http:// is for loopback alone; write https://"),
        ("http://127.0.0.1.example.org/a", "is for loopback alone"),
        ("http://10.0.0.1/a", "is for loopback alone"),
        ("file:a", "names no absolute path; write file:/PATH"),
        ("file:/", "names no absolute path"),
        ("file:/a/../b", "names no absolute path"),
        ("file:/a\0b", "cannot be printed"),
        ("peer:abc", "nothing follows peer:"),
        ("hf:" + "a" * 3000, "at most 2048"),
    ],
)
def test_what_is_no_source_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_source(text)


@given(st.text() | st.from_regex(r"(hf|https|http|file|peer):.*"))
def test_any_text_is_a_source_or_a_reason(text: str) -> None:
    try:
        place = parse_source(text)
    except ValueError:
        return
    assert place.kind in ("hf", "https", "http", "file", "peer")


def test_peers_need_the_digest_of_every_file() -> None:
    peers, hub = Place("peer", ""), Place("hf", "a/b")
    with_digest = SourceFile(name="a", sha256="ab" * 32)
    without = SourceFile(name="b")
    assert why_incomplete(peers, ()) == "peer: needs files, each with its sha256"
    assert "b has none" in why_incomplete(peers, (with_digest, without))
    assert why_incomplete(peers, (with_digest,)) == ""
    assert why_incomplete(hub, (without,)) == ""
    assert why_incomplete(hub, ()) == ""


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "../a", "a/./b", "a//b", "a\\b", "a\n", "a" * 600]
)
def test_a_file_s_name_stays_where_it_is_put(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a file"):
        check_file_name(name)
    assert check_file_name("a/b c-00001-of-00002.gguf")


@pytest.mark.parametrize("digest", ["", "ab", "AB" * 32, "sha256:" + "ab" * 32, "ab" * 32 + "\n"])
def test_a_digest_is_64_small_hexadecimal_digits(digest: str) -> None:
    with pytest.raises(ValueError, match="is not a digest"):
        check_sha256(digest)
    assert check_sha256("ab" * 32) == "ab" * 32
