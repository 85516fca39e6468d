"""What an administrator is told who rotates keys or erases a study."""

from pathlib import Path

import pydicom
import pytest

from cli.__main__ import main
from storage.database import Database
from storage.instances import Spool
from storage.intake import record_instances, sync_clinics
from storage.shared.files import SharedFiles
from storage.shared.folder import SharedFolder
from storage.study_keys import MasterKey, StudyKeys, read_master_keys, study_name
from tests.factories.arrivals import provenance, read_back, spooled
from tests.factories.sources import radiograph

CONFIGURATION = """\
[node]
data_dir = "{data_dir}"
{storage}
"""
OLD_KEY, NEW_KEY = "6f" * 32, "6e" * 32


class Collimator:
    """Runs `collimator storage`, and returns its exit status, stdout and stderr."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data_dir, self.key_file, self.more = folder / "var", folder / "keys", ""
        self._config, self._capsys = folder / "collimator.toml", capsys

    def __call__(self, *arguments: str, encrypts: bool = True) -> tuple[int, str, str]:
        storage = f'[storage]\nencryption_key_file = "{self.key_file}"' if encrypts else self.more
        self._config.write_text(CONFIGURATION.format(data_dir=self.data_dir, storage=storage), encoding="utf-8")
        status = main(["storage", *arguments, "--config", str(self._config)])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err


@pytest.fixture
def collimator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Collimator:
    return Collimator(tmp_path, capsys)


def test_without_a_key_file_there_is_nothing_to_rotate(collimator: Collimator) -> None:
    complaint = "collimator: storage.encryption_key_file is not set: nothing is encrypted at rest\n"
    assert collimator("rotate-keys", encrypts=False) == (2, "", complaint)


def test_a_key_file_that_is_missing_or_short_is_named(collimator: Collimator) -> None:
    status, _, complaint = collimator("rotate-keys")
    assert (status, "storage.encryption_key_file" in complaint, "openssl rand -hex 32" in complaint) == (2, True, True)
    collimator.key_file.write_text("6f6f")
    status, _, complaint = collimator("rotate-keys")
    assert (status, "line 1" in complaint, "6f6f" in complaint) == (2, True, False)


def test_keys_are_rotated_once_and_a_lost_master_key_is_told(collimator: Collimator) -> None:
    keys = StudyKeys(collimator.data_dir, [MasterKey(secret=b"o" * 32)])
    keys.key_of(study_name("st-mary", "1.2.3"))
    collimator.key_file.write_text(NEW_KEY)
    status, told, complaint = collimator("rotate-keys")
    assert (status, told) == (1, "0 study keys were wrapped with the first key, 0 already were\n")
    assert complaint.startswith("collimator: 1 study keys are wrapped with a key that is not in the key file")
    collimator.key_file.write_text(f"{NEW_KEY}\n{OLD_KEY}\n")
    assert collimator("rotate-keys") == (0, "1 study keys were wrapped with the first key, 0 already were\n", "")
    assert collimator("rotate-keys") == (0, "0 study keys were wrapped with the first key, 1 already were\n", "")


def test_a_study_that_is_not_there_cannot_be_erased(collimator: Collimator) -> None:
    status, told, complaint = collimator("erase", "--clinic", "st-mary", "1.2.3", encrypts=False)
    assert (status, told, complaint) == (1, "", "collimator: st-mary has no study '1.2.3'\n")


def test_what_a_stranger_sent_is_erased_by_its_study_for_no_clinic(collimator: Collimator) -> None:
    assert collimator("erase", "--clinic", "", "1.2.3", encrypts=False) == (
        1,
        "",
        "collimator: nothing of study '1.2.3' came from a caller of no clinic\n",
    )
    spool, database = Spool(collimator.data_dir), Database(f"sqlite:///{collimator.data_dir}/collimator.db")
    image = radiograph(1)
    record_instances(
        database, spool, [read_back(spool, spooled(spool, image, how=provenance(clinic="", calling_ae_title="X")))]
    )
    told = collimator("erase", "--clinic", "", str(image.StudyInstanceUID), encrypts=False)
    assert told == (0, "erased: 1 instances and 0 results\n", "")
    assert list(spool.stored_keys()) == []
    database.close()


def test_one_instance_is_removed_from_quarantine_and_what_is_in_use_is_not(collimator: Collimator) -> None:
    collimator.more = '[[clinics]]\nname = "st-mary"\ntier = "basic"'
    spool, database = Spool(collimator.data_dir), Database(f"sqlite:///{collimator.data_dir}/collimator.db")
    database.migrate()
    sync_clinics(database, {"st-mary": "basic"})
    first, other = radiograph(1), radiograph(1)
    other.StudyDescription = "other"
    used, aside = (spooled(spool, image) for image in (first, other))
    record_instances(database, spool, [read_back(spool, key) for key in (used, aside)])
    assert collimator("discard", aside, encrypts=False) == (0, f"removed: {aside}\n", "")
    assert set(spool.stored_keys()) == {used}
    for key in (aside, used):
        status, told, complaint = collimator("discard", key, encrypts=False)
        assert (status, told) == (1, "")
        assert complaint.startswith(f"collimator: {key} is not in quarantine")
    assert set(spool.stored_keys()) == {used}
    database.close()


def test_there_is_nothing_to_adopt_without_a_shared_store(collimator: Collimator) -> None:
    complaint = "storage.shared_url is not set: a receiver brings in by itself what is in its spool"
    assert collimator("adopt", encrypts=False) == (2, "", f"collimator: {complaint}\n")


def test_what_is_in_the_shared_store_without_a_row_is_adopted_once_and_can_be_looked_at(
    collimator: Collimator, tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    shared = SharedFiles(SharedFolder(tmp_path / "mnt"), tmp_path / "burned" / "cache")
    key = spooled(Spool(tmp_path / "burned", shared=shared, shares_before_commit=True), radiograph(1))
    collimator.more = f'[storage]\nshared_url = "file://{tmp_path}/mnt"\n[[clinics]]\nname = "st-mary"\ntier = "basic"'
    adopt = ("adopt", "--older-than-minutes", "0")
    assert collimator(*adopt, encrypts=False) == (0, "1 instances have no row\n1 kept\n", "")
    assert collimator(*adopt, encrypts=False) == (0, "0 instances have no row\n", "")
    assert collimator("get", key, str(tmp_path / "one.dcm"), encrypts=False) == (0, "", "")
    assert pydicom.dcmread(tmp_path / "one.dcm").SOPInstanceUID == radiograph(1).SOPInstanceUID
    status, _, complaint = collimator("get", "f" * 32, str(tmp_path / "two.dcm"), encrypts=False)
    assert (status, "it is not in the shared store" in complaint) == (1, True)


@pytest.mark.parametrize("place", [0.5, 1.0], ids=["in the middle", "at the end"])
def test_of_a_sealed_instance_that_is_damaged_nothing_is_written(
    collimator: Collimator, tmp_path: Path, place: float
) -> None:
    collimator.key_file.write_text(OLD_KEY)
    spool = Spool(collimator.data_dir, keys=StudyKeys(collimator.data_dir, read_master_keys(collimator.key_file)))
    image = radiograph(1)
    image.Rows, image.Columns, image.PixelData = 600, 600, bytes(2 * 600 * 600)  # several blocks
    key = spooled(spool, image)
    sealed = bytearray(spool.path(key).read_bytes())
    sealed[round(place * (len(sealed) - 1))] ^= 1
    spool.path(key).write_bytes(sealed)
    status, told, complaint = collimator("get", key, str(tmp_path / "one.dcm"))
    assert (status, told) == (1, "")
    assert "the sealed file is damaged: block " in complaint
    assert complaint.endswith("(FILE was not written)\n")
    assert not (tmp_path / "one.dcm").exists()


@pytest.mark.parametrize("minutes", ["-5", "nan", "inf", "soon"])
def test_what_is_no_age_is_wrong_usage(collimator: Collimator, minutes: str) -> None:
    with pytest.raises(SystemExit) as caught:
        collimator("adopt", f"--older-than-minutes={minutes}", encrypts=False)
    assert caught.value.code == 2
