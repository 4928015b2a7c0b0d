"""The supply's pure parts: which files make a model, what they are called, what an answer means."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.models.listing import list_models
from helexa.neuron.models.supply import failure, journal
from helexa.neuron.models.supply.choice import choose, is_safe
from helexa.neuron.models.supply.failure import SourceFailed
from helexa.neuron.models.supply.meter import Meter
from helexa.neuron.models.supply.names import targets
from helexa.neuron.models.supply.piece import (
    FILE_BYTES_MAX,
    PIECE_BYTES,
    PIECES_MAX,
    Layout,
    content_key,
    origin_key,
)
from helexa.neuron.models.supply.web import Token, check_url, followed, origin_of
from helexa.protocol.ids import ModelId

REPO = [
    "README.md",
    "m-Q4_K_M.gguf",
    "m-Q4_K_S.gguf",
    "m-UD-Q4_K_M.gguf",
    "BF16/m-BF16-00001-of-00002.gguf",
    "BF16/m-BF16-00002-of-00002.gguf",
    "m-Q8_0.gguf",
]


@pytest.mark.parametrize(
    ("quantisation", "weights"),
    [
        ("", ("m-Q4_K_M.gguf",)),
        ("Q4_K_M", ("m-Q4_K_M.gguf",)),
        ("ud-q4_k_m", ("m-UD-Q4_K_M.gguf",)),
        ("bf16", ("BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf")),
        ("Q8_0", ("m-Q8_0.gguf",)),
    ],
)
def test_a_variant_is_found_by_its_whole_word(quantisation: str, weights: tuple[str, ...]) -> None:
    assert choose(REPO, quantisation=quantisation).weights == weights


@pytest.mark.parametrize(
    ("names", "wanted", "quantisation", "reason"),
    [
        (REPO, (), "Q4_K", "it has no Q4_K; there is"),
        (["a-odd.gguf", "b-odd.gguf"], (), "", "2 models would do: a-odd.gguf, b-odd.gguf"),
        (["a-Q8_0.gguf", "b-Q8_0.gguf"], (), "Q8_0", "2 models would do"),
        (["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"], (), "", "lacks m-00002-of-00003"),
        (REPO, ("nope.gguf",), "", "no file nope.gguf"),
        (["../x.gguf"], ("../x.gguf",), "", "cannot be called"),
        (["../x.gguf", "/etc/x.gguf", "a\\b.gguf"], (), "", "neither GGUF nor safetensors"),
        (["model.safetensors"], (), "", "without a config.json"),
        (["config.json", "model-00001-of-00002.safetensors"], (), "", "lacks model-00002"),
        (["config.json", "sub/model.safetensors"], (), "", "no weights at its top"),
    ],
)
def test_what_makes_no_model_is_said(
    names: list[str], wanted: tuple[str, ...], quantisation: str, reason: str
) -> None:
    with pytest.raises(SourceFailed, match=reason):
        choose(names, wanted=wanted, quantisation=quantisation)


def test_files_that_are_named_are_taken_whatever_they_are_called() -> None:
    names = ["odd.gguf", "other.gguf", "mmproj-other.gguf"]
    chosen = choose(names, wanted=["odd.gguf", "mmproj-other.gguf"], quantisation="Q4_K_M")
    assert (chosen.weights, chosen.projector) == (("odd.gguf",), "mmproj-other.gguf")


def test_of_safetensors_the_parts_of_the_index_are_taken_with_what_describes_them() -> None:
    parts = [f"model-0000{at}-of-00002.safetensors" for at in (1, 2)]
    rest = ["config.json", "tokenizer.json", "model.safetensors.index.json"]
    names = [*parts, *rest, "consolidated.safetensors", "onnx/model.safetensors", "LICENSE"]
    chosen = choose(names)
    assert chosen.weights == tuple(parts)
    assert sorted(chosen.beside) == sorted(rest)


@pytest.mark.parametrize(
    "model", ["x-00001-of-00002", "team/x.mmproj", "mmproj-x", "team/mmproj-x", "x.gguf"]
)
def test_an_id_that_would_be_read_as_a_part_is_refused(model: str) -> None:
    with pytest.raises(SourceFailed, match="could not be told from a part"):
        targets(ModelId(model), choose(["a.gguf"]))


@given(
    st.from_regex(r"[a-z][a-z0-9._-]{0,8}(/[a-z][a-z0-9._-]{0,8}){0,3}", fullmatch=True).filter(
        lambda name: ".." not in name
    ),
    st.sampled_from(["whole", "parts", "projector", "tensors"]),
)
def test_whatever_is_pulled_is_listed_under_its_own_id(model: str, kind: str) -> None:
    import tempfile
    from pathlib import Path

    names = {
        "whole": ["w.gguf"],
        "parts": [f"w-0000{at}-of-00003.gguf" for at in (1, 2, 3)],
        "projector": ["w.gguf", "mmproj-F16.gguf"],
        "tensors": ["config.json", "model.safetensors", "tokenizer.json"],
    }[kind]
    try:
        found = targets(ModelId(model), choose(names))
    except SourceFailed:
        return
    with tempfile.TemporaryDirectory() as folder:
        for at, target in enumerate(found.values(), 1):
            path = Path(folder) / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
            listed = list(list_models(Path(folder)).models)
            assert listed == ([model] if at == len(found) else []), "seen with the last file"


@given(st.text(string.printable, max_size=30))
def test_a_safe_name_stays_in_its_folder(name: str) -> None:
    import posixpath

    if is_safe(name):
        joined = posixpath.normpath(posixpath.join("/models/x", name))
        assert joined.startswith("/models/x/")


@given(st.integers(0, FILE_BYTES_MAX))
def test_pieces_cover_a_file_without_a_gap(size: int) -> None:
    layout = Layout(key="k", size=size)
    assert layout.count <= PIECES_MAX
    assert layout.piece_bytes >= PIECE_BYTES
    if size:
        assert layout.span(0)[0] == 0
        assert sum(layout.span(layout.count - 1)) == size
        middle = layout.count // 2
        if middle + 1 < layout.count:
            assert sum(layout.span(middle)) == layout.span(middle + 1)[0]
    with pytest.raises(IndexError):
        layout.span(layout.count)


def test_a_key_says_what_the_content_is_or_where_it_was_seen() -> None:
    assert content_key("AB" * 32) == "sha256:" + "ab" * 32
    keys = {
        origin_key("https://a/x", '"1"', 5),
        origin_key("https://a/x", '"2"', 5),
        origin_key("https://a/x", '"1"', 6),
        origin_key("https://b/x", '"1"', 5),
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/x", "only for this machine itself"),
        ("http://127.0.0.1.example.com/x", "only for this machine itself"),
        ("http://10.0.0.1/x", "only for this machine itself"),
        ("https://u:p@example.com/x", "password"),
        ("ftp://example.com/x", "no way to fetch"),
        ("https:///x", "no URL"),
        ("https://example.com/a b", "no URL"),
        ("https://[::1/x", "no URL"),
        ("https://example.com:port/x", "no URL"),
    ],
)
def test_urls_that_are_not_asked(url: str, reason: str) -> None:
    with pytest.raises(SourceFailed, match=reason):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "location", "leads"),
    [
        ("https://a/x", "/y", "https://a/y"),
        ("https://a/x", "//b/y", "https://b/y"),
        ("http://[::1]:8/x", "http://127.0.0.1:9/y", "http://127.0.0.1:9/y"),
        ("http://localhost/x", "https://b/y", "https://b/y"),
        ("https://a/x", "http://127.0.0.1/y", None),
        ("https://a/x", "http://b/y", None),
        ("https://a/x", "file:///etc/passwd", None),
        ("http://127.0.0.1/x", "http://b/y", None),
    ],
)
def test_where_redirects_may_lead(url: str, location: str, leads: str | None) -> None:
    if leads is None:
        with pytest.raises(SourceFailed):
            followed(url, location)
    else:
        assert followed(url, location) == leads


def test_a_token_is_for_one_origin_and_is_not_shown() -> None:
    token = Token(origin_of("https://Hub.example"), "hf_secret")
    assert token.origin == origin_of("https://hub.example:443/api")
    assert token.origin != origin_of("http://hub.example")
    assert token.origin != origin_of("https://hub.example:8443")
    assert "hf_secret" not in repr(token)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("7", 7.0),
        ("999999999", failure.RETRY_AFTER_MOST_S),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("\u0663", None),
    ],
)
def test_how_long_a_server_asks_to_wait(text: str, wait_s: float | None) -> None:
    assert failure.retry_after_s(text, unix=10.0) == wait_s


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 451])
def test_refusals_that_stay_are_final_and_the_rest_are_not(status: int) -> None:
    assert failure.refused(status, {}, "h", with_token=False, unix=0).final
    for passing in (408, 425, 429, 500, 502, 503, 504):
        assert not failure.refused(passing, {}, "h", with_token=False, unix=0).final


def test_a_meter_knows_the_rate_of_the_last_seconds_and_a_stall_lowers_it() -> None:
    meter = Meter()
    assert meter.eta_s(0.0, 100) is None
    for second in range(40):
        meter.note(float(second), 10 * second if second < 20 else 200 + 50 * (second - 20))
    assert meter.per_s(39.0) == pytest.approx(50.0, rel=0.05)
    assert meter.eta_s(39.0, 100) == pytest.approx(2.0, rel=0.05)
    assert meter.per_s(60.0) < 25
    assert meter.eta_s(60.0, 0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12), st.data())
def test_a_journal_cut_anywhere_is_the_lines_before_the_cut(
    events: list[tuple[int, bool]], data: st.DataObject
) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        journal.begun(
            path, journal.Heading(key="k", size=5 * PIECE_BYTES, model=ModelId("m"), name="n")
        )
        expected: list[dict[int, journal.Entry]] = [{}]
        ends = [path.stat().st_size]
        for index, is_loss in events:
            now = dict(expected[-1])
            if is_loss:
                now.pop(index, None)
                journal.note_loss(path, index)
            else:
                now[index] = journal.Entry(bytes([index]) * 32, f"n{index}")
                journal.note(path, index, now[index])
            expected.append(now)
            ends.append(path.stat().st_size)
        whole = path.read_bytes()
        cut = data.draw(st.integers(ends[0], len(whole)))
        path.write_bytes(whole[:cut])
        found = journal.read(path)
        assert found is not None
        lines = max(at for at, end in enumerate(ends) if end <= cut)
        assert found.entries == expected[lines]
        journal.repair(path, found)
        assert path.stat().st_size == ends[lines]


@given(st.binary(max_size=300))
def test_a_journal_of_any_bytes_is_read_or_is_none(data: bytes) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        journal.begun(path, journal.Heading(key="k", size=9, model=ModelId("m"), name="n"))
        path.write_bytes(path.read_bytes() + data)
        found = journal.read(path)
        assert found is not None
        assert set(found.entries) <= {0}
        path.write_bytes(data)
        assert journal.read(path) is None
