"""A process from which its neighbours were taken sees nothing of them any more, nor does anything that it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.inference.processes import has_landlock

ROOT = Path(__file__).parents[2]
LOOK = f"print(len(open('/proc/{os.getpid()}/environ', 'rb').read()) > 0)"


def run(code: str) -> subprocess.CompletedProcess[str]:
    begin = "from inference.no_neighbours import take_neighbours_away\n"
    return subprocess.run([sys.executable, "-c", begin + code], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def kernel_with_landlock() -> None:
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")


def test_before_it_the_parents_environment_can_be_read() -> None:
    assert run(LOOK).stdout == "True\n"


@pytest.mark.parametrize(
    "code",
    [LOOK, f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {LOOK!r}]))"],
    ids=["itself", "a child"],
)
def test_afterwards_it_cannot(code: str) -> None:
    ended = run(f"take_neighbours_away()\n{code}")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "PermissionError" in ended.stderr


WRITE = "open({path!r}, 'w').write('changed')"
CUT = "__import__('os').truncate({path!r}, 0)"
REMOVE = "__import__('os').remove({path!r})"
LINK = "__import__('os').link({path!r}, {path!r} + '2')"
MOVE_AWAY = "__import__('os').rename({path!r}, {folder!r} + '/theirs')"


@pytest.mark.parametrize("code", [WRITE, CUT, REMOVE, LINK, MOVE_AWAY])
def test_where_one_folder_is_left_to_it_it_changes_nothing_elsewhere(tmp_path: Path, code: str) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_text("as it was", encoding="utf-8")
    ours.mkdir()
    code = code.format(path=str(theirs), folder=str(ours))
    ended = run(f"from pathlib import Path\ntake_neighbours_away(writes_only_in=Path({str(ours)!r}))\n{code}")
    assert "PermissionError" in ended.stderr or "Invalid cross-device link" in ended.stderr
    assert theirs.read_text(encoding="utf-8") == "as it was"
    assert sorted(os.listdir(tmp_path)) == ["ours", "theirs"]


def test_in_the_folder_that_is_left_to_it_it_does_what_it_likes(tmp_path: Path) -> None:
    code = (
        f"import os\nfrom pathlib import Path\nfolder = Path({str(tmp_path)!r})\n"
        "take_neighbours_away(writes_only_in=folder)\n"
        "(folder / 'sub').mkdir()\n(folder / 'sub' / 'one').write_text('1')\n"
        "(folder / 'sub' / 'one').rename(folder / 'two')\n(folder / 'sub').rmdir()\n"
        "open(os.devnull, 'wb').write(b'nothing')\n"
    )
    ended = run(code)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert os.listdir(tmp_path) == ["two"]


def test_itself_it_still_sees() -> None:
    ended = run("take_neighbours_away()\nprint(len(open('/proc/self/environ', 'rb').read()) > 0)")
    assert ended.stdout == "True\n"
