"""What was compiled, kept: private to the user, bounded, safe under concurrent processes.

An entry is a folder under the hash of everything that determines it.  It is built in a temporary
folder and renamed into place, so it is there whole or not at all; the least recently used entries
leave when the bound is exceeded.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oarlock import knobs
from oarlock.errors import UserError

try:
    import fcntl
except ImportError:  # not POSIX: no locks between processes, renames still keep entries whole
    fcntl = None

STALE_S = 3600.0  # a temporary folder this old was left by a process that died
TOTAL = "total"  # the file that notes the sum of the sizes of all entries
ROOM = 0.9  # of the bound, left of entries when it was exceeded
ZIG_BYTES = 512 << 20  # bound of ziglang's own cache, which never shrinks by itself


@dataclass(frozen=True)
class Cache:
    """Entries under ``root``; ``limit_bytes`` bounds their sum."""

    root: Path
    limit_bytes: int

    def entry(self, key: str) -> Path | None:
        """The folder of ``key``, marked as used, or None."""
        path = self.root / "entries" / key
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def drop(self, key: str) -> None:
        """Remove an entry; nothing happens when there is none."""
        _remove(self.root / "entries" / key, self.root / "tmp")

    def build(self, key: str, write: Callable[[Path], None]) -> Path:
        """The folder of ``key``; when there is none ``write`` fills a new one.

        Of several processes one writes and the others wait for it.
        """
        with self.lock(f"{key[:32]}.lock"):
            path = self.entry(key)
            if path is not None:
                return path
            path = self._write(key, write)
        self._grow(key)
        return path

    def _write(self, key: str, write: Callable[[Path], None]) -> Path:
        entries = private_folder(self.root / "entries")
        temporary = Path(tempfile.mkdtemp(dir=private_folder(self.root / "tmp")))
        try:
            write(temporary)
            with contextlib.suppress(OSError):  # another process was first: its entry is as good
                os.rename(temporary, entries / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return entries / key

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold an exclusive lock between processes and threads."""
        folder = private_folder(self.root / "locks")
        handle = os.open(
            folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def sizes(self) -> dict[str, int]:
        """Bytes of every entry, the least recently used first."""
        found: list[tuple[float, str, int]] = []
        with contextlib.suppress(FileNotFoundError):
            for item in os.scandir(self.root / "entries"):
                with contextlib.suppress(FileNotFoundError):
                    found.append((item.stat().st_mtime, item.name, folder_bytes(Path(item.path))))
        return {name: size for _, name, size in sorted(found)}

    def prune(self, keep: str = "") -> None:
        """Remove the least recently used entries until the bound holds, with room for the next ones;
        ``keep`` stays."""
        with self.lock("prune"):
            sizes = self.sizes()
            total = sum(sizes.values())
            bound = self.limit_bytes if total <= self.limit_bytes else self.limit_bytes * ROOM
            for name, size in sizes.items():
                if total <= bound:
                    break
                if name != keep:
                    self.drop(name)
                    total -= size
            self._sweep()
            self._note(total)

    def _grow(self, key: str) -> None:
        """The entry ``key`` is new.  All entries are looked at only where their sum, as it was noted, may
        exceed the bound, or was noted long ago."""
        with self.lock("prune"):
            known = self._noted()
            total = (known or 0) + folder_bytes(self.root / "entries" / key)
            if known is not None and total <= self.limit_bytes:
                self._note(total, is_new=False)
                return
        self.prune(keep=key)

    def _noted(self) -> int | None:
        """The sum of the sizes of all entries in bytes, at most; None where it is not known well."""
        note = self.root / TOTAL
        try:
            if note.stat().st_mtime < time.time() - STALE_S:
                return None
            return int(note.read_text())
        except (OSError, ValueError):
            return None

    def _note(self, total: int, is_new: bool = True) -> None:
        """Args: is_new: all entries were looked at now."""
        note = self.root / TOTAL
        with contextlib.suppress(OSError):
            seen = time.time() if is_new else note.stat().st_mtime
            note.write_text(str(total))
            os.utime(note, (seen, seen))

    def _sweep(self) -> None:
        """Remove what dead processes left, old lock files, and a zig cache that grew too large."""
        horizon = time.time() - STALE_S
        for folder in ("tmp", "locks"):
            with contextlib.suppress(FileNotFoundError):
                for item in os.scandir(self.root / folder):
                    with contextlib.suppress(FileNotFoundError):
                        if item.name != "prune" and item.stat().st_mtime < horizon:
                            _remove(Path(item.path), None)
        zig = self.root / "zig"
        if folder_bytes(zig) > ZIG_BYTES:
            _remove(zig, self.root / "tmp")

    def zig_folder(self) -> Path:
        """Where ziglang may keep its own cache."""
        return private_folder(self.root / "zig")


def open_cache() -> Cache:
    """The cache of this user.

    Where: OARLOCK_CACHE_DIR, else XDG_CACHE_HOME/oarlock, else HOME/.cache/oarlock, else a folder of
    the system's temporary folder.
    Raises: UserError when OARLOCK_CACHE_DIR is set and cannot be private to the user.
    """
    limit = knobs.CACHE_BYTES.value
    if knobs.CACHE_DIR.value:
        return Cache(private_folder(Path(knobs.CACHE_DIR.value)), limit)
    for place in _places():
        with contextlib.suppress(OSError, UserError):
            return Cache(private_folder(place), limit)
    return Cache(_process_folder(), limit)


def _places() -> Iterator[Path]:
    xdg, home = os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")
    if xdg and os.path.isabs(xdg):
        yield Path(xdg) / "oarlock"
    if home and os.path.isabs(home):
        yield Path(home) / ".cache" / "oarlock"
    yield Path(tempfile.gettempdir()) / f"oarlock-{_user()}"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


_process_folders: dict[int, Path] = {}


def _process_folder() -> Path:
    """A folder of this process alone, removed when it ends."""
    if os.getpid() not in _process_folders:
        path = Path(tempfile.mkdtemp(prefix="oarlock-"))
        _process_folders[os.getpid()] = path
        atexit.register(shutil.rmtree, path, True)
    return _process_folders[os.getpid()]


def private_folder(path: Path) -> Path:
    """Create ``path`` or check that it is a writable folder that only this user can enter.

    Raises: UserError when it is a symlink, not a folder, or another user's; OSError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError as error:
        raise UserError(f"cache folder {path}: {error.strerror}; set OARLOCK_CACHE_DIR") from None
    why = _not_private(found)
    if why:
        raise UserError(
            f"cache folder {path}: {why}; set OARLOCK_CACHE_DIR to a folder of your own"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cache folder {path}: not writable; set OARLOCK_CACHE_DIR")
    return path


def _not_private(found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if found.st_uid != _user():
        return f"belongs to user {found.st_uid}, not to {_user()}"
    return ""


def folder_bytes(path: Path) -> int:
    """Sum of the sizes of the files under ``path``."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _remove(path: Path, aside: Path | None) -> None:
    """Remove a file or folder; by way of a rename into ``aside``, so that no half is ever seen."""
    if aside is not None:
        target = private_folder(aside) / f"gone-{os.getpid()}-{time.monotonic_ns()}"
        try:
            os.rename(path, target)
        except OSError:
            return
        path = target
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
