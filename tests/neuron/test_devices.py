"""Who gets which device: never two on one by accident, and everything is given back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from tests.neuron.bench import Journal, bench

from helexa.neuron import devices
from helexa.neuron.budget import Memory
from helexa.neuron.cores import Core
from helexa.neuron.devices import NONE, Lease, Want, lend
from helexa.neuron.serving.doors import ApiDoor
from helexa.neuron.supervisor.grants import Grants, Machine
from helexa.protocol.errors import DoesNotFit, NoCapacity
from helexa.protocol.ids import ModelId
from helexa.protocol.work import UNIFIED_MEMORY, Device, ModelState
from helexa.runtime import visibility
from helexa.runtime.contract import DeviceWish, Placement, ReplicaSpec
from helexa.testing.fake_runtime import FakeRuntime, fake_files
from helexa.util.sockets import Address

CHAT = "/v1/chat/completions"
OWN_DOOR = ApiDoor(Address("127.0.0.1", 0), "t" * 43)
ASK: Any = {"messages": [{"role": "user", "content": "hi"}]}


def gpu(index: int, total: int = 100, free: int | None = None, **more: Any) -> Device:
    facts = {"vendor": "nvidia", "uuid": f"GPU-{index}", "name": "X", **more}
    return Device(
        index=index,
        memory_bytes=total,
        memory_free_bytes=total if free is None else free,
        **facts,
    )


def want(size: int, *, model: str = "m", wish: DeviceWish | None = None, **more: Any) -> Want:
    return Want(
        model=ModelId(model), bytes=size, wish=wish or DeviceWish(), placement=Placement(**more)
    )


def numbers(lease: Lease) -> list[str]:
    return [name.removeprefix("GPU-") for name in lease.devices]


# --- the decision


WANTS = st.lists(
    st.builds(
        Want,
        model=st.uuids().map(lambda one: ModelId(str(one))),
        bytes=st.integers(1, 250),
        wish=st.one_of(
            st.none(),
            st.builds(DeviceWish, least=st.integers(1, 2), most=st.integers(2, 4)),
        ),
        placement=st.builds(
            Placement,
            devices=st.sampled_from([None, None, (), ("0",), ("1", "2")]),
            count=st.integers(0, 3),
            shared=st.booleans(),
            or_cpu=st.booleans(),
        ),
    ),
    max_size=8,
    unique_by=lambda one: one.model,
)
FLEETS = st.lists(st.tuples(st.integers(10, 100), st.integers(0, 100)), min_size=3, max_size=5)


PATIENTLY = tried(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long something takes on a busy machine is no claim of these tests."""


@PATIENTLY
@given(WANTS, FLEETS, st.lists(st.booleans(), min_size=8, max_size=8))
def test_no_device_is_lent_twice_unless_it_is_shared_and_none_beyond_its_bytes(
    wants: list[Want], sizes: list[tuple[int, int]], leave: list[bool]
) -> None:
    fleet = [gpu(at, total, min(total, free)) for at, (total, free) in enumerate(sizes)]
    leases: dict[ModelId, Lease] = {}
    for one, leaves in zip(wants, leave, strict=False):
        try:
            lease = lend(one, fleet, leases)
        except DoesNotFit:
            continue
        leases[one.model] = lease
        if one.wish is None or one.placement.devices == ():
            assert lease == NONE
        elif lease.shares:
            count = one.placement.count or len(one.placement.devices or ())
            assert not count or len(lease.shares) == count
            assert sum(share.used for share in lease.shares) >= one.bytes
        for device in fleet:
            held = [
                share
                for each in leases.values()
                for share in each.shares
                if share.device == device.uuid
            ]
            owners = [each for each in leases.values() if device.uuid in each.devices]
            assert len(owners) <= 1 or all(each.shared for each in owners)
            assert sum(share.lent for share in held) <= device.memory_bytes
            assert all(share.used <= device.memory_free_bytes for share in held)
        if leaves:
            del leases[one.model]
    whole = [devices.free(one, leases.values(), shared=False) for one in fleet]
    for one, free in zip(fleet, whole, strict=True):
        assert free in (0, one.memory_free_bytes)
    leases.clear()
    assert [devices.free(one, (), shared=False) for one in fleet] == [
        one.memory_free_bytes for one in fleet
    ]


def test_the_tightest_device_that_will_do_is_taken() -> None:
    fleet = [gpu(0, 80), gpu(1, 24), gpu(2, 48)]
    assert numbers(lend(want(20), fleet, {})) == ["1"]
    assert numbers(lend(want(40), fleet, {})) == ["2"]


def test_as_few_devices_as_hold_it_are_taken_and_each_holds_the_engine_too() -> None:
    fleet = [gpu(at, 24) for at in range(4)]
    wish = DeviceWish(most=4)
    assert len(lend(want(24, wish=wish), fleet, {}).shares) == 1
    assert len(lend(want(25, wish=wish), fleet, {}).shares) == 2
    heavy = DeviceWish(most=4, bytes_each=4)
    lease = lend(want(60, wish=heavy), fleet, {})
    assert [share.used for share in lease.shares] == [24, 24, 24]


def test_what_does_not_fit_is_refused_with_numbers_and_with_who_holds_what() -> None:
    leases = {ModelId("a"): lend(want(5), [gpu(0)], {})}
    with pytest.raises(DoesNotFit) as caught:
        lend(want(50 << 20), [gpu(0, 100 << 20)], leases)
    assert caught.value.free_bytes == 0
    for part in ("50 MiB", "device 0 has 100.0 MiB free", "held by 'a'"):
        assert part in caught.value.message


def test_the_driver_has_the_last_word_on_what_is_free() -> None:
    with pytest.raises(DoesNotFit):
        lend(want(50), [gpu(0, 100, free=40)], {})


def test_a_model_may_name_its_devices_or_their_count_or_none() -> None:
    fleet = [gpu(at) for at in range(3)]
    assert numbers(lend(want(5, devices=("2", "GPU-0")), fleet, {})) == ["0", "2"]
    assert len(lend(want(5, count=3), fleet, {}).shares) == 3
    assert lend(want(5, devices=()), fleet, {}) == NONE


def test_a_device_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(DoesNotFit) as caught:
        lend(want(5, devices=("7",)), [gpu(0)], {})
    assert "'7', which is not on this neuron; there are: 0 (GPU-0)" in caught.value.message
    with pytest.raises(DoesNotFit) as caught:
        lend(want(5, devices=("0",)), [], {})
    assert caught.value.message == (
        "'m' cannot run on this neuron: it is set to the device '0', and this neuron has no device."
    )
    assert caught.value.retry_after_s is None


def test_the_number_of_a_divided_device_is_none_of_its_parts() -> None:
    parts = [gpu(0, uuid="MIG-a"), gpu(0, uuid="MIG-b")]
    with pytest.raises(DoesNotFit, match="is 2 parts"):
        lend(want(5, devices=("0",)), parts, {})
    assert lend(want(5, devices=("MIG-b",)), parts, {}).devices == ("MIG-b",)


def test_the_processor_stands_in_only_where_it_may() -> None:
    taken = {ModelId("a"): lend(want(5), [gpu(0)], {})}
    assert lend(want(5, or_cpu=True), [gpu(0)], taken) == NONE
    assert lend(want(5), [gpu(0, vendor="amd")], {}) == NONE
    with pytest.raises(DoesNotFit, match="needs a device of nvidia, and this neuron has none"):
        lend(want(5, wish=DeviceWish(needed=True)), [], {})
    with pytest.raises(DoesNotFit, match="its devices are set to none"):
        lend(want(5, wish=DeviceWish(needed=True), devices=()), [gpu(0)], {})


def test_memory_that_is_unified_is_nobodys_and_is_seen_by_all() -> None:
    fleet = [gpu(0, 0, memory=UNIFIED_MEMORY)]
    lease = lend(want(50), fleet, {})
    assert lease == NONE
    assert devices.lent(fleet, lease) == tuple(fleet)


def test_what_a_child_may_see_is_in_its_variables_and_nothing_is_an_empty_word() -> None:
    assert set(visibility.variables(()).values()) == {"PCI_BUS_ID", ""}
    two = visibility.variables((gpu(1), gpu(0, uuid="")))
    assert two["CUDA_VISIBLE_DEVICES"] == "GPU-1,0"
    amd = visibility.variables((gpu(2, vendor="amd"), gpu(3, vendor="amd")))
    assert (amd["ROCR_VISIBLE_DEVICES"], amd["HIP_VISIBLE_DEVICES"]) == ("2,3", "0,1")
    assert amd["CUDA_VISIBLE_DEVICES"] == "0,1"


# --- all that is granted


class Stub:
    """A replica, as far as grants look at one."""

    def __init__(
        self, model: str, size: int, placement: Placement, wish: DeviceWish | None
    ) -> None:
        self.adapter = FakeRuntime(wish=wish)
        self.spec = ReplicaSpec(
            files=fake_files(model, size), context_tokens=1, slots=1, placement=placement
        )
        self.state = SimpleNamespace(holds_memory=True)
        self.is_asked = False


REPLICAS = st.lists(
    st.builds(
        Stub,
        model=st.sampled_from("abcdef"),
        size=st.integers(1, 150),
        placement=st.builds(
            Placement,
            devices=st.sampled_from([None, None, ()]),
            shared=st.booleans(),
            or_cpu=st.booleans(),
        ),
        wish=st.one_of(st.none(), st.builds(DeviceWish, most=st.integers(1, 3))),
    ),
    max_size=24,
)


@PATIENTLY
@given(REPLICAS, st.booleans())
def test_all_of_it_or_nothing_is_granted_and_all_comes_back(
    replicas: list[Any], pins: bool
) -> None:
    memory = Memory(total=200, available=200, reserve=0)
    fleet = (gpu(0), gpu(1), gpu(2, 60))
    cores = tuple(Core((at, at + 4)) for at in range(4))
    grants = Grants(lambda: memory, Machine(devices=fleet, cores=cores, pins=pins))
    for one in replicas:
        model = one.spec.files.model
        before = grants.by_model
        if model in before:  # Whatever it was, it leaves.
            one.state.holds_memory = False
            grants.settle(one)
            assert not grants.has(model)
            continue
        could = grants.fits(one)(())
        try:
            grants.give(one)
        except (DoesNotFit, NoCapacity):
            assert not could
            assert grants.by_model == before
            continue
        assert could
        held = [grants.of(name) for name in grants.by_model]
        assert sum(each.memory for each in held) <= 200
        pinned = [cpu for each in held for cpu in each.cpus]
        assert len(pinned) == len(set(pinned))
        assert pins == bool(pinned)
        for device, load in zip(fleet, grants.loads(), strict=True):
            owners = [each.lease for each in held if device.uuid in each.lease.devices]
            assert len(owners) <= 1 or all(lease.shared for lease in owners)
            assert 0 <= load.free_bytes <= device.memory_bytes
            assert len(load.models) == len(owners)
    for one in replicas:
        one.state.holds_memory = False
        grants.settle(one)
    assert not grants.by_model
    assert [load.free_bytes for load in grants.loads()] == [100, 100, 60]


# --- the neuron


pytestmark = pytest.mark.anyio


def machine(*fleet: Device) -> Machine:
    return Machine(devices=fleet, look=lambda: fleet)


def shown(journal_note: dict[str, Any]) -> str:
    return str(journal_note["environment"]["CUDA_VISIBLE_DEVICES"])


async def test_two_models_get_a_device_each_and_the_third_is_refused(journal: Journal) -> None:
    fake = FakeRuntime(journal=journal.path, wish=DeviceWish())
    sizes = {"a": 10, "b": 10, "c": 10}
    async with bench(fake, sizes, machine=machine(gpu(0), gpu(1))) as live:
        seen = set()
        for model in ("a", "b"):
            await live.roster.load(model)
            seen.add(shown(await journal.heard("started")))
        assert seen == {"GPU-0", "GPU-1"}
        refused = await live.post(CHAT, {"model": "c", **ASK})
        assert (refused.status, refused.error["code"]) == (507, DoesNotFit.code)
        assert "device 1 has 100 B free and is held by 'b'" in refused.error["message"]
        assert live.roster.free_bytes() == 0
        assert [one.models for one in live.roster.device_loads()] == [("a",), ("b",)]
        await live.roster.unload("a", 0)
        assert live.roster.free_bytes() == 100
        assert (await live.post(CHAT, {"model": "c", **ASK})).status == 200
        assert shown(await journal.heard("started")) == "GPU-0"
        # What others cannot have, loaded or not: so a cortex reckons rightly with one figure.
        assert {one.memory_bytes for one in live.roster.capabilities()} == {100}


async def test_a_model_without_a_device_cannot_see_one(journal: Journal) -> None:
    async with bench(FakeRuntime(journal=journal.path), {"a": 10}, machine=machine(gpu(0))) as live:
        await live.roster.load("a")
        assert shown(await journal.heard("started")) == ""
        assert live.roster.granted == {"a": 10}


async def test_a_model_on_a_device_takes_no_main_memory_for_what_lies_there() -> None:
    fake = FakeRuntime(wish=DeviceWish())
    async with bench(fake, {"a": 90}, memory_bytes=10, machine=machine(gpu(0))) as live:
        await live.roster.load("a")
        assert live.roster.granted == {"a": 0}


async def test_an_idle_model_leaves_its_device_for_one_that_needs_it() -> None:
    fake = FakeRuntime(wish=DeviceWish())
    async with bench(
        fake, {"a": 10, "b": 10}, machine=machine(gpu(0)), door=OWN_DOOR, stay_s=0
    ) as live:
        for model in ("a", "b", "a"):
            assert (await live.post(CHAT, {"model": model, **ASK})).status == 200
        assert live.roster.capability("b").state is ModelState.UNLOADED


async def test_one_that_would_not_help_is_not_sent_away() -> None:
    fake = FakeRuntime(wish=DeviceWish())
    async with bench(
        fake, {"a": 10, "b": 80}, machine=machine(gpu(0, 50), gpu(1, 100, 70)), door=OWN_DOOR
    ) as live:
        await live.roster.load("a")
        assert (await live.post(CHAT, {"model": "b", **ASK})).status == 507
        assert live.roster.capability("a").state is ModelState.LOADED


async def test_devices_are_shared_where_the_operator_says_so(journal: Journal) -> None:
    fake = FakeRuntime(journal=journal.path, wish=DeviceWish())
    async with bench(
        fake, {"a": 60, "b": 30, "c": 20}, machine=machine(gpu(0)), share_devices=True
    ) as live:
        for model in ("a", "b"):
            await live.roster.load(model)
            assert shown(await journal.heard("started")) == "GPU-0"
        with pytest.raises(DoesNotFit) as caught:
            await live.roster.load("c")
        assert (caught.value.needed_bytes, caught.value.free_bytes) == (20, 10)


async def test_a_child_that_does_not_start_gives_its_device_back(tmp_path: Path) -> None:
    fake = FakeRuntime(flags={"a": ("--loading-dies", "3")}, wish=DeviceWish())
    async with bench(fake, {"a": 10}, machine=machine(gpu(0))) as live:
        assert (await live.post(CHAT, {"model": "a", **ASK})).status == 502
        assert live.roster.free_bytes() == 100
