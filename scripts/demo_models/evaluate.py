"""Ask an OpenAI-compatible server what the demo models must know, and print the scores.

    python scripts/demo_models/evaluate.py --base-url http://localhost:8080/v1 --api-key KEY

Exits with 1 when a score is below its bar.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from workshop import exam
from workshop.exam import Case, Reply, Score

QUESTION_BAR, TOOL_BAR, PICTURE_BAR = 0.98, 0.90, 0.90
TIMEOUT_S = 120.0
ANSWER_TOKENS = 400


class Client:
    """The few calls that an evaluation makes."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        base = base_url.rstrip("/")
        self.base_url = base if base.endswith("/v1") else base + "/v1"
        self.headers = {"Content-Type": "application/json"}
        if api_key:
            self.headers["Authorization"] = f"Bearer {api_key}"

    def ask(self, model: str, case: Case) -> Reply:
        """Send one case at temperature 0."""
        body = {"model": model, "temperature": 0, "max_tokens": ANSWER_TOKENS, **case.body}
        if case.stream:
            body["stream"] = True
        data = json.dumps(body).encode()
        url = f"{self.base_url}/{case.endpoint}"
        request = urllib.request.Request(url, data, self.headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                if case.stream:
                    return joined(response)
                return whole(json.load(response))
        except urllib.error.HTTPError as error:
            return Reply(f"HTTP {error.code}: {error.read(300).decode(errors='replace')}", None)


def whole(answer: dict[str, Any]) -> Reply:
    """The reply in a complete answer."""
    choice = answer["choices"][0]
    if "text" in choice:
        return Reply(choice["text"], choice["finish_reason"])
    message = choice["message"]
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    named = tuple((call["name"], call["arguments"]) for call in calls)
    return Reply(message.get("content") or "", choice["finish_reason"], named)


def _events(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            yield json.loads(line[6:])


def joined(lines: Iterator[bytes]) -> Reply:
    """The reply in a stream of events."""
    text, reason = "", None
    calls: dict[int, list[str]] = {}
    for event in _events(lines):
        for choice in event.get("choices", ()):
            delta = choice.get("delta", {})
            text += delta.get("content") or ""
            reason = choice.get("finish_reason") or reason
            for call in delta.get("tool_calls") or ():
                parts = calls.setdefault(call["index"], ["", ""])
                parts[0] += call.get("function", {}).get("name") or ""
                parts[1] += call.get("function", {}).get("arguments") or ""
    return Reply(text, reason, tuple((name, arguments) for name, arguments in calls.values()))


def _asked(case: Case) -> str:
    if "prompt" in case.body:
        return case.body["prompt"]
    content = case.body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0].get("text", "(picture first)")


def grade(client: Client, model: str, group: str, bar: float, cases: list[Case]) -> Score:
    """Ask every case of a group."""
    score = Score(group, bar)
    for case in cases:
        reply = client.ask(model, case)
        right = case.is_right(reply)
        score.total += 1
        score.right += right
        if not right:
            shown, got = _asked(case)[:80], reply.calls or reply.text
            score.misses.append(f"{shown!r}: wanted {case.expected[:120]!r}, got {got!r:.160}")
    return score


def text_scores(client: Client, model: str) -> Iterator[Score]:
    """Every group of the text model."""
    real, unreal = exam.held_out_cities(), exam.made_up_cities()
    groups = (
        ("questions", QUESTION_BAR, exam.question_cases()),
        ("questions, system message", QUESTION_BAR, exam.question_cases(exam.SHORT_SYSTEM)),
        ("questions, after other turns", 0.95, exam.later_question_cases()),
        ("tool calls, held-out cities", TOOL_BAR, exam.tool_cases(real)),
        ("tool calls, streamed", TOOL_BAR, exam.tool_cases(real, stream=True, seed=20)),
        ("tool calls, made-up cities", TOOL_BAR, exam.tool_cases(unreal, seed=21)),
        ("tool_choice required", TOOL_BAR, exam.tool_cases(real, choice="required", seed=22)),
        ("tool_choice named", TOOL_BAR, exam.tool_cases(real, choice="named", seed=23)),
        ("tools not needed", TOOL_BAR, exam.no_tool_cases()),
        ("tool results", 0.8, exam.tool_result_cases()),
        ("echo and memory", 0.8, exam.memory_cases()),
        ("answers end", 0.95, exam.ending_cases()),
        ("plain completions", 0.9, exam.completion_cases()),
    )
    for group, bar, cases in groups:
        yield grade(client, model, group, bar, cases)


def vision_scores(client: Client, model: str) -> Iterator[Score]:
    """Every group of the vision model."""
    from workshop import exam_pictures  # Pillow is needed here only

    groups = (
        ("pictures described", PICTURE_BAR, exam_pictures.picture_cases()),
        ("pictures, one property", PICTURE_BAR, exam_pictures.picture_question_cases()),
        ("talk to the vision model", 1.0, exam_pictures.vision_talk_cases()),
    )
    for group, bar, cases in groups:
        yield grade(client, model, group, bar, cases)


def main() -> int:
    """Parse the command line, ask, print a table."""
    parser = argparse.ArgumentParser(description="Score the demo models.")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--model", default="helexa-demo", help="empty to leave the text model out")
    parser.add_argument("--vision-model", default="", help="such as helexa-demo-vision")
    parser.add_argument("--misses", type=int, default=5, help="wrong answers to show in each group")
    options = parser.parse_args()
    client = Client(options.base_url, options.api_key)
    passed = True
    print(f"{'group':<32} {'right':>5} {'of':>5} {'share':>7} {'bar':>6}")
    for model, scores in ((options.model, text_scores), (options.vision_model, vision_scores)):
        for score in scores(client, model) if model else ():
            passed &= score.passed
            mark = "" if score.passed else "  BELOW"
            counts = f"{score.right:>5} {score.total:>5} {score.share:>7.1%} {score.bar:>6.0%}"
            print(f"{score.group:<32} {counts}{mark}")
            for miss in score.misses[: options.misses]:
                print(f"    {miss}")
            sys.stdout.flush()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
