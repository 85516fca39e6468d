"""One key a study, the same for everybody; and new master keys without touching what was sealed."""

import base64
import errno
import multiprocessing
import os
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from domain.errors import Misconfigured
from storage.instances import Spool
from storage.study_keys import KeyNotThere, MasterKey, Rotation, Sample, StudyKeys, read_master_keys, study_name
from tests.factories.arrivals import files_in

OLD, NEW = MasterKey(secret=b"o" * 32), MasterKey(secret=b"n" * 32)
STUDY = study_name("st-mary", "2.25.4711.1")


def key_files(keys: StudyKeys) -> list[Path]:
    return [path for path in files_in(keys.root) if path.suffix == ".key"]


def test_a_key_file_has_keys_in_hex_or_base64_the_one_in_use_first(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# made today\n{'6e' * 32}\n\n  {base64.b64encode(b'o' * 32).decode()}  \n", encoding="ascii")
    assert read_master_keys(path) == (NEW, OLD)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, r"storage\.encryption_key_file: .*keys cannot be read: .*No such file"),
        (b"", r"storage\.encryption_key_file: .*keys holds no key"),
        (b"# later\n", r"storage\.encryption_key_file: .*keys holds no key"),
        (b"6e" * 16, r"storage\.encryption_key_file: line 1 of .*keys is not 32 bytes in hex or base64"),
        (b"6e" * 32 + b"\nsecret", r"storage\.encryption_key_file: line 2 of .*keys is not 32 bytes in hex or base64"),
        (b"\xff" * 32, r"storage\.encryption_key_file: .*keys cannot be read"),
    ],
    ids=["missing", "empty", "a comment", "short", "second line", "raw bytes"],
)
def test_a_key_file_that_is_none_is_misconfigured_by_name(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match=complaint) as caught:
        read_master_keys(path)
    assert caught.value.hint == "make one with: openssl rand -hex 32"
    assert "secret" not in caught.value.message


def test_no_key_shows_where_objects_are_printed(tmp_path: Path) -> None:
    key = StudyKeys(tmp_path, [NEW]).key_of(STUDY)
    assert "secret" not in repr(key)
    assert "nnnn" not in repr(NEW)


def test_a_study_keeps_its_key_and_shares_it_with_none(tmp_path: Path) -> None:
    keys = StudyKeys(tmp_path, [NEW])
    first = keys.key_of(STUDY)
    assert keys.key_of(STUDY) == first
    assert StudyKeys(tmp_path, [NEW]).key_of(STUDY) == first
    assert keys.key_of(study_name("mercy", "2.25.4711.1")) != first
    assert len(first.secret) == 32


def test_no_key_lies_on_the_disk_as_it_is(tmp_path: Path) -> None:
    keys = StudyKeys(tmp_path, [NEW])
    secret = keys.key_of(STUDY).secret
    (path,) = files_in(keys.root)
    assert path.parent.name == path.name[:2]
    for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
        assert form not in path.read_bytes()


def ask_for_keys(data_dir: Path, start: Barrier, answers: "multiprocessing.Queue[list[str]]") -> None:
    keys = StudyKeys(data_dir, [NEW])
    start.wait()
    answers.put([keys.key_of(study_name("st-mary", f"1.2.{number}")).secret.hex() for number in range(20)])


def test_processes_that_ask_for_a_new_key_at_once_get_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(4), context.Queue()
    processes = [context.Process(target=ask_for_keys, args=(tmp_path, start, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    told = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert told[1:] == [told[0]] * 3
    assert len(set(told[0])) == 20
    assert len(files_in(StudyKeys(tmp_path, [NEW]).root)) == 20


def test_a_key_that_another_process_destroyed_is_not_used_any_more(tmp_path: Path) -> None:
    keys, other = StudyKeys(tmp_path, [NEW]), StudyKeys(tmp_path, [NEW])
    first = keys.key_of(STUDY)
    assert other.destroy(STUDY)
    assert not keys.still_holds(first)
    with pytest.raises(KeyNotThere, match="was destroyed"):
        keys.key_named(first.name)
    assert keys.key_of(STUDY) != first


def test_a_rotation_rewrites_the_small_files_only_and_all_stays_readable(tmp_path: Path) -> None:
    before = Spool(tmp_path, keys=StudyKeys(tmp_path, [OLD]))
    file = before.receive(STUDY)
    file.write(b"content")
    key = file.commit()
    sealed = before.path(key).read_bytes()

    both = StudyKeys(tmp_path, [NEW, OLD])
    assert both.rotate() == Rotation(rewrapped=1, current=0, lost=0)
    assert both.rotate() == Rotation(rewrapped=0, current=1, lost=0)
    assert before.path(key).read_bytes() == sealed
    with Spool(tmp_path, keys=StudyKeys(tmp_path, [NEW])).open(key) as opened:
        assert opened.read() == b"content"
    with pytest.raises(KeyNotThere, match=r"wrapped by master key '\w+', which is not in storage\.encryption_key_file"):
        Spool(tmp_path, keys=StudyKeys(tmp_path, [OLD])).open(key)


def test_a_rotation_tells_how_many_keys_it_could_not_open(tmp_path: Path) -> None:
    StudyKeys(tmp_path, [OLD]).key_of(STUDY)
    keys = StudyKeys(tmp_path, [NEW])
    keys.key_of(study_name("st-mary", "2.25.4711.2"))
    assert keys.rotate() == Rotation(rewrapped=0, current=1, lost=1)


def test_a_key_in_use_stays_good_through_a_rotation(tmp_path: Path) -> None:
    receiver = StudyKeys(tmp_path, [NEW, OLD])
    StudyKeys(tmp_path, [OLD]).key_of(STUDY)
    key = receiver.key_of(STUDY)
    StudyKeys(tmp_path, [NEW, OLD]).rotate()
    assert receiver.still_holds(key)


def test_a_crash_while_a_key_is_destroyed_leaves_none_that_nobody_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = StudyKeys(tmp_path, [NEW])
    first = keys.key_of(STUDY)

    def crash(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    monkeypatch.setattr("storage.study_keys.sync_directory", lambda folder: None)
    with pytest.raises(KeyboardInterrupt):
        keys.destroy(STUDY)
    monkeypatch.undo()
    again = StudyKeys(tmp_path, [NEW])
    assert again.sample() == Sample(looked_at=0, lost=0)
    assert again.key_of(STUDY) != first
    again.destroy(STUDY)
    assert files_in(again.root / "incoming") == []


def test_a_disk_that_is_full_keeps_nothing_of_a_key_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, [NEW]))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            spool.receive(STUDY)
    assert files_in(tmp_path) == []


def test_a_rotation_goes_on_where_a_key_was_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = StudyKeys(tmp_path, [OLD])
    names = [old.key_of(study_name("st-mary", f"1.{number}")).name for number in range(3)]
    both = StudyKeys(tmp_path, [NEW, OLD])
    paths = list(both._paths())
    monkeypatch.setattr(both, "_paths", lambda: iter(paths))
    old.remove(names[1])
    assert both.rotate() == Rotation(rewrapped=2, current=0, lost=0)


def test_a_damaged_key_file_is_said_to_be_so(tmp_path: Path) -> None:
    keys = StudyKeys(tmp_path, [NEW])
    keys.key_of(STUDY)
    (path,) = key_files(keys)
    content = path.read_text(encoding="ascii")
    path.write_text(content[:-3] + ("0" if content[-3] != "0" else "1") + content[-2:], encoding="ascii")
    with pytest.raises(KeyNotThere, match="the file with its key is damaged"):
        keys.key_of(STUDY)


def test_a_key_file_with_bytes_that_are_no_text_is_one_that_nobody_can_open(tmp_path: Path) -> None:
    damaged, sound = StudyKeys(tmp_path, [OLD]).key_of(STUDY), StudyKeys(tmp_path, [OLD]).key_of("")
    path = StudyKeys(tmp_path, [OLD])._path(damaged.name)
    path.write_bytes(b"\xe5" + path.read_bytes()[1:])
    keys = StudyKeys(tmp_path, [NEW, OLD])
    with pytest.raises(KeyNotThere):
        keys.key_of(STUDY)
    assert keys.rotate() == Rotation(rewrapped=1, current=0, lost=1)
    assert keys.key_of("") == sound


def test_a_rotation_does_not_bring_back_what_is_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, both = StudyKeys(tmp_path, [OLD]), StudyKeys(tmp_path, [NEW, OLD])
    name = old.key_for("f" * 32).name
    remover = threading.Thread(target=old.remove, args=(name,))
    unwrap = both._unwrap

    def slow(path: Path) -> bytes:
        secret = unwrap(path)
        remover.start()
        remover.join(timeout=0.2)
        return secret

    monkeypatch.setattr(both, "_unwrap", slow)
    both.rotate()
    remover.join(timeout=60)
    assert key_files(old) == []


def test_a_key_whose_destroyer_died_is_overwritten_and_the_other_name_of_one_in_use_only_removed(
    tmp_path: Path,
) -> None:
    keys = StudyKeys(tmp_path, [NEW])
    used, doomed = keys.key_of(STUDY), keys.key_of("")
    os.link(keys._path(used.name), keys.root / "incoming" / "linked")
    os.rename(keys._path(doomed.name), keys.root / "incoming" / doomed.name)
    for path in (keys.root / "incoming").iterdir():
        os.utime(path, (0, 0))
    with open(keys.root / "incoming" / doomed.name, "rb") as file:
        again = StudyKeys(tmp_path, [NEW])
        assert set(file.read()) == {0}
    assert files_in(keys.root / "incoming") == []
    assert again.key_of(STUDY) == used


def test_a_key_that_may_not_be_written_is_removed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever rotated the keys was another user than the node's."""
    keys = StudyKeys(tmp_path, [NEW])
    keys.key_of(STUDY)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("storage.study_keys._overwrite", refuse)
    assert keys.destroy(STUDY)
    assert files_in(keys.root) == []


def test_what_a_crash_left_half_made_is_cleared_away_once_it_is_old(tmp_path: Path) -> None:
    incoming = StudyKeys(tmp_path, [NEW]).root / "incoming"
    for name, age_s in (("old", 7200), ("new", 60)):
        (incoming / name).write_bytes(b"?")
        then = (incoming / name).stat().st_mtime - age_s
        os.utime(incoming / name, (then, then))
    StudyKeys(tmp_path, [NEW])
    assert [path.name for path in files_in(incoming)] == ["new"]


def test_of_many_keys_only_so_many_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.study_keys.KEPT_KEYS", 2)
    keys = StudyKeys(tmp_path, [NEW])
    secrets = [keys.key_of(study_name("st-mary", f"1.{number}")).secret for number in range(4)]
    assert len(keys._known) == 2
    assert [keys.key_of(study_name("st-mary", f"1.{number}")).secret for number in range(4)] == secrets
