"""`collimator rules explain`: why a file goes where it goes, before it is sent."""

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from cli.__main__ import main
from tests.factories.packages import build_package
from tests.factories.sources import radiograph

RG1, RG3 = (Path(str(get_testdata_file(f"{name}_UNCR.dcm"))) for name in ("RG1", "RG3"))


def test_a_real_chest_of_an_adult_goes_to_the_chest_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "explain", str(RG1)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(RG1)
    assert lines[1].endswith(
        "Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest"
    )
    assert "  Body Part Examined (0018,0015) 'CHEST': chest" in lines
    assert "  Study Description (0008,1030) 'THORAX': chest" in lines


def test_a_real_limb_goes_to_the_fracture_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "explain", str(RG3)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(
        "Body Part Examined (0018,0015) 'EXTREMITY' says bone, "
        "so rule 'bones of the limbs, shoulder and pelvis' sends it to bone_fracture"
    )
    assert "  Study Description (0008,1030) 'Non-ossifying fibroma of distal tibia': bone" in lines


def test_the_gates_and_the_version_are_part_of_the_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A lateral chest of a child goes to the model for children, which refuses it: as the node would say it."""
    file = tmp_path / "lateral.dcm"
    child = radiograph(1)
    child.PatientAge, child.PatientBirthDate, child.ViewPosition = "003Y", "", "LL"
    child.save_as(file, enforce_file_format=True)
    assert main(["rules", "explain", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(
        "so rule 'chest of a small child' sends it to pediatric_chest, "
        "which refuses it: view LL where AP or PA, or absent is accepted"
    )
    assert "  gate of pediatric_chest: body part wants CHEST or THORAX or LUNG, or unknown, saw CHEST: yes" in lines
    assert "  gate of pediatric_chest: view wants AP or PA, or absent, saw LL: no" in lines
    assert "  gate of pediatric_chest: age wants 1 to 5 completed years, saw 3: yes" in lines
    assert lines[-1] == "pediatric_chest: version 1.0.0, the newest installed"


def test_a_model_that_is_not_configured_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "explain", str(RG3)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("bone_fracture: not configured. No verified weights")


def test_the_version_that_a_clinic_uses_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "var"}"\n[[clinics]]\nname = "st-mary"\ntier = "basic"\n'
        '[[clinics.models]]\npackage = "chest"\nactive = "1.0.0"\n',
        encoding="utf-8",
    )
    for version in ("1.0.0", "1.1.0"):
        build_package(tmp_path / "var" / "models" / "chest" / version, version=version)
    explain = ["rules", "explain", str(RG1), "--config", str(config)]
    assert main([*explain, "--clinic", "st-mary"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "chest: version 1.0.0, the active one of this clinic"
    assert main(explain) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "chest: version 1.1.0, the newest installed"
    assert main([*explain, "--clinic", "mercy"]) == 2
    assert "there is no clinic 'mercy'" in capsys.readouterr().err


def test_several_files_are_explained_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "explain", str(RG1), str(RG3)]) == 0
    out = capsys.readouterr().out
    assert out.index(str(RG1)) < out.index(str(RG3))


def test_what_cannot_be_read_is_named_and_the_others_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, missing = tmp_path / "readme.txt", tmp_path / "missing.dcm"
    text.write_text("hello", encoding="utf-8")
    assert main(["rules", "explain", str(text), str(missing), str(RG3)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(str(RG3))
    assert [line.partition(" cannot be read")[0] for line in err.splitlines()] == [
        f"collimator: {text}",
        f"collimator: {missing}",
    ]


def test_every_dicom_file_of_a_folder_is_explained_in_order_and_the_others_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.dcm", "a.dcm", "inner/c.dcm"):
        radiograph(1).save_as(tmp_path / name, enforce_file_format=True)
    (tmp_path / "readme.txt").write_text("hello", encoding="utf-8")
    assert main(["rules", "explain", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    explained = [line for line in out.splitlines() if line.startswith(str(tmp_path))]
    assert explained == [str(tmp_path / name) for name in ("a.dcm", "b.dcm", "inner/c.dcm")]
    assert err == f"collimator: {tmp_path / 'readme.txt'} is skipped: it is not a DICOM file\n"


def test_a_folder_without_a_dicom_file_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "explain", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "collimator: there is no DICOM file to explain\n"


def test_a_rule_that_names_no_model_is_found_before_anything_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[[routing.rules]]\nname = "typo"\npackage = "pediatric_chst"\n', encoding="utf-8")
    assert main(["rules", "explain", str(RG1), "--config", str(config)]) == 2
    err = capsys.readouterr().err
    assert "routing.rules, 'typo': no model package is named 'pediatric_chst'" in err
    assert "There are: bone_fracture, chest, dental, pediatric_chest, spine." in err
    assert "Correct the rule's package" in err


def test_rules_of_ones_own_and_the_caller_are_taken_into_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, file = tmp_path / "node.toml", tmp_path / "chest.dcm"
    config.write_text(
        '[[routing.rules]]\nname = "from the ICU"\npackage = "chest"\ncallers = ["ICU"]\n', encoding="utf-8"
    )
    radiograph(1).save_as(file, enforce_file_format=True)
    explain = ["rules", "explain", str(file), "--config", str(config)]
    assert main([*explain, "--caller", "ICU"]) == 0
    assert "so rule 'from the ICU' sends it to chest" in capsys.readouterr().out
    assert main(explain) == 0
    assert "wants Calling AE Title ICU, and it is absent" in capsys.readouterr().out


def test_no_identity_of_the_patient_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "chest.dcm"
    radiograph(1).save_as(file, enforce_file_format=True)
    main(["rules", "explain", str(file)])
    out = capsys.readouterr().out
    for identity in ("DOE", "PID0001", "19700101"):
        assert identity not in out


@pytest.mark.parametrize("arguments", [["rules"], ["rules", "explain"], ["rules", "guess", "x"]])
def test_missing_words_are_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_configuration_that_is_named_and_not_there_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "explain", str(RG1), "--config", "/nowhere/node.toml"]) == 2
    assert "there is no configuration file /nowhere/node.toml" in capsys.readouterr().err
