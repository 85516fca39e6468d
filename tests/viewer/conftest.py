"""A PACS, OHIF in front of it, and a browser."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import ROOT, skip_or_fail
from tests.journeys.house import Orthanc
from tests.viewer.ohif import Ohif

# It has no graphics card: WebGL by software.
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]


@pytest.fixture(scope="module")
def pacs(require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    orthanc = Orthanc(require_program("Orthanc"), tmp_path_factory.mktemp("pacs"))
    orthanc.start(node_port=1)  # no node is needed here
    yield orthanc
    orthanc.stop()


@pytest.fixture(scope="module")
def ohif(pacs: Orthanc) -> Iterator[Ohif]:
    """The built viewer of the npm package @ohif/app, whose folder `dist` COLLIMATOR_OHIF names."""
    dist = Path(os.environ.get("COLLIMATOR_OHIF", ""))
    if not (dist / "index.html").is_file():
        skip_or_fail("COLLIMATOR_OHIF does not name OHIF's folder `dist` (.ci/run shows where it comes from)")
    viewer = Ohif(dist, pacs_url=f"http://127.0.0.1:{pacs.http_port}")
    yield viewer
    viewer.stop()


@pytest.fixture(scope="module")
def browser(require_program: Callable[[str], str]) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_program("chromium"), args=BROWSER_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where what was seen is kept."""
    folder = ROOT / "test-out" / "viewer"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
