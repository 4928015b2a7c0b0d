"""Progress as people read it, and following it to its end."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from helexa.cli.client import Unreachable
from helexa.cli.entry_words import changed
from helexa.cli.following import BEGINS_WITHIN_S, LOST_WITHIN_S, Asking, until_over
from helexa.cli.progress import LINE_EVERY_S, Plain, Rates, Silent, Step, Terminal, line, steps
from helexa.cli.verb import Misused

MIB = 1 << 20


def pulling(done: int, total: int = 100 * MIB, **more: Any) -> Step:
    return Step(name="attic", state="downloading", done=done, total=total, **more)


def test_a_line_has_a_bar_bytes_the_rate_and_what_is_left() -> None:
    text = line(pulling(25 * MIB), 5 * MIB, 6)
    assert text == (
        "attic   downloading  [######------------------]   25%  25.0 MiB of 100.0 MiB  "
        "5.0 MiB/s  15.0 s left"
    )


def test_a_neuron_s_own_estimate_is_the_better_one() -> None:
    assert "4.0 s left" in line(pulling(1, eta_s=4.0), 5 * MIB, 0)
    assert "left" not in line(pulling(1), 0, 0)


def test_what_is_over_says_its_state_and_why() -> None:
    assert line(Step(name="a", state="unloaded"), 0, 3) == "a    unloaded"
    failed = Step(name="a", state="failed", note="no space on the disk")
    assert line(failed, 9, 1) == "a  failed  no space on the disk"


def test_bytes_of_an_unknown_total_are_shown_without_a_share() -> None:
    assert line(pulling(MIB, total=0), 0, 5) == "attic  downloading  1.0 MiB"


def test_a_rate_is_measured_between_reports_and_not_between_looks() -> None:
    rates = Rates()
    assert rates.of("a", 0, 0.0) == 0
    assert rates.of("a", 10, 1.0) == 10
    assert rates.of("a", 10, 1.5) == 10, "nothing new is not nothing at all"
    assert rates.of("a", 20, 2.0) == 10
    assert 10 < rates.of("a", 120, 3.0) < 100, "one fast second is not a fast line"
    assert rates.of("a", 0, 4.0) == 0, "another pull"


def test_a_terminal_s_lines_are_drawn_over() -> None:
    out = io.StringIO()
    screen = Terminal(out)
    screen.show([pulling(1), Step(name="b", state="waiting")], 0)
    screen.show([pulling(2), Step(name="b", state="waiting")], 1)
    assert out.getvalue().count("\x1b[2A") == 1
    assert out.getvalue().count("\n") == 4


def test_elsewhere_a_line_comes_every_few_seconds_and_at_each_change() -> None:
    out = io.StringIO()
    screen = Plain(out)
    for second in range(int(2 * LINE_EVERY_S)):
        screen.show([pulling(second)], second)
    for second in range(3):
        screen.show([Step(name="attic", state="unloaded")], 20.0 + second)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[-1] == "attic  unloaded"
    assert "\x1b" not in out.getvalue()


def test_a_row_becomes_a_step_for_each_neuron() -> None:
    progress = {"phase": "loading", "bytes_done": 1, "bytes_total": 2, "eta_s": 3.0}
    row = {
        "nodes": [
            {"node": "aa", "neuron": "attic", "state": "unloaded", "progress": progress},
            {"node": "bb", "neuron": "", "state": "failed", "reason": "broken"},
        ]
    }
    first, second, third = steps(row, ["aa", "bb", "cc"])
    assert (first.name, first.state, first.done, first.eta_s) == ("attic", "loading", 1, 3.0)
    assert (second.name, second.note, second.is_over) == ("bb", "broken", True)
    assert third.state == "absent"


class Time:
    def __init__(self) -> None:
        self.now_s = 0.0

    def clock(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


def followed(looks: Iterator[Any], time: Time) -> Sequence[Step]:
    def look() -> Sequence[Step]:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return [Step(name="a", state=found)]

    return until_over(look, Silent(), idle=("unloaded",), clock=time.clock, pause=time.pause)


def test_a_pull_is_followed_from_before_it_shows_to_its_end() -> None:
    looks = iter(["unloaded", "downloading", "downloading", "unloaded", "never looked at"])
    assert followed(looks, Time())[0].state == "unloaded"
    assert next(looks) == "never looked at"


def test_one_that_was_over_before_it_showed_is_believed_after_a_while() -> None:
    time = Time()
    assert followed(iter(["unloaded"] * 99), time)[0].state == "unloaded"
    assert time.now_s > BEGINS_WITHIN_S


def test_a_cortex_that_is_restarted_is_waited_for_but_not_for_ever() -> None:
    gone = Unreachable("no answer")
    looks = iter(["downloading", gone, gone, "downloading", "loaded"])
    assert followed(looks, Time())[0].state == "loaded"
    time = Time()
    with pytest.raises(Unreachable):
        followed(iter(["downloading", *[gone] * 1_000]), time)
    assert LOST_WITHIN_S < time.now_s < 2 * LOST_WITHIN_S


def test_what_was_asked_beside_is_answered_or_raised() -> None:
    assert Asking(lambda: 7).watched(list, Silent()) == 7

    def refuse() -> int:
        raise Misused("no")

    with pytest.raises(Misused, match="no"):
        Asking(refuse).watched(list, Silent())


# --- entries as words


def test_an_entry_is_written_in_words() -> None:
    entry = changed(
        {"id": "m", "slots": 4, "pin": True},
        [
            "source=hf:a/b@main",
            "replicas_min=2",
            "idle_timeout_s=1.5",
            "labels=gpu=yes, room=attic",
            "aliases=fast:3,best,a:b",
            "regions=eu-*,!eu-1",
            "keep_warm=true",
            "pin=",
            'files=[{"name": "x"}]',
        ],
    )
    assert entry == {
        "id": "m",
        "slots": 4,
        "source": "hf:a/b@main",
        "replicas_min": 2,
        "idle_timeout_s": 1.5,
        "labels": {"gpu": "yes", "room": "attic"},
        "aliases": [{"name": "fast", "weight": 3.0}, {"name": "best"}, {"name": "a:b"}],
        "regions": ["eu-*", "!eu-1"],
        "keep_warm": True,
        "files": [{"name": "x"}],
    }


def test_files_are_named_or_written_out() -> None:
    assert changed({}, ["files=a.gguf, b.gguf"])["files"] == [
        {"name": "a.gguf"},
        {"name": "b.gguf"},
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("source", "is not NAME=VALUE"),
        ("sauce=x", "an entry has no 'sauce'"),
        ("slots=many", "is not a number"),
        ("files=[x", "is not JSON"),
        ("pin=yes", "true or false"),
        ("labels=gpu", "is not NAME=VALUE"),
    ],
)
def test_words_that_make_no_entry_are_refused_before_anybody_is_asked(
    words: str, said: str
) -> None:
    with pytest.raises(Misused, match=said):
        changed({}, [words])


def test_every_setting_of_an_entry_can_be_written() -> None:
    from helexa.cli.entry_words import NAMES
    from helexa.cortex.settings import ModelEntry

    assert set(NAMES) == set(ModelEntry.__struct_fields__) - {"id"}
