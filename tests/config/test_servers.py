"""Servers that are none are refused before a neuron starts, with file and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.meta.sources import ROOT

from helexa.config import ConfigRefused, load
from helexa.runtime import offers


def refused(tmp_path: Path, text: str, role: str = "neuron") -> str:
    file = tmp_path / "helexa.toml"
    file.write_text(text)
    with pytest.raises(ConfigRefused) as refusal:
        load({}, {}, file=file, roles=(role,))
    return str(refusal.value)


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ('[neuron.servers.a]\nslots = 3', 1, "needs a url"),
        ('[neuron.servers.a]', 1, "needs a url"),
        ('[neuron.servers.a]\nurl = "http://h/v1"\ncommand = ["x", "{port}"]', 3, "beside a url"),
        ('[neuron.servers.a]\n\nurl = "http://h:x/v1"', 3, "no URL"),
        ('[neuron.servers.a]\nurl = "ftp://h/v1"', 2, "https://"),
        ('[neuron.servers.a]\nurl = "http://me:pw@h/v1"', 2, "key_file"),
        ('[neuron.servers.a]\nurl = "http://h/v1/chat/completions"', 2, "up to before"),
        ('[neuron.servers.a]\nurl = "http://h/v1"\nkey_file = "none"', 3, "cannot be read"),
        ('[neuron.servers.a]\nurl = "http://h/v1"\nkey_file = "empty"', 3, "is empty"),
        ('[neuron.servers.a]\nurl = "http://h/v1"\nmodels = { "a b" = "c" }', 3, "cannot name"),
        ('[neuron.servers.a]\nurl = "http://h/v1"\noffers = ["magic"]', 3, "no ability"),
        ('[neuron.servers.a]\ncommand = ["x", "{prot}"]', 2, "{prot} is not known"),
        ('[neuron.servers.a]\ncommand = ["x"]', 2, "neither {port} nor {socket}"),
        ('[neuron.servers.a]\ncommand = ["x", "{port}"]\nenvironment = { K = "{scret}" }', 2,
         "{scret} is not known"),
        ('[neuron.servers.a]\ncommand = ["x", "{port}", "{weights}"]\nmodels = { a = "b" }', 3,
         "{weights}"),
        ('[neuron.models.m]\nserver = "a"', 2, "no server is named 'a'"),
        ('[neuron.models.m]\nserver = "a"\n[neuron.servers.a]\nurl = "http://h/v1"', 2,
         "has a url"),
    ],
)  # fmt: skip
def test_what_is_no_server_is_refused_with_its_line(
    tmp_path: Path, lines: str, line: int, words: str
) -> None:
    (tmp_path / "empty").touch()
    text = refused(tmp_path, lines)
    assert f"helexa.toml:{line}:" in text
    assert words in text
    assert len(text.splitlines()) == 1


def test_it_holds_for_up_and_not_for_a_cortex(tmp_path: Path) -> None:
    text = "[neuron.servers.a]\nslots = 3"
    assert "needs a url" in refused(tmp_path, text, "up")
    load({}, {}, file=tmp_path / "helexa.toml", roles=("cortex",))


def test_servers_that_are_some_are_taken(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    file = tmp_path / "helexa.toml"
    file.write_text(
        '[neuron.models.m]\nserver = "sglang"\n'
        '[neuron.servers.sglang]\ncommand = ["x", "{weights}", "{port}"]\n'
        '[neuron.servers.cloud]\nurl = "https://h/v1"\nkey_file = "key"\n'
        'models = { "small" = "org/model:tag" }\n'
    )
    servers = load({}, {}, file=file, roles=("neuron",)).neuron.servers
    assert servers["cloud"].key_file == tmp_path / "key"
    assert servers["cloud"].models == {"small": "org/model:tag"}
    assert servers["sglang"].ready_within_s is None


def test_the_examples_of_the_page_are_taken(tmp_path: Path) -> None:
    page = (ROOT / "docs/runtimes/openai_compatible.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 10
    for name in ("llama", "vllm", "cloud", "friends"):
        (tmp_path / f"{name}.key").write_text("k")
    file = tmp_path / "helexa.toml"
    assert not [word for word in offers.WORDS if f"`{word}`" not in page]
    for block in blocks:
        alone = "[neuron.servers.ollama.models]" in block
        file.write_text(
            f'[neuron.servers.ollama]\nurl = "http://h/v1"\n{block}' if alone else block
        )
        assert load({}, {}, file=file, roles=("neuron",)).neuron.servers


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("n_batch", "'n_batch' is not NAME=VALUE"),
        ("n_ubatch=x", "llama_cpp: n_ubatch is a whole number from 16 to 8192, not 'x'"),
        ("n_ubtch=1", "no runtime takes 'n_ubtch'; did you mean n_ubatch?"),
    ],
)
def test_an_argument_is_refused_in_the_words_of_those_that_take_it(
    tmp_path: Path, argument: str, said: str
) -> None:
    text = refused(tmp_path, f'[neuron.models.m]\narguments = ["{argument}"]')
    assert text.endswith(
        f"helexa.toml:2: neuron.models.m.arguments: {said}; accepted: a list, each NAME=VALUE"
    )


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ('[neuron.runtimes.vllm]\npython = "/nonexistent/python"', 2, "python does not exist"),
        ('[neuron.runtimes.vllm]\nprogram = "empty"', 2, "no program that this user may run"),
        ('[neuron.runtimes.vllm]\nprogram = "/usr"', 2, "no program that this user may run"),
        ('[neuron.runtimes.transformers]\nprogram = "/bin/sh"', 2, "transformers takes none"),
        ('[neuron.models.m]\ndevices = [0]\ndevice_count = 3', 3, "is 3, and devices names 1"),
        ('[neuron]\n\nsandbox = "systemd"', 3, "systemd"),
        ('[neuron.servers.a]\nurl = "http://h/v1"\nkey_file = "words"', 3, "one word is expected"),
    ],
)  # fmt: skip
def test_what_is_no_engine_no_place_and_no_key_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, line: int, words: str
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "words").write_text("not a key")
    monkeypatch.setenv("PATH", str(tmp_path))
    text = refused(tmp_path, lines)
    assert f"helexa.toml:{line}:" in text
    assert words in text
    assert len(text.splitlines()) == 1
