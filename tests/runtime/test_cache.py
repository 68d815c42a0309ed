"""The engine cache: private, bounded, whole entries only."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from oarlock.errors import UserError
from oarlock.runtime import cache
from oarlock.runtime.cache import Cache, open_cache, private_folder


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(private_folder(tmp_path / "cache"), 1000)


def writer(size: int):
    return lambda folder: (folder / "data").write_bytes(b"x" * size) and None


def test_builds_once(store):
    calls = []

    def write(folder: Path) -> None:
        calls.append(folder)
        (folder / "data").write_text("1")

    assert store.entry("key") is None
    first = store.build("key", write)
    assert store.build("key", write) == first == store.entry("key")
    assert len(calls) == 1
    assert os.listdir(store.root / "tmp") == []


def test_a_failed_build_leaves_nothing(store):
    def write(folder: Path) -> None:
        (folder / "data").write_text("half")
        raise UserError("no")

    with pytest.raises(UserError):
        store.build("key", write)
    assert store.entry("key") is None
    assert os.listdir(store.root / "tmp") == []


def test_least_recently_used_leave(store):
    for i, key in enumerate("abc"):
        store.build(key, writer(400))
        os.utime(store.root / "entries" / key, (1000 + i, 1000 + i)) if store.entry(key) else None
    assert list(store.sizes()) == ["b", "c"]
    store.entry("b")
    store.build("d", writer(400))
    assert set(store.sizes()) == {"b", "d"}


def test_an_entry_larger_than_the_bound_stays(store):
    store.build("small", writer(10))
    assert store.build("large", writer(5000)).exists()
    assert set(store.sizes()) == {"large"}


def test_is_private(store):
    store.build("key", writer(1))
    for folder in ("", "entries", "tmp", "locks"):
        assert stat.S_IMODE((store.root / folder).stat().st_mode) == 0o700
    loose = store.root / "loose"
    loose.mkdir(mode=0o777)
    loose.chmod(0o777)
    assert stat.S_IMODE(private_folder(loose).stat().st_mode) == 0o700


def test_refuses_symbolic_links_and_files(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a symbolic link; set OARLOCK_CACHE_DIR"):
        private_folder(tmp_path / "link")
    with pytest.raises(UserError, match="is not a folder"):
        private_folder(tmp_path / "file")


def test_refuses_a_folder_of_another_user(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_user", lambda: 4242)
    (tmp_path / "theirs").mkdir()
    with pytest.raises(UserError, match=r"belongs to user \d+, not to 4242"):
        private_folder(tmp_path / "theirs")


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("OARLOCK_CACHE_DIR", str(tmp_path / "asked"))
    assert open_cache().root == tmp_path / "asked"
    monkeypatch.delenv("OARLOCK_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert open_cache().root == tmp_path / "xdg" / "oarlock"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_cache().root == tmp_path / "home" / ".cache" / "oarlock"


def test_an_unusable_home_falls_back_to_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("OARLOCK_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "home").write_text("a file cannot hold a cache")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    assert open_cache().root == tmp_path / f"oarlock-{os.getuid()}"
    (tmp_path / "other").mkdir()
    os.rename(tmp_path / f"oarlock-{os.getuid()}", tmp_path / "moved")
    (tmp_path / f"oarlock-{os.getuid()}").symlink_to(tmp_path / "other")
    assert open_cache().root.name.startswith("oarlock-")
    assert os.listdir(tmp_path / "other") == []


def test_a_bad_setting_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OARLOCK_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match="is not a folder; set OARLOCK_CACHE_DIR"):
        open_cache()


def test_what_dead_processes_left_is_swept(store):
    private_folder(store.root / "tmp")
    (store.root / "tmp" / "old").mkdir()
    (store.root / "tmp" / "new").mkdir()
    os.utime(store.root / "tmp" / "old", (1, 1))
    store.prune()
    assert os.listdir(store.root / "tmp") == ["new"]


def test_the_cache_of_zig_is_bounded(store, monkeypatch):
    monkeypatch.setattr(cache, "ZIG_BYTES", 100)
    (store.zig_folder() / "blob").write_bytes(b"x" * 200)
    store.prune()
    assert not (store.root / "zig").exists()


def _race(root: Path, start, results) -> None:
    store = Cache(root, 2500)
    start.wait()
    for i in range(40):
        key = f"k{i % 8}"
        folder = store.build(key, lambda f, k=key: (f / "data").write_text(k * 400) and None)
        try:
            whole = (folder / "data").read_text() == key * 400
        except FileNotFoundError:  # pruned by another process since
            whole = True
        results.put(whole)


def test_concurrent_processes(store):
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    workers = [context.Process(target=_race, args=(store.root, start, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    assert all(results.get(timeout=60) for _ in range(160))
    for worker in workers:
        worker.join(10)
        assert worker.exitcode == 0
    assert sum(store.sizes().values()) <= 2500 + 800


def test_entries_are_looked_at_only_where_the_bound_may_not_hold(tmp_path, monkeypatch):
    store = Cache(private_folder(tmp_path / "cache"), 1000)
    looks = []
    real = Cache.sizes
    monkeypatch.setattr(Cache, "sizes", lambda self: looks.append(1) or real(self))
    for name in "abc":
        store.build(name, lambda folder: (folder / "x").write_bytes(b"0" * 300))
    assert len(looks) == 1  # nothing was noted yet
    store.build("d", lambda folder: (folder / "x").write_bytes(b"0" * 300))
    assert len(looks) == 2
    assert sum(store.sizes().values()) <= 1000
    assert store.entry("d") is not None
    (store.root / "total").write_text("broken")
    store.build("e", lambda folder: (folder / "x").write_bytes(b"0" * 10))
    assert len(looks) == 4  # one of them is the test's
