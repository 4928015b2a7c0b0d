"""What is measured: each target as its makers would run it, with its key check on.

Peers live in virtual environments of their own (`python -m benchmarks --install`),
so that nothing of theirs reaches the project's.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import free_port, running, wait_for_port

ROOT = Path(__file__).parent.parent
KEY = "sk-bench-0123456789abcdef"


@dataclass
class Running:
    """A target that answers on `port`; `pid` is the root of its process tree."""

    name: str
    version: str
    port: int
    key: str
    pid: int


class Target(Protocol):
    name: str

    def missing(self) -> str:
        """Empty when it can be measured, else what to install."""
        ...

    def start(self, upstream: int, scratch: Path) -> contextlib.AbstractContextManager[Running]: ...


class Interpreted:
    """The composed gateway: key check, fleet view, scheduler, admission, metrics."""

    name = "helexa, interpreted"

    def missing(self) -> str:
        return ""

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": ""}

    @contextlib.contextmanager
    def start(self, upstream: int, scratch: Path) -> Iterator[Running]:
        port, log = free_port(), scratch / f"{self.name}.log"
        argv = [sys.executable, "-m", "benchmarks.hop", str(port), str(upstream)]
        with running(argv, log, env=self.environment(), cwd=ROOT) as process:
            wait_for_port(port, process, log)
            while not (lines := log.read_text().splitlines()):
                time.sleep(0.05)
            from helexa import __version__

            yield Running(self.name, __version__, port, lines[-1], process.pid)


class Helexa(Interpreted):
    """The same, as `make compile` makes it."""

    name = "helexa"

    def environment(self) -> dict[str, str]:
        script = ROOT / "scripts/compile"
        done = subprocess.run([script], stdout=subprocess.PIPE, text=True, check=True)
        return {"PYTHONPATH": done.stdout.strip()}


class SglangRouter:
    """The Rust router of SGLang, with its own defaults: cache-aware policy, retries, metrics."""

    name = "sglang-router"
    venv = ROOT / ".venv-bench-sglang-router"
    packages = ("sglang-router==0.3.2",)

    def missing(self) -> str:
        return _missing_venv(self.venv)

    @contextlib.contextmanager
    def start(self, upstream: int, scratch: Path) -> Iterator[Running]:
        port, log = free_port(), scratch / "sglang-router.log"
        argv = [
            str(self.venv / "bin/python"), "-m", "sglang_router.launch_router",
            "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port()),
            "--worker-urls", f"http://127.0.0.1:{upstream}",
            "--api-key", KEY, "--log-level", "error",
        ]  # fmt: skip
        with running(argv, log, cwd=scratch) as process:
            wait_for_port(port, process, log)
            version = _version(self.venv, "sglang-router")
            yield Running(self.name, version, port, KEY, process.pid)


class LiteLLM:
    """The Python proxy, one worker, without a database, logging off."""

    name = "litellm"
    venv = ROOT / ".venv-bench-litellm"
    packages = ("litellm[proxy]",)

    def missing(self) -> str:
        return _missing_venv(self.venv)

    @contextlib.contextmanager
    def start(self, upstream: int, scratch: Path) -> Iterator[Running]:
        port, log = free_port(), scratch / "litellm.log"
        config = {
            "model_list": [
                {
                    "model_name": "m",
                    "litellm_params": {
                        "model": "openai/m",
                        "api_base": f"http://127.0.0.1:{upstream}/v1",
                        "api_key": "none",
                    },
                }
            ],
            "general_settings": {"master_key": KEY, "disable_spend_logs": True},
            "litellm_settings": {"set_verbose": False, "num_retries": 0},
        }
        # JSON is YAML.
        path = scratch / "litellm.yaml"
        path.write_text(json.dumps(config))
        argv = [
            str(self.venv / "bin/litellm"), "--config", str(path),
            "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1",
        ]  # fmt: skip
        env = {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DONT_SHOW_FEEDBACK_BOX": "True",
            "DO_NOT_TRACK": "1",
        }
        with running(argv, log, env=env, cwd=scratch) as process:
            wait_for_port(port, process, log)
            yield Running(self.name, _version(self.venv, "litellm"), port, KEY, process.pid)


class Nginx:
    """One worker that only passes on: no key, no JSON. The floor that the kernel sets."""

    name = "nginx"

    def missing(self) -> str:
        return "" if shutil.which("nginx") else "nginx (Debian: apt-get install nginx-light)"

    @contextlib.contextmanager
    def start(self, upstream: int, scratch: Path) -> Iterator[Running]:
        port, log = free_port(), scratch / "nginx.log"
        config = scratch / "nginx.conf"
        config.write_text(
            f"""daemon off; worker_processes 1; pid {scratch}/nginx.pid; error_log {log} error;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 0; client_body_buffer_size 1m;
  client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    keepalive_requests 100000000;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
        )
        nginx = shutil.which("nginx") or "nginx"
        shown = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
        argv = [nginx, "-e", str(log), "-c", str(config)]
        with running(argv, scratch / "nginx.out", cwd=scratch) as process:
            wait_for_port(port, process, scratch / "nginx.out")
            yield Running(self.name, shown.strip().rpartition("/")[2], port, KEY, process.pid)


TARGETS: tuple[Target, ...] = (Helexa(), Interpreted(), SglangRouter(), LiteLLM(), Nginx())


def install() -> None:
    """Make the peers' virtual environments."""
    for peer in (SglangRouter(), LiteLLM()):
        if not peer.missing():
            continue
        subprocess.run([sys.executable, "-m", "venv", str(peer.venv)], check=True)
        python = str(peer.venv / "bin/python")
        subprocess.run([python, "-m", "pip", "install", "-q", *peer.packages], check=True)


def _missing_venv(venv: Path) -> str:
    return "" if (venv / "bin/python").exists() else f"{venv.name} (python -m benchmarks --install)"


def _version(venv: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run(
        [str(venv / "bin/python"), "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
