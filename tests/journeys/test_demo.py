"""`collimator demo` does what it promises, with no peer program and no network."""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image


def test_the_demonstration_shows_results_duplicates_and_loops(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "cli", "demo", "--out", str(out)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr

    rows = json.loads((out / "summary.json").read_text())
    assert [row["charged"] for row in rows] == ["yes", "no", "no", "no"]
    assert rows[0]["delivered"] == "overlay, measurement_sr, text_sr"
    assert (rows[1]["findings"], rows[1]["delivered"]) == ("not analysed", "text_sr")
    assert len(json.loads((out / "ledger.json").read_text())) == 1
    made = {str(path.relative_to(out)) for folder in ("chest", "extremity") for path in (out / folder).iterdir()}
    assert made == {
        "chest/overlay.dcm",
        "chest/overlay.png",
        "chest/measurement_sr.dcm",
        "chest/measurement_sr.html",
        "chest/text_sr.dcm",
        "chest/text_sr.html",
        "extremity/text_sr.dcm",
        "extremity/text_sr.html",
    }
    assert min(Image.open(out / "chest" / "overlay.png").size) > 700
    # Where the adult model could be pulled there is nothing to warn of; where not, every result says so.
    is_demonstration = "DEMONSTRATION MODEL" in rows[0]["findings"]
    for name in ("measurement_sr", "text_sr"):
        assert ("DEMONSTRATION MODEL" in (out / "chest" / f"{name}.html").read_text()) == is_demonstration
