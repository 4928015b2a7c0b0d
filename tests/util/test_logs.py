"""Log lines for people and for machines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from helexa.util import logs


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of its own, so that the test's own root logger stays as it was."""
    logger = logging.getLogger("helexa.tests.logs")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers.clear()


def attach(log: logging.Logger, formatter: logging.Formatter) -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log.addHandler(handler)
    return stream


def test_a_json_line_carries_the_event_and_its_fields(log: logging.Logger) -> None:
    stream = attach(log, logs.JsonLines())
    log.info("neuron lost", extra={"node": "ab12", "silent_s": 4.2})
    line = json.loads(stream.getvalue())
    assert line["event"] == "neuron lost"
    assert (line["level"], line["part"]) == ("info", "helexa.tests.logs")
    assert (line["node"], line["silent_s"]) == ("ab12", 4.2)
    assert line["time"].endswith("Z")


def test_a_field_cannot_replace_the_line_s_own(log: logging.Logger) -> None:
    stream = attach(log, logs.JsonLines())
    log.info("neuron lost", extra={"event": "all is well", "level": "debug"})
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"]) == ("neuron lost", "info")


def test_a_traceback_stays_inside_its_json_line(log: logging.Logger) -> None:
    stream = attach(log, logs.JsonLines())
    try:
        int("broken")
    except ValueError:
        log.exception("fault")
    (text,) = stream.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(text)["traceback"]


def test_a_human_line_quotes_values_with_spaces(log: logging.Logger) -> None:
    stream = attach(log, logs.Human())
    log.warning("link closed", extra={"reason": "no answer", "peer": "ab12"})
    assert stream.getvalue().endswith(
        'warning helexa.tests.logs  link closed  reason="no answer" peer=ab12\n'
    )


def test_a_peer_cannot_write_lines_or_colours_into_the_log(log: logging.Logger) -> None:
    stream = attach(log, logs.Human())
    log.info("refused", extra={"name_given": "x\n12:00:00 error \x1b[31mfake"})
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert r"x\n12:00:00" in line


def test_an_endless_value_is_cut(log: logging.Logger) -> None:
    stream = attach(log, logs.JsonLines())
    log.info("refused", extra={"said": "x" * 1_000_000})
    assert len(stream.getvalue()) < 2 * logs.VALUE_CHARS_MAX


def test_a_limited_line_appears_once_a_period_and_counts_the_rest() -> None:
    now = [100.0]
    seldom = logs.every(5.0, clock=lambda: now[0])
    assert [seldom(), seldom(), seldom()] == [True, False, False]
    now[0] = 105.0
    assert seldom()
    assert seldom.missed == 2
    now[0] = 111.0
    assert seldom()
    assert seldom.missed == 0
