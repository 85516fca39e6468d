"""The shared store keeps whole objects for all machines, in a folder and in a bucket alike."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from domain.errors import Away, Misconfigured
from storage.instances import ResultFolder, Spool
from storage.requests.confirmation_folder import Asked, ConfirmationFolder
from storage.shared.files import SharedFiles
from storage.shared.folder import SharedFolder
from storage.shared.store import NotThere, SharedStore
from storage.shared.url import open_shared_store
from tests.factories.arrivals import files_in, spooled
from tests.factories.shared_stores import CREDENTIALS, MotoServer, bucket_url
from tests.factories.sources import radiograph

ROOT = Path(__file__).parent.parent.parent
LARGE = bytes(range(256)) * (12 << 12)  # 12 MiB: a bucket takes it in parts


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        (tmp_path / "mnt" / "collimator").mkdir(parents=True)
        return f"file://{tmp_path}/mnt/collimator"
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return bucket_url(request.getfixturevalue("moto"), tmp_path.name)


@pytest.fixture
def store(url: str) -> SharedStore:
    return open_shared_store(url)


@pytest.fixture
def machines(url: str, tmp_path: Path) -> tuple[Spool, Spool]:
    """Two machines with disks of their own."""
    first, second = (
        Spool(tmp_path / name, shared=SharedFiles(open_shared_store(url), tmp_path / name / "cache"))
        for name in ("first", "second")
    )
    return first, second


def content_of(store: SharedStore, name: str) -> bytes:
    target = BytesIO()
    store.get(name, target)
    return target.getvalue()


def test_what_was_put_is_there_as_it_was(store: SharedStore, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(LARGE)
    store.put("instances/ab/large.dcm", large)
    store.put("results/cd/small.dcm", b"small")
    store.put("results/cd/small.dcm", b"small")
    assert content_of(store, "instances/ab/large.dcm") == LARGE
    assert content_of(store, "results/cd/small.dcm") == b"small"


def test_what_is_not_there_is_told_from_a_store_that_is_not_there(store: SharedStore) -> None:
    store.put("instances/ab/one.dcm", b"one")
    assert (store.exists("instances/ab/one.dcm"), store.exists("instances/ab/two.dcm")) == (True, False)
    with pytest.raises(NotThere):
        content_of(store, "instances/ab/two.dcm")


def test_removing_twice_is_harmless(store: SharedStore) -> None:
    store.put("instances/ab/one.dcm", b"one")
    for _ in range(2):
        store.remove("instances/ab/one.dcm")
    assert not store.exists("instances/ab/one.dcm")


def test_a_list_names_what_is_under_it_and_when_it_came(store: SharedStore) -> None:
    store.put("instances/ab/one.dcm", b"one")
    store.put("instances/cd/two.dcm", b"two")
    store.put("results/cd/three.dcm", b"three")
    listed = {one.name: one.modified_at for one in store.list("instances")}
    assert sorted(listed) == ["instances/ab/one.dcm", "instances/cd/two.dcm"]
    assert all(abs(datetime.now(UTC) - at) < timedelta(minutes=5) for at in listed.values())


def test_a_folder_that_is_not_mounted_is_away_and_is_not_made(tmp_path: Path) -> None:
    store = open_shared_store(f"file://{tmp_path}/mnt/collimator")
    asks = (
        lambda: store.put("a/b.dcm", b"one"),
        lambda: store.exists("a/b.dcm"),
        lambda: content_of(store, "a/b.dcm"),
        lambda: store.remove("a/b.dcm"),
        lambda: list(store.list("a")),
    )
    for ask in asks:
        with pytest.raises(Away, match="is not there"):
            ask()
    assert not (tmp_path / "mnt").exists()


def test_a_bucket_that_cannot_be_reached_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = open_shared_store("s3://hospital/x?region=us-east-1&endpoint_url=http://127.0.0.1:1")
    asks = (
        lambda: store.put("a/b.dcm", b"one"),
        lambda: store.exists("a/b.dcm"),
        lambda: content_of(store, "a/b.dcm"),
        lambda: store.remove("a/b.dcm"),
        lambda: list(store.list("a")),
    )
    for ask in asks:
        with pytest.raises(Away, match="cannot be reached"):
            ask()


def test_a_bucket_that_nobody_made_is_away(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = open_shared_store(f"s3://other/x?region=us-east-1&endpoint_url={moto.endpoint_url}")
    with pytest.raises(Away, match="is not there"):
        store.put("a/b.dcm", b"one")
    with pytest.raises(Away, match="is not there"):
        content_of(store, "a/b.dcm")


@pytest.mark.parametrize(
    "url",
    ["/mnt/shared", "file://host/mnt", "file:relative", "file:///", "s3:///prefix", "ftp://host/x", "file:///mnt?a=b"],
)
def test_what_names_no_store_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"storage\.shared_url"):
        open_shared_store(url)


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/x", "s3://bucket/x?aws_secret_access_key=secret"])
def test_credentials_in_the_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        open_shared_store(url)
    assert "secret" not in refused.value.message
    assert "AWS_SECRET_ACCESS_KEY" in refused.value.hint


def test_a_file_in_the_folder_is_synced_before_it_has_its_name_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(call: str) -> Callable[..., object]:
        original = getattr(os, call)

        def do(*args: object) -> object:
            done.append(call)
            return original(*args)

        return do

    for call in ("fdatasync", "rename", "fsync"):
        monkeypatch.setattr(os, call, noted(call))
    store = SharedFolder(tmp_path)
    store.put("instances/ab/one.dcm", b"one")
    done.clear()
    store.put("instances/ab/two.dcm", b"two")
    assert done == ["fdatasync", "rename", "fsync"]


def test_a_put_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(Away, match="No space left"):
        SharedFolder(tmp_path).put("instances/ab/one.dcm", b"one")
    assert files_in(tmp_path) == []


def test_an_instance_that_one_machine_shared_is_read_by_another(machines: tuple[Spool, Spool]) -> None:
    first, second = machines
    key = spooled(first, radiograph(1))
    original = first.path(key).read_bytes()
    first.share(key)
    first.let_go(key)
    for spool in machines:
        assert spool.has(key)
        with spool.open(key) as file:
            assert file.read() == original
    with second.lend_at(str(second.path(key))) as descriptor:
        assert os.pread(descriptor, len(original) + 1, 0) == original


def test_what_is_removed_is_gone_for_all_and_from_the_cache_here(machines: tuple[Spool, Spool]) -> None:
    first, _ = machines
    key = spooled(first, radiograph(1))
    first.share(key)
    first.let_go(key)
    first.open(key).close()
    first.remove(key)
    assert not any(spool.has(key) for spool in machines)
    for spool in machines:
        with pytest.raises(FileNotFoundError):
            spool.open(key)


def test_a_result_of_one_machine_is_read_and_removed_by_another(url: str, tmp_path: Path) -> None:
    first, second = (
        ResultFolder(tmp_path / name, shared=SharedFiles(open_shared_store(url), tmp_path / name / "cache"))
        for name in ("first", "second")
    )
    first.put("2.25.7", b"result", study="st-mary/1.2.3")
    assert files_in(first.root) == []
    with second.lend("2.25.7") as descriptor:
        assert os.pread(descriptor, 100, 0) == b"result"
    second.remove("2.25.7")
    with pytest.raises(FileNotFoundError):
        first.open("2.25.7")


def test_results_from_before_there_was_a_shared_store_move_into_it(url: str, tmp_path: Path) -> None:
    ResultFolder(tmp_path / "first").put("2.25.7", b"result", study="st-mary/1.2.3")
    first, second = (
        ResultFolder(tmp_path / name, shared=SharedFiles(open_shared_store(url), tmp_path / name / "cache"))
        for name in ("first", "second")
    )
    assert (first.move_out(), first.move_out(), files_in(first.root)) == (1, 0, [])
    with second.open("2.25.7") as file:
        assert file.read() == b"result"


class Counting(SharedFolder):
    """A folder that counts what is fetched from it."""

    fetched = 0

    def get(self, name: str, target: object) -> None:
        self.fetched += 1
        super().get(name, target)  # type: ignore[arg-type]


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    (tmp_path / "mnt").mkdir()
    store = Counting(tmp_path / "mnt")
    for number in range(4):
        store.put(f"instances/ab/{number}.dcm", bytes([number]) * 100)
    return store


def read(files: SharedFiles, number: int) -> bytes:
    with files.open(f"instances/ab/{number}.dcm") as file:
        return file.read()


def test_what_was_fetched_is_not_fetched_again(counting: Counting, tmp_path: Path) -> None:
    one, other = (SharedFiles(counting, tmp_path / "cache") for _ in range(2))
    assert [read(one, 1), read(one, 1), read(other, 1)] == [b"\1" * 100] * 3
    assert counting.fetched == 1


def test_the_cache_keeps_to_its_limit_and_the_lately_opened(counting: Counting, tmp_path: Path) -> None:
    files = SharedFiles(counting, tmp_path / "cache", cache_bytes=250)
    for number in (1, 2):
        read(files, number)
        os.utime(tmp_path / "cache" / f"{number}.dcm", (time.time() - 60 / number, time.time() - 60 / number))
    read(files, 3)
    assert [path.name for path in files_in(tmp_path / "cache")] == ["2.dcm", "3.dcm"]


def test_the_cache_forgets_what_nobody_opened_for_an_hour(counting: Counting, tmp_path: Path) -> None:
    files = SharedFiles(counting, tmp_path / "cache")
    for number in (1, 2):
        read(files, number)
    os.utime(tmp_path / "cache" / "1.dcm", (time.time() - 3700, time.time() - 3700))
    files.trim()
    assert [path.name for path in files_in(tmp_path / "cache")] == ["2.dcm"]


def test_the_cache_may_be_a_file_system_with_folders_of_its_own(counting: Counting, tmp_path: Path) -> None:
    files = SharedFiles(counting, tmp_path / "cache", cache_bytes=1)
    (tmp_path / "cache" / "lost+found").mkdir()
    os.utime(tmp_path / "cache" / "lost+found", (0, 0))
    read(files, 1)
    files.empty()
    assert os.listdir(tmp_path / "cache") == ["lost+found"]


def test_a_file_that_is_open_survives_the_emptying_of_the_cache(counting: Counting, tmp_path: Path) -> None:
    files = SharedFiles(counting, tmp_path / "cache")
    with files.open("instances/ab/1.dcm") as file:
        files.empty()
        assert files_in(tmp_path / "cache") == []
        assert file.read() == b"\1" * 100


def test_a_cache_that_cannot_be_written_is_nobodys_fault(counting: Counting, tmp_path: Path) -> None:
    files = SharedFiles(counting, tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    with pytest.raises(Away, match="cache"):
        files.open("instances/ab/1.dcm")


def test_a_node_without_a_bucket_does_not_even_load_what_speaks_to_one() -> None:
    code = (
        "import sys, cli.listener, cli.indexer, cli.worker\n"
        "from storage.shared.url import open_shared_store\n"
        "open_shared_store('file:///mnt/shared/collimator')\n"
        "print('obstore' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (loaded.stdout.strip(), loaded.stderr) == ("False", "")


def test_who_was_asked_to_commit_is_known_to_the_machine_that_the_report_comes_to(url: str, tmp_path: Path) -> None:
    asked = Asked(clinic="st-mary", destination="pacs")
    worker, receiver = (
        ConfirmationFolder(tmp_path / name, shared=open_shared_store(url)) for name in ("worker", "receiver")
    )
    worker.remember("2.25.9", asked)
    assert receiver.asked_under("2.25.9") == asked
    assert receiver.asked_under("2.25.8") is None
    assert receiver.forget_old() == 0
    assert worker.asked_under("2.25.9") == asked
