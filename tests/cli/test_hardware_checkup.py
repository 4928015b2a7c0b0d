"""What the doctor says of devices, and of who would use them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helexa.cli import hardware_checkup
from helexa.cli.finding import Finding
from helexa.config import Config, load
from helexa.neuron import hardware
from helexa.neuron.hardware._found import Found
from helexa.neuron.supervisor import sandbox
from helexa.protocol.work import Device


def configured(tmp_path: Path, text: str = "") -> Config:
    file = tmp_path / "helexa.toml"
    file.write_text(text)
    return load({"home": ("--home", str(tmp_path / "home"))}, {}, file=file)


def said(findings: list[Finding], about: str) -> list[str]:
    return [one.what for one in findings if one.about == about]


def test_a_machine_without_devices_says_so(tmp_path: Path) -> None:
    findings = hardware_checkup.of_hardware(configured(tmp_path), tmp_path)
    assert said(findings, "device") == ["none; models run on the processor"]
    assert "llama_cpp: on the processor; this build uses no device" in said(findings, "runtime")
    assert said(findings, "sandbox") == ["none"]


def test_a_driver_without_devices_is_a_warning_with_what_helps(tmp_path: Path) -> None:
    (tmp_path / "sys/module/amdgpu").mkdir(parents=True)
    findings = hardware_checkup.of_hardware(configured(tmp_path), tmp_path)
    (warning,) = [one for one in findings if one.level == "warning"]
    assert "driver of amd is loaded" in warning.what
    assert warning.fix


def test_each_device_is_described_and_who_would_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Device(
        index=0,
        vendor="nvidia",
        name="H100",
        memory_bytes=80 << 30,
        memory_free_bytes=79 << 30,
        compute="9.0",
        driver="570.1",
        uuid="GPU-1",
    )
    probed = hardware._probed
    monkeypatch.setattr(
        hardware,
        "_probed",
        lambda name, root: Found(devices=(gpu,)) if name == "nvidia" else probed(name, root),
    )
    text = f'[neuron.runtimes.llama_cpp]\nprogram = "{sys.executable}"\n'
    findings = hardware_checkup.of_hardware(configured(tmp_path, text), tmp_path)
    assert said(findings, "device") == [
        "nvidia 0: H100, 79.0 GiB free of 80.0 GiB, compute 9.0, driver 570.1, GPU-1"
    ]
    assert "llama_cpp: on 1 or more of the devices 0" in said(findings, "runtime")


def test_a_sandbox_that_cannot_be_had_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(kind: str) -> None:
        raise sandbox.SandboxUnusable(f"no {kind} here")

    monkeypatch.setattr(sandbox, "check", fails)
    config = configured(tmp_path, '[neuron]\nsandbox = "bubblewrap"\n')
    findings = hardware_checkup.of_hardware(config, tmp_path)
    (error,) = [one for one in findings if one.level == "error"]
    assert error.what == "no bubblewrap here"


def test_a_runtime_that_cannot_run_here_is_not_ok(tmp_path: Path) -> None:
    text = f"""
[neuron.runtimes.transformers]
python = "/nonexistent/python"
[neuron.runtimes.vllm]
program = "{sys.executable}"
"""
    findings = hardware_checkup.of_hardware(configured(tmp_path, text), tmp_path)
    found = {one.what.partition(":")[0]: one for one in findings if one.about == "runtime"}
    assert found["transformers"].level == "error"
    assert "/nonexistent/python does not exist" in found["transformers"].what
    assert (found["vllm"].level, "nowhere here" in found["vllm"].what) == ("warning", True)
    assert found["openai_compatible"].what.endswith("where each of [neuron.servers] is")
