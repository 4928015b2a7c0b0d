"""Private files: the old content or the new, never half of one, and nobody else's to read."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from helexa.mesh.files import private_files
from helexa.mesh.files.private_files import create_private, replace_private


class DiskFullError(OSError):
    pass


def full_disk(*_args):
    raise DiskFullError


def test_a_file_is_made_with_its_folder_for_the_owner_alone(tmp_path):
    path = tmp_path / "home" / "file"
    umask = os.umask(0)
    try:
        replace_private(path, b"one")
    finally:
        os.umask(umask)
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_private_once_replaced(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    replace_private(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("write", [replace_private, create_private])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, write):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(private_files.os, "fsync", full_disk)
    with pytest.raises(DiskFullError):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_is_there_is_not_created_again(tmp_path):
    path = tmp_path / "file"
    assert create_private(path, b"one")
    assert not create_private(path, b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_of_many_who_create_at_once_one_does(tmp_path):
    path, begin, made = tmp_path / "file", threading.Barrier(8), []

    def create(number):
        begin.wait()
        if create_private(path, b"%d" % number):
            made.append(b"%d" % number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [path.read_bytes()]


def test_a_reader_sees_the_old_content_or_the_new(tmp_path):
    path = tmp_path / "file"
    contents = {b"a" * 60_000, b"b" * 60_000}
    replace_private(path, b"a" * 60_000)
    done, seen = threading.Event(), set()

    def read():
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for content in contents:
            replace_private(path, content)
    done.set()
    reader.join()
    assert seen <= contents
