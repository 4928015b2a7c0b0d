"""Four layers, one value each, and a refusal that says where to look."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from helexa.config import Config, ConfigRefused, Layer, load
from helexa.config.catalogue import NAMED_SETTINGS, SETTINGS
from helexa.config.document import FILE_BYTES_MAX
from helexa.util.sockets import Address


def file_with(folder: Path, text: str) -> Path:
    path = folder / "helexa.toml"
    path.write_text(text)
    return path


def refusal(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    file: Path | None = None,
    roles: Collection[str] = (),
) -> list[str]:
    with pytest.raises(ConfigRefused) as refused:
        load(flags or {}, environment or {}, file=file, roles=roles)
    return str(refused.value).splitlines()


def flag(key: str, text: str | list[str]) -> dict[str, tuple[str, str | list[str]]]:
    return {key: (SETTINGS[key].flag or f"--set {key}", text)}


def test_later_layers_win_and_say_so(tmp_path: Path) -> None:
    file = file_with(tmp_path, "[cortex]\nqueue_max = 1\nname = 'file'\nregion = 'file'\n")
    config = load(
        flag("cortex.queue_max", "3"),
        {"HELEXA_CORTEX_QUEUE_MAX": "2", "HELEXA_CORTEX_NAME": "variable"},
        file=file,
    )
    assert (config.cortex.queue_max, config.cortex.name, config.cortex.region) == (
        3,
        "variable",
        "file",
    )
    assert str(config.origin("cortex.queue_max")) == "--set cortex.queue_max"
    assert str(config.origin("cortex.name")) == "HELEXA_CORTEX_NAME"
    assert str(config.origin("cortex.region")) == f"{file}:4"
    assert config.origin("cortex.policy").layer is Layer.DEFAULT


def test_the_seed_sockets_are_read_from_flags() -> None:
    config = load(
        {
            **flag("cortex.orchestrator_socket", "0.0.0.0:8040"),
            **flag("cortex.gateway_socket", "0.0.0.0:8080"),
            **flag("cortex.portal_sockets", ["0.0.0.0:8091", "[::1]:8092"]),
        },
        {},
        roles=("cortex",),
    )
    assert config.cortex.orchestrator_socket == Address("0.0.0.0", 8040)
    assert config.cortex.portal_sockets == (Address("0.0.0.0", 8091), Address("::1", 8092))


def test_each_role_lives_in_its_own_folder_under_home(tmp_path: Path) -> None:
    config = load(flag("home", str(tmp_path)), {})
    assert config.cortex.home == tmp_path / "cortex"
    assert config.neuron.home == tmp_path / "neuron"
    assert config.neuron.models_dir == tmp_path / "models"


@pytest.mark.parametrize(
    ("environment", "home"),
    [
        ({"XDG_DATA_HOME": "/data"}, Path("/data/helexa")),
        ({"XDG_DATA_HOME": "relative/is/ignored"}, Path.home() / ".local/share/helexa"),
        ({}, Path.home() / ".local/share/helexa"),
        ({"HELEXA_HOME": "/elsewhere", "XDG_DATA_HOME": "/data"}, Path("/elsewhere")),
    ],
)
def test_the_default_home_follows_the_xdg_rules(environment: dict[str, str], home: Path) -> None:
    assert load({}, environment).node.home == home


def test_a_relative_folder_starts_where_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    file_with(tmp_path / "etc", "home = 'state'\n")
    monkeypatch.chdir(tmp_path)
    assert load({}, {}, file=Path("etc/helexa.toml")).node.home == tmp_path / "etc" / "state"
    assert load({}, {"HELEXA_HOME": "state"}).node.home == tmp_path / "state"


def test_lists_are_repeated_flags_arrays_or_commas(tmp_path: Path) -> None:
    expected = ("a/b", "c")
    file = file_with(tmp_path, "[neuron]\npreload = ['a/b', 'c']\n")
    for config in (
        load({}, {}, file=file),
        load({}, {"HELEXA_NEURON_PRELOAD": "a/b, c"}),
        load(flag("neuron.preload", ["a/b", "c"]), {}),
    ):
        assert config.neuron.preload == expected


def test_models_have_sections_of_their_own(tmp_path: Path) -> None:
    file = file_with(
        tmp_path,
        "[neuron.models.'team/model-7b.q4']\nslots = 2\ndeterministic = true\n",
    )
    config = load({}, {}, file=file)
    settings = config.neuron.models["team/model-7b.q4"]
    assert (settings.slots, settings.deterministic, settings.context_tokens) == (2, True, None)
    assert str(config.origin("neuron.models.team/model-7b.q4.slots")) == f"{file}:2"


def test_arguments_of_a_runtime_are_checked_where_they_are_written(tmp_path: Path) -> None:
    good = "[neuron.models.m]\nruntime = 'llama_cpp'\narguments = ['n_ubatch=256']\n"
    settings = load({}, {}, file=file_with(tmp_path, good)).neuron.models["m"]
    assert (settings.runtime, settings.arguments) == ("llama_cpp", ("n_ubatch=256",))
    bad = "[neuron.models.m]\nruntime = 'vim'\narguments = ['n_ubatch=1']\n"
    bad += "[neuron.models.n]\narguments = ['log=x']\n"
    with pytest.raises(ConfigRefused) as refused:
        load({}, {}, file=file_with(tmp_path, bad))
    told = str(refused.value)
    for words in ("known are", "from 16 to 8192, not '1'", "no runtime takes 'log'"):
        assert words in told


def test_every_problem_is_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    file = file_with(
        tmp_path,
        "hoem = 'x'\n[cortex]\nqueue_max = -1\ngatway_socket = 'x'\n"
        "[neuron.models.m]\nslots = 'x'\n",
    )
    assert refusal(file=file, environment={"HELEXA_LOG_LEVEL": "loud"}) == [
        f"{file}:1: hoem: is not a setting; did you mean home?",
        f"{file}:4: cortex.gatway_socket: is not a setting; did you mean gateway_socket?",
        (
            "HELEXA_LOG_LEVEL: log_level: 'loud' is not a choice; "
            "accepted: one of debug, info, warning, error"
        ),
        (
            f"{file}:3: cortex.queue_max: -1 is out of range; "
            "accepted: a whole number from 0 to 1000000"
        ),
        (
            f'{file}:6: neuron.models.m.slots: "x" is not a number; '
            "accepted: a whole number from 1 to 256"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[cortex]\nqueue_max = 1.5", ":2: cortex.queue_max: 1.5 is not a whole number"),
        ("[cortex]\nqueue_max = true", ":2: cortex.queue_max: true is not a number"),
        ("[cortex]\nkeepalive_s = nan", ":2: cortex.keepalive_s: nan is out of range"),
        ("[cortex]\nkeepalive_s = 0", "above 0 up to 600"),
        ("[cortex]\nname = 3", ":2: cortex.name: 3 is not a text in quotes"),
        ("[cortex]\nportal_sockets = '0.0.0.0:1'", "is not a list"),
        ("[cortex]\ngateway_socket = '8080'", "is not a socket; write HOST:PORT"),
        ("[cortex]\ngateway_socket = '127.0.0.1:99999'", "a port from 0 to 65535"),
        ("[cortex]\npolicy = 'random'", "'random' is not a choice; accepted: one of"),
        ("[cortex]\nrelays = ['relay']", "'relay' is not a URL"),
        ("[cortex]\nbody_bytes_max = '1 elephant'", "is not a size"),
        ("[cortex]\nheader_bytes_max = '2MiB'", "out of range"),
        ("[cortex]\nmodels_dir = '/x'", "did you mean neuron.models_dir?"),
        ("cortex = 1", ":1: cortex: is a table: write [cortex]"),
        ("[neuron]\ndemo_models = 'yes'", '"yes" is neither true nor false'),
        ("[neuron]\nimage_url_hosts = ['*.a..b']", "'a..b' is not a domain name"),
        ("[neuron]\nimage_url_networks = ['10.0.0.1/8']", "is not a network: 10.0.0.1/8 has host"),
        ("[neuron]\nimage_url_ports = [0]", "0 is out of range"),
        ("[neuron]\nimages_max = -1", "from 0 to 4096"),
        ("[neuron.models.x]\ndimensions = [0]", "0 is out of range"),
        ("[neuron]\nmodels = 1", ":2: neuron.models: is a table of tables"),
        ("[neuron.models]\n'../x' = {}", "cannot name a model"),
        ("[neuron.models]\nx = 1", "write [neuron.models.x]"),
        ("[neuron.models.x]\nsloots = 1", ":2: neuron.models.x.sloots: is not a setting"),
        ("[neuron]\ncortexes = ['helexaxx']", ":2: neuron.cortexes: not a ticket"),
        ("[neuron]\nlabels = { rack = 3 }", "3 is not a text in quotes"),
        ("[neuron]\npreload = ['../x']", "cannot name a model"),
        ("[neuron]\nmodels_dir = ''", "names no folder"),
        ("[mesh]\njoin = ['helexaxx']", ":2: mesh.join: not a ticket"),
        ("[mesh]\ndns = ['a..b']", ":2: mesh.dns: 'a..b' is not a domain name"),
        ("[mesh]\npreset = 'fast'", "accepted: one of wan, lan, loopback"),
        ("[mesh]\ntransports = ['carrier-pigeon']", "'carrier-pigeon' is not a choice"),
        ("[mesh]\ntransports = ['memory']", "'memory' is not a choice"),
        ("[mesh]\nadmission = 'lan'", "one of open, invite, approve, closed"),
        ("[mesh]\nneurons = 'all'", "one of open, lan, invite, approve, closed"),
        ("[mesh]\ndeny = ['abc']", "'abc' is not an id; accepted: a list, each the id of"),
        ("[mesh]\nmembers_max = 1", "from 16 to 65536"),
        ("[mesh]\nlend_to = 'own'", "did you mean federation.lend_to?"),
        ("[federation]\nlend_to = 'denied'", "one of nobody, known, trusted, own"),
        ("[federation]\nlend_classes = ['chat-*']", "'chat-*' matches nothing; accepted: a list"),
        ("[federation]\nlend_models = ['a b']", "'a b' is not a pattern"),
        ("[federation]\nlend_models = ['!!a']", "'!!a' is not a pattern"),
        ("[federation]\nborrow_regions = ['!']", "'!' is not a pattern"),
        ("[federation]\nborrow_price_max = -1", "accepted: a whole number, 0 or more"),
        ("[federation]\nhops_max = 9", "from 0 to 8"),
        ("a = ", "is not TOML"),
        ("a = " + "[" * 20_000, "is not TOML"),
        ("#" * (FILE_BYTES_MAX + 1), "accepted are at most"),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, text: str, words: str) -> None:
    (line,) = refusal(file=file_with(tmp_path, text))
    assert line.startswith(str(tmp_path / "helexa.toml"))
    assert words in line


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (line,) = refusal(environment={"HELEXA_CONFIG": str(tmp_path / "none.toml")})
    assert line == f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "helexa.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not TOML" in refusal(file=path)[0]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HELEXA_CORTEX_QUEUE_MAXX": "1"}, "did you mean HELEXA_CORTEX_QUEUE_MAX?"),
        ({"HELEXA_NONSENSE": "1"}, "HELEXA_NONSENSE: is not a setting's variable"),
        ({"HELEXA_NEURON_DEMO_MODELS": "maybe"}, "'maybe' is neither true nor false"),
        ({"HELEXA_NEURON_LABELS": "rack"}, "'rack' is not KEY=VALUE"),
        ({"HELEXA_NEURON_MEMORY_LIMIT": "-1"}, "is not a size"),
    ],
)  # fmt: skip
def test_what_the_environment_may_not_say(environment: dict[str, str], words: str) -> None:
    (line,) = refusal(environment=environment)
    assert words in line


def test_variables_that_are_not_ours_are_left_alone() -> None:
    assert load({}, {"PATH": "/bin", "HELEXA_DEBUG": "1"}).cortex.queue_max == 1024


def test_values_have_units_where_people_write_them() -> None:
    config = load({}, {"HELEXA_NEURON_MEMORY_LIMIT": "2 GiB", "HELEXA_NEURON_LABELS": "a=1,b=2"})
    assert config.neuron.memory_limit == 2 * 1024**3
    assert config.neuron.labels == {"a": "1", "b": "2"}


def test_a_flag_for_no_setting_is_refused() -> None:
    (line,) = refusal({"cortex.queue": ("--set cortex.queue", "1")})
    assert line == "--set cortex.queue: cortex.queue: is not a setting; did you mean queue_max?"


def test_two_roles_on_one_socket_are_refused(tmp_path: Path) -> None:
    file = file_with(
        tmp_path,
        "[cortex]\ngateway_socket = '0.0.0.0:8080'\nportal_sockets = ['127.0.0.1:8080']\n",
    )
    (line,) = refusal(file=file, roles=("cortex",))
    assert line == (
        f"{file}:3: cortex.portal_sockets: 127.0.0.1:8080 is already taken by "
        f"cortex.gateway_socket ({file}:2); give each its own port"
    )


@pytest.mark.parametrize(
    ("gateway", "portal"),
    [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:8080", "127.0.0.2:8080"),
        ("127.0.0.1:8080", "127.0.0.1:8091"),
    ],
)
def test_sockets_that_do_not_meet_are_accepted(gateway: str, portal: str) -> None:
    config = load(
        {**flag("cortex.gateway_socket", gateway), **flag("cortex.portal_sockets", [portal])},
        {},
        roles=("cortex",),
    )
    assert str(config.cortex.portal_sockets[0]) == portal


def test_conflicts_of_roles_that_do_not_start_do_no_harm() -> None:
    flags = {
        **flag("cortex.gateway_socket", "127.0.0.1:8060"),
        **flag("neuron.api_socket", "127.0.0.1:8060"),
    }
    assert isinstance(load(flags, {}, roles=("cortex",)), Config)
    (line,) = refusal(flags, roles=("cortex", "neuron"))
    assert "neuron.api_socket" in line


def test_a_cortex_that_loses_neurons_between_two_reports_is_refused() -> None:
    (line,) = refusal(flag("cortex.health_every_s", "5"), roles=("cortex",))
    assert "lost_after_s (4) must be above health_every_s (5)" in line


def test_a_cortex_without_room_for_one_body_is_refused() -> None:
    (line,) = refusal(flag("cortex.bodies_bytes_max", "16MiB"), roles=("cortex",))
    assert "cortex.bodies_bytes_max" in line
    assert "must not be below body_bytes_max" in line
    both = {
        **flag("cortex.bodies_bytes_max", "16MiB"),
        **flag("cortex.body_bytes_max", "16MiB"),
    }
    assert isinstance(load(both, {}, roles=("cortex",)), Config)


OTHER = "ab" * 32


def test_mesh_and_federation_become_parts_of_the_cortex_s_settings(tmp_path: Path) -> None:
    file = file_with(
        tmp_path,
        f"[mesh]\nlan = false\nallow = ['{OTHER.upper()}']\n"
        "[federation]\nlend_classes = ['!chat_*', 'embedding']\n",
    )
    config = load(
        flag("mesh.admission", "invite"),
        {"HELEXA_FEDERATION_BORROW_PRICE_MAX": "20", "HELEXA_MESH_DNS": "a.example,b.example."},
        file=file,
        roles=("cortex",),
    )
    mesh, federation = config.cortex.mesh, config.cortex.federation
    assert (mesh.lan, mesh.admission, mesh.allow) == (False, "invite", (OTHER,))
    assert mesh.dns == ("a.example", "b.example")
    assert federation.lend_classes == ("!chat_*", "embedding")
    assert federation.borrow_price_max == 20
    assert str(config.origin("federation.lend_classes")) == f"{file}:5"


def test_neurons_are_kept_off_the_lan_by_a_flag_of_their_own() -> None:
    config = load(flag("neuron.lan", "false"), {})
    assert (config.neuron.lan, config.cortex.mesh.lan) == (False, True)


def test_who_is_denied_and_trusted_at_once_is_a_refusal(tmp_path: Path) -> None:
    file = file_with(tmp_path, f"[mesh]\ndeny = ['{OTHER}']\ntrust = ['{OTHER}']\n")
    (line,) = refusal(file=file, roles=("cortex",))
    assert line.startswith(f"{file}:3: mesh.trust: abababab")
    assert f"is in mesh.deny too ({file}:2)" in line


@pytest.mark.parametrize(("given", "other"), [("cert", "key"), ("key", "cert")])
def test_half_a_certificate_is_refused(tmp_path: Path, given: str, other: str) -> None:
    file = file_with(tmp_path, f"[cortex]\ngateway_tls_{given} = 'gateway.pem'\n")
    (line,) = refusal(file=file, roles=("cortex",))
    assert line.startswith(f"{file}:2: cortex.gateway_tls_{given}: ")
    assert f"needs cortex.gateway_tls_{other} beside it" in line


@pytest.mark.parametrize(
    "origin", ["https://App.example.org", "https://app.example.org/", "app.example.org", "null", ""]
)
def test_what_no_browser_sends_as_an_origin_is_refused(tmp_path: Path, origin: str) -> None:
    file = file_with(tmp_path, f"[cortex]\ncors_origins = ['{origin}']\n")
    (line,) = refusal(file=file, roles=("cortex",))
    assert line.startswith(f"{file}:2: cortex.cors_origins")


def test_a_mesh_without_transports_is_refused() -> None:
    (line,) = refusal({}, {"HELEXA_MESH_TRANSPORTS": ""}, roles=("cortex",))
    assert line.startswith("HELEXA_MESH_TRANSPORTS: mesh.transports: names no transport")


def test_the_mesh_socket_takes_a_tcp_port_too_where_a_transport_needs_one() -> None:
    flags = {
        **flag("cortex.gateway_socket", "127.0.0.1:9050"),
        **flag("cortex.mesh_socket", "0.0.0.0:9050"),
    }
    (line,) = refusal(flags, roles=("cortex",))
    assert "cortex.mesh_socket: 0.0.0.0:9050 is already taken by cortex.gateway_socket" in line
    config = load(flags, {"HELEXA_MESH_TRANSPORTS": "iroh"}, roles=("cortex",))
    assert config.cortex.mesh.transports == ("iroh",)


def test_variables_that_steer_the_tests_are_left_alone() -> None:
    assert load({}, {"HELEXA_TEST_ANYTHING": "off"}).cortex.queue_max == 1024


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_a_default_is_accepted_by_its_own_kind(key: str) -> None:
    setting = SETTINGS[key]
    if setting.default is None:
        assert setting.default_words, "a setting without a default value says what happens then"
        return
    import tomllib

    raw = tomllib.loads(f"v = {setting.kind.to_toml(setting.default)}")["v"]
    assert setting.kind.from_toml(raw, Path("/")) == setting.default


def test_no_two_settings_share_a_variable() -> None:
    variables = [one.variable for one in SETTINGS.values()]
    assert len(set(variables)) == len(variables)
    assert all(
        one.help.endswith(".")
        for one in (
            *SETTINGS.values(),
            *(x for named in NAMED_SETTINGS.values() for x in named.values()),
        )
    )
