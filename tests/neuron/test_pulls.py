"""Pulls from a hub and a web server as they are asked for, go on, fail, and are gone again."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSListener
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.neuron.supplies import is_here, noise, secret_file, supplied, tiny

from helexa.neuron.models.listing import list_models
from helexa.neuron.models.supply import origin
from helexa.neuron.models.supply.piece import PIECE_BYTES
from helexa.neuron.models.supply.records import Stage
from helexa.protocol.errors import Busy, ModelLoading, ModelUnknown, NoCapacity, RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import SourceFile
from helexa.protocol.work import ModelState
from helexa.testing.hub import Fault, Hub
from helexa.util.background import background
from helexa.util.backoff import Backoff
from helexa.util.home import HomeUnusable

W, X = ModelId("w"), ModelId("x")

pytestmark = pytest.mark.anyio


async def test_a_repository_becomes_a_model_of_its_catalogue_name(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    async with Hub.running() as hub:
        hub.repo("org/tiny-GGUF").commit({"tiny-Q4_K_M.gguf": data, "README.md": b"read me"})
        async with supplied(tmp_path / "models", hub.url) as supply:
            assert is_here(await supply.pull("team/tiny", "hf:org/tiny-GGUF"))
            assert supply.listed == ["team/tiny"]
            assert (supply.folder / "team/tiny.gguf").read_bytes() == data
            assert hub.sent == {"tiny-Q4_K_M.gguf": len(data)}
            assert supply.leftovers() == []


async def test_many_who_ask_get_one_pull(tmp_path: Path) -> None:
    data = noise(3)
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        async with supplied(tmp_path / "models") as supply, anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(supply.pull, "w", hub.plain_url("w.gguf"))
        assert hub.sent["w.gguf"] == len(data) + 1, "and one byte to ask how long it is"


async def test_a_pull_that_goes_on_is_seen_as_that_and_not_as_missing(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.repo("org/big").commit({"big.gguf": noise(4)})
        hub.mood.faults.append(Fault(path="sig=", times=99, stall_after=1000))
        async with supplied(tmp_path / "models", hub.url) as supply:
            await supply.start("big", "hf:org/big", pin=True)
            await supply.until(lambda: supply.pulls.of_model(ModelId("big")))
            (told,) = supply.pulls.progress()
            assert told.progress.bytes_total == len(noise(4))
            said = supply.standing()["big"]
            assert said.state is ModelState.DOWNLOADING
            assert (said.source, said.pinned) == ("hf:org/big", True)
            assert (await supply.start("big", "hf:org/big", pin=False)) is True
            assert supply.standing()["big"].pinned is False
            with pytest.raises(RequestRejected, match="from elsewhere"):
                await supply.start("big", "hf:org/other")
            await supply.pulls.cancel(ModelId("big"))
            record = await supply.settled("big")
            assert record.stage is Stage.STOPPED
            assert supply.standing() == {}


async def test_what_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    data = noise(4)
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        hub.mood.faults += [Fault(path="w.gguf", times=1), Fault(path="w.gguf", times=2)]
        hub.mood.faults.append(Fault(path="w.gguf", times=99, stall_after=100))
        async with supplied(tmp_path / "models", pull_connections=1) as supply:
            await supply.start("w", hub.plain_url("w.gguf"))
            (store,) = await supply.until(lambda: supply.pulls.of_model(W))
            got_two = anyio.Event()
            with store.observe(lambda _: got_two.set() if store.have_count == 2 else None):
                if store.have_count < 2:
                    await got_two.wait()
            await supply.pulls.cancel(W)
            hub.mood.faults.clear()
            before = hub.sent["w.gguf"]
            assert is_here(await supply.pull("w", hub.plain_url("w.gguf")))
            assert hub.sent["w.gguf"] - before == 2 * PIECE_BYTES + 1


async def test_a_branch_that_moves_while_it_is_pulled_does_not_mix_two_commits(
    tmp_path: Path,
) -> None:
    async with Hub.running() as hub:
        repo = hub.repo("org/x")
        first = {f"x-0000{at}-of-00002.gguf": noise(1.5, seed=at) for at in (1, 2)}
        commit = repo.commit(first)
        hub.mood.faults.append(Fault(path="sig=", times=1, stall_after=10))
        async with supplied(tmp_path / "models", hub.url, pull_stall_s=0.5) as supply:
            await supply.start("x", "hf:org/x")
            await supply.until(lambda: supply.pulls.of_model(X))
            repo.commit({name: noise(1.5, seed=9) for name in first})
            record = await supply.settled("x")
            assert is_here(record)
            assert record.found is not None
            assert record.found.revision == commit
            for at, data in enumerate(first.values(), 1):
                assert (supply.folder / f"x-0000{at}-of-00002.gguf").read_bytes() == data


async def test_the_token_goes_to_the_hub_and_not_behind_its_redirects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with Hub.running() as hub:
        hub.repo("org/secret").commit({"s.gguf": tiny(tmp_path), "config.json": b"{}"})
        hub.repo("org/secret").private = True
        hub.mood.token = "hf_secret"
        token = secret_file(tmp_path / "token", "hf_secret\n")
        async with supplied(tmp_path / "models", hub.url, hub_token_file=token) as supply:
            assert is_here(await supply.pull("s", "hf:org/secret"))
            hub.plain["p.gguf"] = tiny(tmp_path, seed=2)
            assert is_here(await supply.pull("p", hub.plain_url("p.gguf")))
        assert hub.leaked == []
        assert "sig=" not in caplog.text
        assert "hf_secret" not in caplog.text
        to_hub = [one for one in hub.requests if "/api/" in one.path or "/resolve/" in one.path]
        assert all(one.headers["authorization"] == "Bearer hf_secret" for one in to_hub)
        plain = [one for one in hub.requests if "/plain/" in one.path]
        assert plain
        assert not any("authorization" in one.headers for one in plain)


@pytest.mark.parametrize(
    ("prepare", "source", "reason"),
    [
        ("gated", "hf:org/x", "accepted its terms"),
        ("private", "hf:org/x", "no such repository, or shows it not with no token"),
        ("", "hf:org/nothing", "no such repository"),
        ("", "hf:org/x@v9", "no such revision"),
        ("", "hf:org", "names no repository"),
        ("", "hf:org/x@../../etc", "names no revision"),
        ("", "https+weird:x", "names no source"),
        ("", "http://example.com/x.gguf", "only for this machine itself"),
        ("", "https://user:pass@example.com/x.gguf", "password"),
        ("", "PLAIN/none.gguf", "nothing there"),
        ("", "PLAIN/page.html", "neither GGUF nor safetensors"),
        ("", "peer:", "declared with their SHA-256"),
        ("empty", "hf:org/x", "neither GGUF nor safetensors"),
    ],
)
async def test_a_pull_that_cannot_be_says_why(
    tmp_path: Path, prepare: str, source: str, reason: str
) -> None:
    async with Hub.running() as hub:
        repo = hub.repo("org/x")
        repo.commit({"README.md": b"x"} if prepare == "empty" else {"x.gguf": tiny(tmp_path)})
        repo.gated, repo.private = prepare == "gated", prepare == "private"
        hub.mood.token = "right"
        hub.plain["page.html"] = b"<html>"
        async with supplied(tmp_path / "models", hub.url) as supply:
            await supply.pull("x", source.replace("PLAIN", hub.url + "/plain"))
            said = supply.standing()["x"]
            assert said.state is ModelState.FAILED
            assert reason in said.reason
            assert supply.listed == []
        assert hub.sent.total() == 0


async def test_a_wrong_token_is_told_apart_from_none(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.repo("org/x").commit({"x.gguf": tiny(tmp_path)})
        hub.mood.token = "right"
        token = secret_file(tmp_path / "token", "wrong")
        async with supplied(tmp_path / "models", hub.url, hub_token_file=token) as supply:
            record = await supply.pull("x", "hf:org/x")
            assert "the token of neuron.hub_token_file" in record.reason
            assert "wrong" not in record.reason


async def test_a_token_file_that_others_may_read_stops_the_start(tmp_path: Path) -> None:
    token = secret_file(tmp_path / "token", "x", mode=0o644)
    with pytest.raises(HomeUnusable, match="chmod 600"):
        async with supplied(tmp_path / "models", hub_token_file=token):
            raise AssertionError("started")


async def test_a_redirect_from_loopback_to_a_stranger_over_plain_http_is_not_followed(
    tmp_path: Path,
) -> None:
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = tiny(tmp_path)
        away = (("location", "http://192.0.2.1/w.gguf"),)
        hub.mood.faults.append(Fault(path="w.gguf", status=302, headers=away))
        async with supplied(tmp_path / "models") as supply:
            record = await supply.pull("w", hub.plain_url("w.gguf"))
            assert "only for this machine itself, and 192.0.2.1 is not" in record.reason


async def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        again = (("location", "/plain/w.gguf"),)
        hub.mood.faults.append(Fault(path="w.gguf", times=99, status=307, headers=again))
        async with supplied(tmp_path / "models") as supply:
            record = await supply.pull("w", hub.plain_url("w.gguf"))
            assert "in a circle" in record.reason


TROUBLES = {
    "too many requests": Fault(path="sig=", times=3, status=429, headers=(("retry-after", "0"),)),
    "trouble inside": Fault(path="sig=", times=2, status=503),
    "trouble at the hub": Fault(path="/api/", times=2, status=500),
    "cut off": Fault(path="sig=", times=4, truncate_after=100_000),
    "silent": Fault(path="sig=", times=2, stall_after=100_000),
    "silent from the start": Fault(path="sig=", times=1, stall_after=0),
    "an expired signature": Fault(path="sig=", times=1, status=403),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_trouble_that_passes_costs_no_piece_that_was_there(
    tmp_path: Path, trouble: str
) -> None:
    data = noise(3)
    async with Hub.running() as hub:
        hub.repo("org/x").commit({"x.gguf": data})
        async with supplied(
            tmp_path / "models", hub.url, pull_stall_s=0.5, pull_connections=2
        ) as supply:
            fault = TROUBLES[trouble]
            hub.mood.faults.append(replace(fault))
            assert is_here(await supply.pull("x", "hf:org/x"))
            assert (supply.folder / "x.gguf").read_bytes() == data
            # What a cut connection brought counts; of a silent one too.
            assert hub.sent["x.gguf"] == len(data)


async def test_trouble_that_stays_is_a_failure_and_what_arrived_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "BACKOFF", Backoff(first_s=0.001, most_s=0.001))
    data = noise(3)
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        good = Fault(path="w.gguf", times=3)
        hub.mood.faults += [good, Fault(path="w.gguf", times=99, status=500)]
        async with supplied(tmp_path / "models", pull_connections=1) as supply:
            record = await supply.pull("w", hub.plain_url("w.gguf"))
            assert record.stage is Stage.FAILED
            assert "has trouble (HTTP 500)" in record.reason
            with pytest.raises(NoCapacity, match=r"could not be downloaded\.$"):
                raise supply.absence("w")
            hub.mood.faults.clear()
            before = hub.sent["w.gguf"]
            assert is_here(await supply.pull("w", hub.plain_url("w.gguf")))
            assert hub.sent["w.gguf"] - before == PIECE_BYTES + 1


async def test_signatures_that_are_good_once_are_asked_for_again(tmp_path: Path) -> None:
    data = noise(5)
    async with Hub.running() as hub:
        hub.repo("org/x").commit({"x.gguf": data})
        hub.mood.cdn_tokens_expire = True
        async with supplied(tmp_path / "models", hub.url) as supply:
            assert is_here(await supply.pull("x", "hf:org/x"))
            assert hub.sent["x.gguf"] == len(data)


async def test_content_that_is_not_what_was_declared_fails_and_is_gone(tmp_path: Path) -> None:
    data = noise(2)
    async with Hub.running() as hub:
        hub.repo("org/x").commit({"x.gguf": data})
        hub.mood.faults.append(Fault(path="sig=", times=99, corrupt_at=5_000_000))
        async with supplied(tmp_path / "models", hub.url) as supply:
            record = await supply.pull("x", "hf:org/x")
            assert record.stage is Stage.FAILED
            assert "SHA-256" in record.reason
            assert supply.leftovers() == []
            assert not (supply.folder / "x.gguf").exists()
            hub.mood.faults.clear()
            assert is_here(await supply.pull("x", "hf:org/x"))
            assert hub.sent["x.gguf"] == 2 * len(data)


async def test_a_small_file_is_held_to_the_hash_that_git_has_of_it(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": noise(0.1)}
        hub.repo("org/x").commit(files)
        hub.mood.faults.append(Fault(path="config.json", times=99, corrupt_at=3))
        async with supplied(tmp_path / "models", hub.url) as supply:
            record = await supply.pull("x", "hf:org/x")
            assert "git's hash" in record.reason
            assert not (supply.folder / "x").exists()


@pytest.mark.parametrize("wrong", ["sha256", "size"])
async def test_what_the_catalogue_declares_is_held_against_the_hub_before_a_byte_is_fetched(
    tmp_path: Path, wrong: str
) -> None:
    async with Hub.running() as hub:
        hub.repo("org/x").commit({"x.gguf": tiny(tmp_path)})
        declared = {"sha256": "a" * 64} if wrong == "sha256" else {"size": 5}
        async with supplied(tmp_path / "models", hub.url) as supply:
            record = await supply.pull(
                "x", "hf:org/x", files=(SourceFile(name="x.gguf", **declared),)
            )
            assert "was declared with" in record.reason
        assert hub.sent.total() == 0


async def test_a_plain_file_with_a_declared_digest_is_held_to_it(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        async with supplied(tmp_path / "models") as supply:
            for sha256 in ("b" * 64, hashlib.sha256(data).hexdigest()):
                files = (SourceFile(name="w.gguf", sha256=sha256),)
                last = await supply.pull("w", hub.plain_url("w.gguf"), files=files)
            assert is_here(last)


async def test_a_file_that_changes_midway_is_begun_anew(tmp_path: Path) -> None:
    old, new = noise(4, seed=1), noise(3, seed=2)
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = old
        async with supplied(tmp_path / "models", pull_connections=1) as supply:
            await supply.start("w", hub.plain_url("w.gguf"))
            (store,) = await supply.until(lambda: supply.pulls.of_model(W))
            with store.observe(lambda _: hub.plain.update({"w.gguf": new})):
                record = await supply.settled("w")
            assert is_here(record)
            assert (supply.folder / "w.gguf").read_bytes() == new


async def test_a_server_without_ranges_is_read_once_from_end_to_end(tmp_path: Path) -> None:
    data = noise(3.5)
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        hub.mood.ranges = False
        hub.mood.faults.append(Fault(path="w.gguf", truncate_after=10))  # The question.
        hub.mood.faults.append(Fault(path="w.gguf", truncate_after=6_000_000))
        async with supplied(tmp_path / "models") as supply:
            assert is_here(await supply.pull("w", hub.plain_url("w.gguf")))
            assert (supply.folder / "w.gguf").read_bytes() == data
            assert hub.sent["w.gguf"] == 10 + 6_000_000 + len(data)


async def test_a_server_that_does_not_say_how_long_the_file_is_is_refused(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = tiny(tmp_path)
        hub.mood.ranges = hub.mood.lengths = False
        async with supplied(tmp_path / "models") as supply:
            record = await supply.pull("w", hub.plain_url("w.gguf"))
            assert "does not say how long the file is" in record.reason


async def test_parts_and_projector_are_named_so_that_the_folder_lists_one_model(
    tmp_path: Path,
) -> None:
    files = {
        "Q8_0/m-Q8_0-00001-of-00002.gguf": tiny(tmp_path, seed=1),
        "Q8_0/m-Q8_0-00002-of-00002.gguf": tiny(tmp_path, seed=2),
        "m-Q4_K_M.gguf": tiny(tmp_path, seed=3),
        "mmproj-m-F16.gguf": tiny(tmp_path, seed=4),
        "mmproj-m-F32.gguf": tiny(tmp_path, seed=5),
    }
    async with Hub.running() as hub:
        hub.repo("org/m").commit(files)
        async with supplied(tmp_path / "models", hub.url) as supply:
            assert is_here(await supply.pull("big/m", "hf:org/m", quantisation="q8_0"))
            assert is_here(await supply.pull("small", "hf:org/m"))
            assert supply.listed == ["big/m", "small"]
            listed = list_models(supply.folder).models
            assert [part.path.name for part in listed[ModelId("big/m")].parts] == [
                "m-00001-of-00002.gguf",
                "m-00002-of-00002.gguf",
            ]
            projector = listed[ModelId("small")].projector
            assert projector is not None
            assert projector.path.read_bytes() == files["mmproj-m-F16.gguf"]


async def test_a_file_that_somebody_put_there_is_never_replaced(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = tiny(tmp_path)
        folder = tmp_path / "models"
        folder.mkdir()
        (folder / "w.gguf").write_bytes(tiny(tmp_path, seed=9))
        (folder / "broken.gguf").write_bytes(b"mine")
        async with supplied(folder) as supply:
            assert await supply.start("w", hub.plain_url("w.gguf")) is False
            assert await supply.start("broken", hub.plain_url("w.gguf")) is False
            with pytest.raises(RequestRejected, match="put there by somebody"):
                await supply.pulls.remove(W)
        assert (folder / "broken.gguf").read_bytes() == b"mine"
        assert hub.requests == []


async def test_a_file_that_appears_meanwhile_is_not_replaced_either(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = noise(2)
        async with supplied(tmp_path / "models", pull_connections=1) as supply:
            await supply.start("w", hub.plain_url("w.gguf"))
            (store,) = await supply.until(lambda: supply.pulls.of_model(W))
            mine = supply.folder / "w.gguf"
            with store.observe(lambda _: mine.write_bytes(b"mine") and None):
                record = await supply.settled("w")
            assert "appeared in the models folder meanwhile" in record.reason
            assert mine.read_bytes() == b"mine"


async def test_a_removed_model_leaves_nothing_and_a_loaded_one_stays(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = tiny(tmp_path)
        async with supplied(tmp_path / "models") as supply:
            model = ModelId("a/b/w")
            await supply.pull(model, hub.plain_url("w.gguf"))
            supply.in_use.add(model)
            with pytest.raises(Busy, match="is loaded"):
                await supply.pulls.remove(model)
            supply.in_use.clear()
            await supply.pulls.remove(model)
            assert supply.listed == []
            assert [path.name for path in supply.folder.iterdir()] == [".pulls"]
            assert [path.name for path in (supply.folder / ".pulls").iterdir()] == ["lock"]
            with pytest.raises(ModelUnknown):
                await supply.pulls.remove(model)


async def test_a_request_for_a_model_on_its_way_is_told_how_far_it_is(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = noise(2)
        hub.mood.faults.append(Fault(path="w.gguf"))
        hub.mood.faults.append(Fault(path="w.gguf", times=99, stall_after=0))
        async with supplied(tmp_path / "models") as supply:
            await supply.start("w", hub.plain_url("w.gguf"))
            await supply.until(lambda: supply.pulls.of_model(W))
            told = supply.absence("w")
            assert isinstance(told, ModelLoading)
            assert told.progress is not None
            assert told.progress.bytes_total == 2 * PIECE_BYTES


async def test_pulls_beyond_the_bound_wait_in_order(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        for name in "abc":
            hub.plain[f"{name}.gguf"] = tiny(tmp_path, seed=ord(name))
        hub.mood.faults.append(Fault(path="a.gguf", stall_after=0))
        async with supplied(tmp_path / "models", pulls_max=1, pull_stall_s=0.5) as supply:
            for name in "abc":
                await supply.start(name, hub.plain_url(f"{name}.gguf"))
            for name in "abc":
                assert is_here(await supply.settled(name))
        order = [one.path[-6] for one in hub.requests]
        assert order == sorted(order)


async def test_a_signature_in_a_url_is_shown_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = tiny(tmp_path)
        async with supplied(tmp_path / "models") as supply:
            assert is_here(await supply.pull("w", hub.plain_url("w.gguf") + "?key=secret"))
            assert supply.pulls.records()
            kept = supply.folder / ".pulls"
            assert kept.stat().st_mode & 0o077 == 0
            shown = [record.shown_source for record in supply.pulls.records()]
            assert shown == [hub.plain_url("w.gguf")]
        assert "secret" not in caplog.text


async def test_a_server_whose_certificate_nobody_vouches_for_is_not_believed(
    tmp_path: Path,
) -> None:
    async def silent(_stream: object) -> None:
        raise AssertionError("a request was sent to a server that could be anybody")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, background() as tasks:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(TLSListener(listener, self_signed(tmp_path)).serve, silent)
        async with supplied(tmp_path / "models") as supply:
            record = await supply.pull("w", f"https://127.0.0.1:{port}/w.gguf")
            assert record.stage is Stage.FAILED
            assert "is not trusted" in record.reason


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])
    made = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, made, made + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "self-signed.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
