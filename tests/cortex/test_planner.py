"""One moment each: a fleet as its neurons say that it is, and what is decided about it."""

from __future__ import annotations

import dataclasses

import pytest
from tests.cortex.moments import (
    GIB,
    LONG_S,
    Moment,
    actions,
    decided,
    loaded,
    loading,
    neuron,
    on_disk,
    pending,
    waits,
    yields,
)

from helexa.cortex.orchestrator.fleet import Mark
from helexa.cortex.orchestrator.provisioning.plan import Kind, Memory, Setback, Want
from helexa.cortex.orchestrator.provisioning.planner import ACTIONS_MAX, plan
from helexa.cortex.settings import ModelEntry, OrchestratorSettings
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import SourceFile
from helexa.protocol.work import ModelProgress, ModelState, Phase, Progress

A = ModelId("a")
B = ModelId("b")


# --- a request for a model that nobody serves


def test_a_cold_model_is_loaded_where_there_is_room() -> None:
    full = neuron("full", on_disk("a"), loaded("b"), free_gib=0)
    roomy = neuron("roomy", on_disk("a"), free_gib=2)
    assert decided(neurons=(full, roomy), wants={"a": waits()}) == ["load a on roomy"]


def test_the_model_of_a_server_elsewhere_needs_no_room_whatever_its_files_take() -> None:
    through = neuron("through", on_disk("a", gib=0), loaded("b"), free_gib=0)
    full = neuron("full", on_disk("a", gib=8), loaded("c"), free_gib=0)
    assert decided(neurons=(through, full), wants={"a": waits()}) == ["load a on through"]


def test_many_who_wait_get_one_load_and_the_next_plan_none() -> None:
    here = neuron("n", on_disk("a"), free_gib=2)
    there = neuron("m", on_disk("a"), free_gib=2)
    moment = Moment(neurons=(here, there), wants={"a": waits(50)})
    made, memory = moment.plan()
    assert actions(made) == ["load a on m"]
    again = dataclasses.replace(moment, pending=(pending(Kind.LOAD, "m", "a"),))
    assert actions(again.plan(memory)[0]) == []


def test_one_that_loads_already_is_waited_for() -> None:
    neurons = (neuron("n", loading("a")), neuron("m", on_disk("a"), free_gib=9))
    assert decided(neurons=neurons, wants={"a": waits()}) == []


def test_a_load_that_takes_longer_than_it_may_is_not_waited_for() -> None:
    neurons = (neuron("n", loading("a")), neuron("m", on_disk("a"), free_gib=9))
    settings = OrchestratorSettings(load_timeout_s=60, idle_timeout_s=0)
    first = Moment(neurons=neurons, wants={"a": waits()}, settings=settings)
    _, memory = first.plan(Memory())
    later = dataclasses.replace(first, now_s=LONG_S + 61)
    assert "load a on m" in actions(later.plan(memory)[0])


def test_the_faster_neuron_of_two_with_room_loads_it() -> None:
    slow = neuron("slow", on_disk("a", load_s=20), free_gib=2)
    fast = neuron("fast", on_disk("a", load_s=2), free_gib=2)
    assert decided(neurons=(slow, fast), wants={"a": waits()}) == ["load a on fast"]


def test_two_models_asked_for_at_once_do_not_get_the_same_room() -> None:
    here = neuron("n", on_disk("a"), on_disk("b"), free_gib=1.5)
    made = decided(neurons=(here,), wants={"a": waits(oldest_s=0.2), "b": waits(oldest_s=0.3)})
    assert made == ["load b on n"]


def test_the_higher_priority_goes_before_the_older_wait() -> None:
    here = neuron("n", on_disk("a"), on_disk("b"), free_gib=1.5)
    made = decided(
        neurons=(here,),
        entries=(ModelEntry(id="a", priority=1),),
        wants={"a": waits(oldest_s=0.1), "b": waits(oldest_s=9)},
    )
    assert made == ["load a on n"]


def test_a_plan_has_a_bound_and_the_rest_comes_with_the_next() -> None:
    models = [f"m{number}" for number in range(100)]
    neurons = tuple(neuron(f"n{one}", on_disk(one), free_gib=2) for one in models)
    wants = {one: waits() for one in models}
    made = decided(neurons=neurons, wants=wants)
    assert len(made) == len(set(made)) == ACTIONS_MAX


# --- memory


def test_a_pending_load_holds_its_memory() -> None:
    here = neuron("n", on_disk("a"), on_disk("b"), free_gib=1.5)
    under_way = (pending(Kind.LOAD, "n", "b"),)
    assert decided(neurons=(here,), wants={"a": waits()}, pending=under_way) == []


def test_a_model_that_the_report_does_not_name_yet_will_still_take_its_memory() -> None:
    stale = neuron("n", on_disk("a"), loading("b", named=False), free_gib=1.5)
    assert decided(neurons=(stale,), wants={"a": waits()}) == []
    fresh = neuron("n", on_disk("a"), loading("b"), free_gib=1.5)
    assert decided(neurons=(fresh,), wants={"a": waits()}) == ["load a on n"]


def test_memory_that_came_free_since_the_last_report_may_be_taken() -> None:
    before = Moment(neurons=(neuron("n", on_disk("a"), loaded("b"), free_gib=0),))
    _, memory = before.plan()
    left = neuron("n", on_disk("a"), on_disk("b"), free_gib=0)
    # The report is the old one: it names b still.
    after = Moment(neurons=(left,), wants={"a": waits()}).given()
    report = before.given().view.neurons
    (at,) = report
    stale = dataclasses.replace(
        after.view.neurons[at], load=report[at].load, replicas=report[at].replicas
    )
    view = dataclasses.replace(after.view, neurons={at: stale})
    made, memory = plan(dataclasses.replace(after, view=view), memory)
    assert actions(made) == ["load a on n"]
    # A report that is newer counts by itself, and what it says is what there is.
    newer = dataclasses.replace(left, sequence=2)
    made, _ = Moment(neurons=(newer,), wants={"a": waits()}).plan(memory)
    assert actions(made) == []


def test_what_a_model_needs_is_known_from_another_neuron_or_the_catalogue() -> None:
    source = "hf:o/r"
    entry = ModelEntry(id="a", source=source, memory_bytes=3 * GIB)
    small, large = neuron("small", free_gib=2), neuron("large", free_gib=4)
    wanted = {"neurons": (small, large), "wants": {"a": waits()}}
    assert decided(**wanted, entries=(entry,)) == ["pull a on large"]
    by_files = ModelEntry(id="a", source=source, files=(SourceFile(name="f", size=3 * GIB),))
    assert decided(**wanted, entries=(by_files,)) == ["pull a on large"]


# --- making room


def test_room_is_made_by_the_model_that_is_used_least() -> None:
    here = neuron("n", on_disk("a"), loaded("b", idle_s=50), loaded("c", idle_s=90))
    assert decided(neurons=(here,), wants={"a": waits()}) == ["unload c on n"]


def test_no_more_leave_than_have_to() -> None:
    copies = (loaded("b", gib=1, idle_s=900), loaded("c", gib=4, idle_s=300), on_disk("a", gib=4))
    assert decided(neurons=(neuron("n", *copies),), wants={"a": waits()}) == ["unload c on n"]


def test_several_leave_where_one_is_not_enough() -> None:
    copies = (loaded("b", gib=1), loaded("c", gib=1), on_disk("a", gib=2))
    made = decided(neurons=(neuron("n", *copies),), wants={"a": waits()})
    assert sorted(made) == ["unload b on n", "unload c on n"]


def test_room_that_is_being_made_is_waited_for_and_not_made_twice() -> None:
    here = neuron("n", on_disk("a"), loaded("b"))
    there = neuron("m", on_disk("a"), loaded("c"))
    under_way = (pending(Kind.UNLOAD, "n", "b"),)
    assert decided(neurons=(here, there), wants={"a": waits()}, pending=under_way) == []


@pytest.mark.parametrize("in_use", [{"running": 1}, {"waiting": 1}])
def test_a_model_in_use_is_not_unloaded(in_use: dict[str, int]) -> None:
    here = neuron("n", on_disk("a"), loaded("b", **in_use))
    made, _ = Moment(neurons=(here,), wants={"a": waits(oldest_s=100)}).plan()
    assert actions(made) == []
    assert yields(made) == {"b on n"}, "it gets nothing new, so that it becomes idle"


def test_a_model_with_requests_of_this_cortex_on_their_way_is_in_use() -> None:
    here = neuron("n", on_disk("a"), loaded("b"))
    moment = {"neurons": (here,), "wants": {"a": waits(oldest_s=100)}}
    assert decided(**moment, in_flight={("n", "b"): 1}) == []
    assert decided(**moment) == ["unload b on n"]


def test_a_model_that_requests_are_about_to_reach_is_in_use() -> None:
    here = neuron("n", on_disk("a"), loaded("b"))
    wants = {"a": waits(oldest_s=1), "b": waits(oldest_s=0.1)}
    assert decided(neurons=(here,), wants=wants) == []


def test_a_higher_priority_is_never_displaced_and_a_lower_one_goes_first() -> None:
    copies = (on_disk("a"), loaded("high"), loaded("low", idle_s=100), loaded("equal"))
    entries = (ModelEntry(id="high", priority=1), ModelEntry(id="low", priority=-1))
    here = neuron("n", *copies)
    assert decided(neurons=(here,), entries=entries, wants={"a": waits()}) == ["unload low on n"]
    only = neuron("n", on_disk("a"), loaded("high"))
    assert decided(neurons=(only,), entries=entries, wants={"a": waits(oldest_s=99)}) == []


def test_replicas_min_holds_against_equals_and_gives_way_to_a_higher_priority() -> None:
    here = neuron("n", on_disk("a"), loaded("b"))
    kept = ModelEntry(id="b", replicas_min=1)
    wants = {"a": waits(oldest_s=50)}
    assert decided(neurons=(here,), entries=(kept,), wants=wants) == []
    above = ModelEntry(id="a", priority=1)
    assert decided(neurons=(here,), entries=(kept, above), wants=wants) == ["unload b on n"]


def test_what_is_kept_warm_goes_last() -> None:
    here = neuron("n", on_disk("a"), loaded("warm", idle_s=900), loaded("b", idle_s=100))
    entries = (ModelEntry(id="warm", keep_warm=True),)
    assert decided(neurons=(here,), entries=entries, wants={"a": waits()}) == ["unload b on n"]


def test_a_model_that_just_came_stays_for_a_moment() -> None:
    before = Moment(neurons=(neuron("n", on_disk("a"), loading("b")),))
    _, memory = before.plan()
    came = neuron("n", on_disk("a"), loaded("b", idle_s=0))
    asked = Moment(neurons=(came,), wants={"a": waits(oldest_s=30)}, now_s=LONG_S + 1)
    made, memory = asked.plan(memory)
    assert actions(made) == []
    later = dataclasses.replace(
        asked, neurons=(neuron("n", on_disk("a"), loaded("b", idle_s=1.1)),), now_s=LONG_S + 2.1
    )
    assert actions(later.plan(memory)[0]) == ["unload b on n"]


# --- collecting


def test_requests_are_collected_before_a_model_in_use_gives_way() -> None:
    here = neuron("n", on_disk("a", load_s=1), loaded("b", idle_s=0.3, load_s=1))
    used = {"b": Want(rate_per_s=2.0, idle_s=0.3)}
    made, _ = Moment(neurons=(here,), wants={"a": waits(oldest_s=1.9), **used}).plan()
    assert actions(made) == []
    assert made.outlooks[A].progress.eta_s == pytest.approx(0.1 + 1)
    assert decided(neurons=(here,), wants={"a": waits(oldest_s=2.0), **used}) == ["unload b on n"]


def test_a_model_that_is_used_rarely_goes_before_one_that_is_idle_for_longer() -> None:
    often, rarely = loaded("often", idle_s=1.5, load_s=1), loaded("rarely", idle_s=1.2, load_s=1)
    neurons = (neuron("n", on_disk("a"), often), neuron("m", on_disk("a"), rarely))
    wants = {"a": waits(), "often": Want(rate_per_s=0.2), "rarely": Want(rate_per_s=0.05)}
    assert decided(neurons=neurons, wants=wants) == ["unload rarely on m"]


def test_the_one_that_began_to_give_way_goes_on_with_it() -> None:
    neurons = (
        neuron("n", on_disk("a"), loaded("b", running=2)),
        neuron("m", on_disk("a"), loaded("c", running=2)),
    )
    moment = Moment(neurons=neurons, wants={"a": waits(oldest_s=10)})
    made, memory = moment.plan()
    first = yields(made)
    assert len(first) == 1
    for one in ("b", "c"):
        liked = {**moment.wants, one: Want(rate_per_s=5.0)}
        made, memory = dataclasses.replace(moment, wants=liked).plan(memory)
        assert yields(made) == first


def test_one_that_gave_way_serves_again_when_nobody_waits_for_its_room() -> None:
    here = neuron("n", on_disk("a"), loaded("b", running=1))
    moment = Moment(neurons=(here,), wants={"a": waits(oldest_s=10)})
    made, memory = moment.plan()
    assert yields(made) == {"b on n"}
    made, _ = dataclasses.replace(moment, wants={"b": waits(oldest_s=1)}).plan(memory)
    assert (actions(made), yields(made)) == ([], set())


def test_one_that_gave_way_and_is_idle_leaves_although_others_wait_for_it() -> None:
    busy = neuron("n", on_disk("a"), loaded("b", running=1))
    moment = Moment(neurons=(busy,), wants={"a": waits(oldest_s=10)})
    _, memory = moment.plan()
    idle = neuron("n", on_disk("a"), loaded("b", idle_s=0))
    wants = {"a": waits(oldest_s=11), "b": waits(oldest_s=0.5)}
    made, _ = Moment(neurons=(idle,), wants=wants, now_s=LONG_S + 1).plan(memory)
    assert actions(made) == ["unload b on n"]


# --- where


def test_constraints_of_the_catalogue_hold() -> None:
    plain = neuron("plain", on_disk("a"), free_gib=9)
    gpu = neuron("gpu", on_disk("a"), labels={"gpu": "yes"}, region="home", free_gib=9)
    for entry in (
        ModelEntry(id="a", labels={"gpu": "yes"}),
        ModelEntry(id="a", regions=("home",)),
        ModelEntry(id="a", nodes=("gpu",)),
    ):
        made = decided(neurons=(plain, gpu), entries=(entry,), wants={"a": waits()})
        assert made == ["load a on gpu"]


@pytest.mark.parametrize("mark", list(Mark))
def test_nothing_new_is_placed_on_a_marked_neuron(mark: Mark) -> None:
    marked = neuron("marked", on_disk("a"), free_gib=9, mark=mark)
    other = neuron("other", on_disk("a"), loaded("b"))
    made = decided(neurons=(marked, other), wants={"a": waits()})
    assert made == ["unload b on other"]


def test_silent_and_gone_neurons_get_no_commands_and_are_replaced_at_once() -> None:
    there = neuron("there", on_disk("a"), free_gib=2)
    for away in (neuron("away", loaded("a"), silent=True), neuron("away", loaded("a"), gone_s=0.1)):
        assert decided(neurons=(away, there), wants={"a": waits()}) == ["load a on there"]


def test_just_after_a_start_free_room_is_used_and_nothing_is_moved() -> None:
    roomy = neuron("n", on_disk("a"), free_gib=2)
    assert decided(neurons=(roomy,), wants={"a": waits()}, settled=False) == ["load a on n"]
    full = neuron("n", on_disk("a"), loaded("b"))
    entries = (ModelEntry(id="c", source="hf:o/r", replicas_min=1),)
    moment = Moment(
        neurons=(full,),
        entries=entries,
        wants={"a": waits(oldest_s=50), "c": waits(), "d": waits()},
        settled=False,
    )
    made, _ = moment.plan()
    assert (actions(made), dict(made.hopeless)) == ([], {})
    assert made.outlooks[A].progress.phase is Phase.WAITING


# --- setbacks


def test_what_failed_is_tried_elsewhere_and_not_again_before_its_time() -> None:
    neurons = (
        neuron("n", on_disk("a", load_s=1), free_gib=2),
        neuron("m", on_disk("a", load_s=9), free_gib=2),
    )
    failed = Setback(failures=1, until_s=LONG_S + 5, reason="the runtime ended")
    moment = Moment(neurons=neurons, wants={"a": waits()}, setbacks={("n", "a", Kind.LOAD): failed})
    assert actions(moment.plan()[0]) == ["load a on m"]
    both = {("n", "a", Kind.LOAD): failed, ("m", "a", Kind.LOAD): failed}
    made, _ = dataclasses.replace(moment, setbacks=both).plan()
    assert actions(made) == []
    assert made.outlooks[A].reason == "the runtime ended; tried again in 5.0 s"
    later = dataclasses.replace(moment, setbacks=both, now_s=LONG_S + 5)
    assert actions(later.plan()[0]) == ["load a on n"]


def test_what_failed_everywhere_and_often_is_hopeless_for_now() -> None:
    here = neuron("n", on_disk("a"), free_gib=2)
    failed = Setback(failures=3, until_s=LONG_S + 5, reason="the runtime ended")
    made, _ = Moment(
        neurons=(here,), wants={"a": waits()}, setbacks={("n", "a", Kind.LOAD): failed}
    ).plan()
    assert made.hopeless[A] == "no neuron could serve it: n: the runtime ended"


def test_a_setback_beyond_the_longest_wait_is_hopeless() -> None:
    here = neuron("n", on_disk("a"), free_gib=2)
    failed = Setback(failures=1, until_s=LONG_S + 60, reason="the runtime ended")
    moment = Moment(
        neurons=(here,),
        wants={"a": waits(oldest_s=70)},
        setbacks={("n", "a", Kind.LOAD): failed},
    )
    assert A in moment.plan()[0].hopeless
    fresh = dataclasses.replace(moment, wants={"a": waits(oldest_s=10)})
    assert A in fresh.plan()[0].outlooks


# --- pulling


def test_a_model_that_is_nowhere_is_pulled_once() -> None:
    entries = (ModelEntry(id="a", source="hf:o/r", memory_bytes=GIB),)
    neurons = (neuron("n", free_gib=2), neuron("full", loaded("b"), free_gib=0))
    moment = Moment(neurons=neurons, entries=entries, wants={"a": waits()})
    made, memory = moment.plan()
    assert actions(made) == ["pull a on n"]
    assert made.outlooks[A].progress.phase is Phase.DOWNLOADING
    given = dataclasses.replace(moment, pending=(pending(Kind.PULL, "n", "a"),))
    assert actions(given.plan(memory)[0]) == []
    # Answered, and nothing came of it: not at once again.
    assert actions(moment.plan(memory)[0]) == ["pull a on full"]
    later = dataclasses.replace(moment, now_s=LONG_S + 31)
    assert actions(later.plan(memory)[0]) == ["pull a on n"]


def test_a_neuron_that_has_the_files_is_better_than_one_that_can_pull_them() -> None:
    entries = (ModelEntry(id="a", source="hf:o/r"),)
    has, lacks = neuron("has", on_disk("a"), loaded("b")), neuron("lacks", free_gib=9)
    made = decided(neurons=(has, lacks), entries=entries, wants={"a": waits()})
    assert made == ["unload b on has"]


def test_files_are_pulled_to_free_room_where_those_that_have_them_are_in_use() -> None:
    entries = (ModelEntry(id="a", source="hf:o/r"),)
    has, lacks = neuron("has", on_disk("a"), loaded("b", running=1)), neuron("lacks", free_gib=9)
    made = decided(neurons=(has, lacks), entries=entries, wants={"a": waits()})
    assert made == ["pull a on lacks"]


def test_nothing_is_pulled_to_a_disk_that_is_too_small() -> None:
    files = (SourceFile(name="f", size=20 * GIB),)
    entries = (ModelEntry(id="a", source="hf:o/r", files=files, memory_bytes=GIB),)
    here = neuron("n", free_gib=2, disk_gib=10)
    made, _ = Moment(neurons=(here,), entries=entries, wants={"a": waits()}).plan()
    assert actions(made) == []
    assert made.hopeless[A] == (
        "no neuron could serve it: n: its files are 20.0 GiB, and 10.0 GiB of disk are left"
    )


# --- what those who wait are told


def test_a_load_is_foreseen_by_the_neurons_own_word() -> None:
    told = ModelProgress(
        model=A, progress=Progress(phase=Phase.LOADING, bytes_done=3, bytes_total=9, eta_s=4.0)
    )
    here = neuron("n", loading("a"), progress=(told,))
    made, _ = Moment(neurons=(here,), wants={"a": waits()}).plan()
    assert made.outlooks[A].progress == told.progress


def test_a_load_is_foreseen_by_the_time_that_it_takes_there() -> None:
    moment = Moment(neurons=(neuron("n", loading("a", load_s=9)),), wants={"a": waits()})
    _, memory = moment.plan(Memory())
    made, _ = dataclasses.replace(moment, now_s=LONG_S + 4).plan(memory)
    assert made.outlooks[A].progress == Progress(phase=Phase.LOADING, eta_s=5.0)


def test_a_download_is_foreseen_with_the_load_after_it() -> None:
    told = ModelProgress(
        model=A, progress=Progress(phase=Phase.DOWNLOADING, bytes_done=3, bytes_total=9, eta_s=4.0)
    )
    coming = on_disk("a", state=ModelState.DOWNLOADING, load_s=6.0)
    here = neuron("n", coming, progress=(told,))
    made, _ = Moment(neurons=(here,), wants={"a": waits()}).plan()
    assert made.outlooks[A].progress == Progress(
        phase=Phase.DOWNLOADING, bytes_done=3, bytes_total=9, eta_s=10.0
    )


def test_nothing_is_foreseen_where_nothing_is_known() -> None:
    here = neuron("n", loading("a", load_s=0.0))
    made, _ = Moment(neurons=(here,), wants={"a": waits()}).plan()
    assert made.outlooks[A].progress == Progress(phase=Phase.LOADING, eta_s=None)


def test_who_waits_for_the_requests_of_another_model_is_told_so() -> None:
    here = neuron("attic", on_disk("a"), loaded("b", running=1))
    made, _ = Moment(neurons=(here,), wants={"a": waits(oldest_s=60)}).plan()
    assert made.outlooks[A].reason == "attic ends its requests for b first"
    assert made.outlooks[A].progress == Progress(phase=Phase.WAITING)


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        ({}, "no neuron has it, and the catalogue names no source"),
        (
            {"entries": (ModelEntry(id="a", source="hf:o/r"),)},
            "no neuron is here",
        ),
        (
            {
                "neurons": (
                    neuron("attic", on_disk("a", gib=7.2), free_gib=4),
                    neuron("cellar", on_disk("a", gib=7.2), loaded("b", gib=2), free_gib=1),
                )
            },
            "it needs 7.2 GiB; the largest neuron that may run it, attic, has 4.0 GiB",
        ),
        (
            {"neurons": (neuron("attic", on_disk("a"), free_gib=4, mark=Mark.DRAINED),)},
            "all neurons that may run it are drained (attic)",
        ),
        (
            {"neurons": (neuron("attic", on_disk("a"), free_gib=4, gone_s=30),)},
            "only attic, which is gone for 30.0 s (cut), has it",
        ),
        (
            {
                "neurons": (neuron("attic", on_disk("a"), free_gib=4),),
                "entries": (ModelEntry(id="a", labels={"gpu": "yes"}),),
            },
            "no neuron that has it may run it: attic is without the label gpu=yes (labels)",
        ),
        (
            {
                "neurons": (neuron("attic", on_disk("a"), loaded("b")),),
                "entries": (ModelEntry(id="b", replicas_min=1),),
            },
            "no room can be made for it: b may not leave for it",
        ),
        (
            {
                "neurons": (
                    neuron("attic", on_disk("a", state=ModelState.FAILED, runtime="", reason="x")),
                )
            },
            "no neuron could serve it: attic: x",
        ),
    ],
)
def test_who_waits_in_vain_is_told_why(moment: dict[str, object], reason: str) -> None:
    made, _ = Moment(**moment, wants={"a": waits()}).plan()  # type: ignore[arg-type]
    assert dict(made.hopeless) == {A: reason}
    assert not made.outlooks


def test_a_neuron_that_just_left_may_come_back_and_is_waited_for() -> None:
    away = neuron("attic", on_disk("a"), gone_s=2)
    made, _ = Moment(neurons=(away,), wants={"a": waits()}).plan()
    assert not made.hopeless
    assert made.outlooks[A].progress.phase is Phase.WAITING


def test_a_neuron_that_did_not_report_yet_is_waited_for() -> None:
    new = neuron("attic", on_disk("a"), reported=False)
    made, _ = Moment(neurons=(new,), wants={"a": waits()}).plan()
    assert (actions(made), dict(made.hopeless)) == ([], {})


# --- replicas that ought to be


def over_time(moment: Moment, seconds: float, step_s: float = 1.0) -> list[str]:
    """What is decided at last, after the same was seen all the time."""
    memory = Memory()
    made: list[str] = []
    for number in range(int(seconds / step_s) + 1):
        found, memory = dataclasses.replace(moment, now_s=LONG_S + number * step_s).plan(memory)
        made = actions(found)
        if made:
            return [f"after {number * step_s:.0f} s", *made]
    return made


def test_replicas_min_is_loaded_and_a_short_absence_is_not_acted_on() -> None:
    entries = (ModelEntry(id="a", replicas_min=2),)
    neurons = tuple(neuron(name, on_disk("a"), free_gib=2) for name in ("n", "m"))
    moment = Moment(neurons=neurons, entries=entries)
    assert over_time(moment, 10) == ["after 3 s", "load a on m", "load a on n"]


def test_replicas_min_displaces_only_what_nobody_uses() -> None:
    entries = (ModelEntry(id="a", replicas_min=1),)
    used = neuron("n", on_disk("a"), loaded("b", running=1))
    assert over_time(Moment(neurons=(used,), entries=entries), 10) == []
    unused = neuron("n", on_disk("a"), loaded("b"))
    moment = Moment(neurons=(unused,), entries=entries)
    assert over_time(moment, 10) == ["after 3 s", "unload b on n"]


def test_a_queue_gets_one_more_replica_and_the_next_only_after_that_one_could_help() -> None:
    crowded = neuron("n", loaded("a", running=2, waiting=3, queue_s=1.5))
    more = tuple(neuron(name, on_disk("a"), free_gib=2) for name in ("m", "o"))
    moment = Moment(neurons=(crowded, *more))
    made, memory = moment.plan()
    assert actions(made) == ["load a on m"]
    again, _ = dataclasses.replace(moment, now_s=LONG_S + 5).plan(memory)
    assert actions(again) == []


def test_a_queue_that_is_short_or_over_gets_none() -> None:
    other = neuron("m", on_disk("a"), free_gib=2)
    for one in (
        loaded("a", running=2, waiting=3, queue_s=0.5),
        loaded("a", running=2, waiting=0, queue_s=5.0),
    ):
        assert decided(neurons=(neuron("n", one), other)) == []


def test_replicas_max_is_kept() -> None:
    crowded = neuron("n", loaded("a", running=2, waiting=3, queue_s=5))
    other = neuron("m", on_disk("a"), free_gib=2)
    entries = (ModelEntry(id="a", replicas_max=1),)
    assert decided(neurons=(crowded, other), entries=entries) == []


def test_a_queue_displaces_only_what_nobody_uses() -> None:
    crowded = neuron("n", loaded("a", running=2, waiting=3, queue_s=5))
    used = neuron("m", on_disk("a"), loaded("b", idle_s=0.5))
    assert decided(neurons=(crowded, used), wants={"b": Want(rate_per_s=1.0)}) == []
    unused = neuron("m", on_disk("a"), loaded("b"))
    assert decided(neurons=(crowded, unused)) == ["unload b on m"]


def test_a_replica_too_many_leaves_after_a_while() -> None:
    neurons = (neuron("n", loaded("a", running=1)), neuron("m", loaded("a", idle_s=5)))
    assert over_time(Moment(neurons=neurons), 90) == ["after 60 s", "unload a on m"]
    kept = (ModelEntry(id="a", replicas_min=2),)
    assert over_time(Moment(neurons=neurons, entries=kept), 90) == []


def test_a_replica_too_many_that_is_busy_gets_nothing_new_first() -> None:
    neurons = tuple(neuron(name, loaded("a", running=1, slots=8)) for name in ("n", "m"))
    moment = Moment(neurons=neurons)
    _, memory = moment.plan(Memory())
    for seconds in (61, 62, 63):
        made, memory = dataclasses.replace(moment, now_s=LONG_S + seconds).plan(memory)
        assert (actions(made), yields(made)) == ([], {"a on m"})


def test_work_that_needs_both_replicas_keeps_both() -> None:
    neurons = (neuron("n", loaded("a", running=2)), neuron("m", loaded("a", running=1)))
    assert over_time(Moment(neurons=neurons), 90) == []


# --- what leaves by itself


def test_an_idle_model_leaves_after_its_time() -> None:
    settings = OrchestratorSettings(idle_timeout_s=600)
    here = neuron("n", loaded("a", idle_s=601), loaded("b", idle_s=599))
    assert decided(neurons=(here,), settings=settings) == ["unload a on n"]
    soon = (ModelEntry(id="b", idle_timeout_s=10), ModelEntry(id="a", idle_timeout_s=0))
    assert decided(neurons=(here,), settings=settings, entries=soon) == ["unload b on n"]


@pytest.mark.parametrize(
    "entry", [ModelEntry(id="a", keep_warm=True), ModelEntry(id="a", replicas_min=1)]
)
def test_an_idle_model_that_is_to_stay_stays(entry: ModelEntry) -> None:
    settings = OrchestratorSettings(idle_timeout_s=10)
    here = neuron("n", loaded("a", idle_s=99))
    assert decided(neurons=(here,), entries=(entry,), settings=settings) == []


def test_an_idle_model_that_somebody_wants_stays() -> None:
    settings = OrchestratorSettings(idle_timeout_s=10)
    here = neuron("n", loaded("a", idle_s=99))
    for want in (Want(waiting=1), Want(in_flight=1)):
        assert decided(neurons=(here,), settings=settings, wants={"a": want}) == []


# --- neurons that go


def test_a_drained_neurons_models_move_where_they_are_wanted_and_then_leave() -> None:
    drained = neuron("n", loaded("a", idle_s=3), loaded("b"), mark=Mark.DRAINED)
    other = neuron("m", on_disk("a"), on_disk("b"), free_gib=5)
    wants = {"a": Want(rate_per_s=1.0)}
    made = decided(neurons=(drained, other), wants=wants)
    assert made == ["load a on m", "unload b on n"]
    moved = neuron("m", loaded("a"), on_disk("b"), free_gib=4)
    assert "unload a on n" in decided(neurons=(drained, moved), wants=wants)


def test_a_drained_neurons_running_requests_end_first() -> None:
    drained = neuron("n", loaded("a", running=1), mark=Mark.DRAINED)
    other = neuron("m", loaded("a"))
    assert decided(neurons=(drained, other)) == []


def test_a_cordoned_neurons_models_stay() -> None:
    assert decided(neurons=(neuron("n", loaded("a"), mark=Mark.CORDONED),)) == []


def test_a_model_in_use_that_is_lost_with_its_neuron_is_loaded_before_somebody_asks() -> None:
    there = neuron("m", on_disk("a"), free_gib=2)
    before = Moment(neurons=(neuron("n", loaded("a")), there))
    _, memory = before.plan()
    gone = (neuron("n", loaded("a"), gone_s=0.1), there)
    hot = {"a": Want(rate_per_s=0.5, idle_s=1)}
    made, _ = Moment(neurons=gone, wants=hot).plan(memory)
    assert actions(made) == ["load a on m"]
    cool = {"a": Want(rate_per_s=0.001, idle_s=400)}
    assert actions(Moment(neurons=gone, wants=cool).plan(memory)[0]) == []


def test_a_model_that_was_unloaded_is_not_loaded_again_unasked() -> None:
    here = neuron("n", loaded("a"))
    _, memory = Moment(neurons=(here,)).plan()
    left = neuron("n", on_disk("a"), free_gib=2)
    hot = {"a": Want(rate_per_s=0.5, idle_s=1)}
    assert actions(Moment(neurons=(left,), wants=hot).plan(memory)[0]) == []
