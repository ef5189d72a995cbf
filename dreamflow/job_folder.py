"""The folder of an unfinished output, `.NAME.dreamflow/` beside it: all that a resume needs.

    lock               who renders: the process holds a lock on it as long as it lives
    fingerprint.json   what the pictures hang on; a render goes on only where all of it is the same
    preset.yaml        the preset with every value spelled out, for people
    journal            a line for each finished chunk, see `journal`
    journal-000012     the same of a part that a worker makes by itself, from that chunk on
    000003.video       a chunk: a run of frames of fixed length, encoded
    000003.aside       frames of it that are needed again
    000003.state       the state after its last frame, see `checkpoint`; some of them are kept
    placed             which file became the output, once it has

Every file is written under another name, synced, and renamed; after that the journal tells of it.
Names come from numbers, never from what is read in the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from dreamflow.errors import ChangedError, DreamflowError, OutputError, StoppedError, StorageError
from dreamflow.journal import Entry, Journal, Seal
from dreamflow.video.ffmpeg import open_regular
from dreamflow.video.stills import place, temporary_beside
from dreamflow.video.writer import discard

logger = logging.getLogger("dreamflow")

Fingerprint = Mapping[str, str]

KEPT_STATES = 8
"""Every so many chunks a state is kept for good, to go on from should a chunk get lost; besides the
last two, for the last chunk is the likeliest to."""

_LOCK, _PLACED, _JOURNAL = "lock", "placed", "journal"
_MAX_NAME_BYTES = 255
_MAX_TEXT_BYTES = 1 << 20
_CHANGES_TOLD = 4
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def _part_name(part: int | str) -> str:
    return f"{_JOURNAL}-{part:06}" if isinstance(part, int) else f"{_JOURNAL}-{part}"


def folder_of(target: Path) -> Path:
    """Where the folder for an output lies; its name is cut where it would be too long."""
    ending = ".dreamflow"
    name = os.fsencode(target.name)[: _MAX_NAME_BYTES - len(ending) - 1]
    return target.parent / f".{os.fsdecode(name)}{ending}"


class JobFolder:
    """The folder for `target`, opened for one render and locked, as a context manager.

    What an earlier render of the same `fingerprint` finished is taken over, if it is still as it
    was. The folder stays where something in it is worth keeping; `done` ends its life.

    Several processes can make parts of one output: whoever sent for them has the lock (`held`, see
    `Hold`), and each with a `part`, the number of its first chunk, has a journal of its own.

    Raises StoppedError while another process has it, ChangedError for another fingerprint, unless
    `restart` discards what there is.
    """

    def __init__(
        self,
        target: Path,
        fingerprint: Fingerprint,
        *,
        preset: str,
        restart: bool = False,
        held: bool = False,
        part: int | None = None,
    ) -> None:
        self.path = folder_of(target)
        self._target, self._fingerprint, self._preset = target, fingerprint, preset
        self._restart, self._held, self._part = restart, held, part

    def __enter__(self) -> Self:
        if self._part is not None:
            with _as_storage_error(self.path):
                self._join_in(self._part)
            return self
        with _as_storage_error(self.path):
            self._lock = None if self._held else _locked(self.path, self._target)
            try:
                self._take_over()
            except BaseException:
                self._unlock()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._part is not None:
            return
        if not (self._journal.entries or self.is_placed or self._held):
            self.discard()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def discard(self) -> None:
        """Remove the folder; what is known of an output that is in its place goes last.

        Of that the fingerprint stays longest: while the output passes for this render's, it must be
        possible to see which render that was.
        """
        last = (_PLACED, "fingerprint.json", _LOCK)
        self._clear(last)
        for name in last:
            discard(self.path / name)
        with contextlib.suppress(OSError):  # another process may have come meanwhile
            self.path.rmdir()

    # ── the output ──

    def announce(self, output: Path) -> None:
        """The output is finished and will be moved into its place next."""
        self._write(_PLACED, _identity(output))

    @property
    def is_placed(self) -> bool:
        """Whether the output is in its place already."""
        return is_placed(self._target)

    # ── chunks ──

    @property
    def finished(self) -> frozenset[int]:
        """Numbers of the finished chunks."""
        return frozenset(self._journal.entries)

    @property
    def finished_bytes(self) -> int:
        """Room that the pictures in them take."""
        seals = (entry.seals.get("video") for entry in self._journal.entries.values())
        return sum(seal.size for seal in seals if seal)

    def file(self, chunk: int, kind: str) -> Path:
        """Where a finished chunk's file of a kind lies: `video`, `aside` or `state`."""
        return self.path / f"{chunk:06}.{kind}"

    def drafts(self) -> list[Path]:
        """The encoded chunks, in order."""
        chunks = sorted(self._journal.entries.values(), key=lambda entry: entry.chunk)
        return [self.file(entry.chunk, "video") for entry in chunks if "video" in entry.seals]

    @contextlib.contextmanager
    def writing(self, chunk: int, *kinds: str) -> Iterator[Mapping[str, Path]]:
        """Names to write a chunk's files to; after the block the chunk is finished.

        Those that were not written are left out. An exception takes all of them away.
        """
        files = {kind: temporary_beside(self.file(chunk, kind)) for kind in kinds}
        try:
            yield files
            with _as_storage_error(self.path):
                self._finish(chunk, {kind: path for kind, path in files.items() if path.exists()})
        finally:
            for path in files.values():
                discard(path)

    def _finish(self, chunk: int, files: Mapping[str, Path]) -> None:
        seals = {}
        for kind, path in files.items():
            seals[kind] = Seal.of(path)
            discard(self.file(chunk, kind))
            place(path, self.file(chunk, kind))
        self._journal.append(Entry(chunk, seals))
        for number in (chunk - 2, chunk - 1, chunk):
            self._drop_state(number)

    def state_before(self, chunk: int) -> int | None:
        """The last chunk before `chunk` whose state is there and whole; None if there is none."""
        for number in sorted((each for each in self.finished if each < chunk), reverse=True):
            seal = self._journal.entries[number].seals.get("state")
            path = self.file(number, "state")
            if seal and os.path.lexists(path):
                if _is_as_sealed(path, seal):
                    return number
                logger.warning("%s is damaged: an earlier one is taken", path)
                discard(path)
        return None

    def _drop_state(self, number: int) -> None:
        """Remove a state that nothing goes on from, unless it is one of those that are kept."""
        following = {number, number + 1, number + 2}
        if following <= self.finished and (number + 1) % KEPT_STATES:
            self.file(number, "state").unlink(missing_ok=True)

    # ── what was here before ──

    def _join_in(self, part: int) -> None:
        """Know what this part and all renders before have finished; who joins it looks at it."""
        self._journal = Journal(self.path / _part_name(part))
        self._compare()
        for chunk, entry in Journal(self.path / _JOURNAL).entries.items():
            self._journal.entries.setdefault(chunk, entry)

    def _take_over(self) -> None:
        if self._restart:
            self._forget()
        self._journal = Journal(self.path / _JOURNAL)
        begun = self._journal.entries or self.is_placed or any(self._part_journals())
        if begun:
            self._compare()
            self._gather_parts()
            if not self.is_placed:
                self._forget_damaged()
            for path in self.path.glob(".dreamflow-*"):
                discard(path)
            return
        if self._journal.damaged_lines:
            logger.warning("all lines of the unfinished render are damaged: it begins anew")
        self._clear((_LOCK,))
        self._journal = Journal(self.path / _JOURNAL)
        self._write("fingerprint.json", json.dumps(dict(self._fingerprint), indent=1))
        self._write("preset.yaml", self._preset)

    def _part_journals(self) -> list[Path]:
        return sorted(self.path.glob(_part_name("*")))

    def _gather_parts(self) -> None:
        """Enter into the journal what parts have finished."""
        for path in self._part_journals():
            for chunk, entry in Journal(path).entries.items():
                if chunk not in self.finished:
                    self._journal.append(entry)
            path.unlink()

    def _compare(self) -> None:
        known = _read_fingerprint(self.path / "fingerprint.json")
        if known is None:
            raise ChangedError(f"{self.path} is damaged: give --restart to discard it")
        if changes := list(_changes(known, self._fingerprint)):
            more = f" and {len(changes) - _CHANGES_TOLD} more" * (len(changes) > _CHANGES_TOLD)
            raise ChangedError(
                f"{self._target} was begun in another way, and {len(self.finished)} finished "
                f"chunks are kept: {'; '.join(changes[:_CHANGES_TOLD])}{more} "
                "(run it as before to go on, or give --restart to discard them)"
            )

    def _forget_damaged(self) -> None:
        entries = self._journal.entries
        damaged = [entry.chunk for entry in entries.values() if not self._is_whole(entry)]
        for chunk in damaged:
            del entries[chunk]
        if damaged or self._journal.damaged_lines:
            which = f"chunk {', '.join(map(str, sorted(damaged)))}" if damaged else "a line"
            logger.warning(
                "%s of the unfinished render is damaged: what it held is rendered again", which
            )

    def _is_whole(self, entry: Entry) -> bool:
        """Whether all files of a chunk are as they were; its state is looked at when needed."""
        return all(
            _is_as_sealed(self.file(entry.chunk, kind), seal)
            for kind, seal in entry.seals.items()
            if kind != "state"
        )

    def _forget(self) -> None:
        """Remove what was finished, so that wherever it is cut short the rest can be taken up."""
        for path in (self.path / _PLACED, self.path / _JOURNAL, *self._part_journals()):
            discard(path)
        self._clear(("fingerprint.json", _LOCK))
        discard(self.path / "fingerprint.json")

    def _clear(self, but: Collection[str]) -> None:
        for path in self.path.iterdir():
            if path.name not in but:
                discard(path)

    def _write(self, name: str, text: str) -> None:
        temporary = temporary_beside(self.path / name)
        temporary.write_text(text, "utf-8")
        place(temporary, self.path / name)


class Hold:
    """The lock on an output's folder, kept for others that make parts of it.

    Raises StoppedError while another process has it.
    """

    def __init__(self, target: Path) -> None:
        self._path = folder_of(target)
        with _as_storage_error(self._path):
            self._lock = _locked(self._path, target)

    def release(self) -> None:
        """Let go of it; a folder with nothing finished in it goes away."""
        kept = any(self._path.glob("*.video")) or (self._path / _PLACED).exists()
        if self._path.exists() and not kept:
            discard(self._path)
        os.close(self._lock)


def is_placed(target: Path) -> bool:
    """Whether what is at `target` was put there by the render whose folder is still beside it."""
    try:
        return _small_text(folder_of(target) / _PLACED) == _identity(target)
    except (OSError, ValueError, DreamflowError):
        return False


def _identity(path: Path) -> str:
    """What tells a file or folder from all others, whatever its name."""
    facts = path.stat()
    return f"{facts.st_dev} {facts.st_ino} {facts.st_mtime_ns}"


# ── who has it ───────────────────────────────────────────────────────────────────────────────────


def _locked(path: Path, target: Path) -> int:
    """A descriptor that holds the lock on the folder, which is made if it is not there.

    The system lets go of it when the process ends, in whatever way.
    """
    while True:
        _make(path)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path / _LOCK, flags, 0o666)
        except FileNotFoundError:
            continue  # the one who had it is done just now
        try:
            _take(descriptor, target)
            if _is_at(descriptor, path / _LOCK):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _make(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {path}: {error.strerror}") from None
    if path.is_symlink():
        raise OutputError(f"{path} is a link: remove it")


def _take(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 400, 0).decode("utf-8", "replace").strip()
        raise StoppedError(
            f"{target} is being rendered by {owner or 'another process'}: wait for it to end, or "
            "give the output another name"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.info("the file system of %s has no locks", target)
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


# ── what it is about ─────────────────────────────────────────────────────────────────────────────


def _read_fingerprint(path: Path) -> Fingerprint | None:
    """None if it is not as it was written."""
    try:
        found = json.loads(_small_text(path))
    except (OSError, ValueError, RecursionError, DreamflowError):
        return None
    return found if isinstance(found, dict) else None


def _small_text(path: Path) -> str:
    """Of a file of our own; whoever puts a device or a pipe in its place is not waited for.

    Raises OSError, ValueError or InputMissingError for what cannot be one of ours.
    """
    with open(open_regular(path), "rb") as file:
        data = file.read(_MAX_TEXT_BYTES + 1)
    if len(data) > _MAX_TEXT_BYTES:
        raise ValueError("too long")
    return data.decode("utf-8")


def _is_as_sealed(path: Path, seal: Seal) -> bool:
    try:
        return seal.fits(path)
    except (DreamflowError, OSError):
        return False


def _changes(known: Fingerprint, wanted: Fingerprint) -> Iterator[str]:
    """What differs, in words."""
    for key in sorted({*known, *wanted}):
        before, now = known.get(key), wanted.get(key)
        if before == now:
            continue
        if key.endswith(_DIGEST):
            what = key.removesuffix(_DIGEST)
            yield f"the {what} are others" if what.endswith("s") else f"the {what} is another"
        else:
            yield f"{key} was {_shortened(before)}, is {_shortened(now)}"


_DIGEST = " SHA-256"


def _shortened(value: object) -> str:
    text = "not given" if value in (None, "") else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextlib.contextmanager
def _as_storage_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write into {path}: {error.strerror}") from error
