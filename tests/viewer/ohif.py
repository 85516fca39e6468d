"""OHIF, as npm ships it, in front of a PACS' DICOMweb: one server on loopback, so that the browser sees one origin.

Chromium ──>  /dicom-web/…  ──>  Orthanc
              anything else ──>  OHIF's own files
"""

import mimetypes
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOOPBACK = "127.0.0.1"
CONFIGURATION = """
window.config = {
  routerBasename: null,
  extensions: [],
  modes: [],
  showStudyList: true,
  investigationalUseDialog: { option: 'never' },
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false,
  maxNumberOfWebWorkers: 1,
  defaultDataSourceName: 'pacs',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'pacs',
    configuration: {
      friendlyName: 'PACS',
      qidoRoot: '/dicom-web',
      wadoRoot: '/dicom-web',
      wadoUriRoot: '/dicom-web',
      imageRendering: 'wadors',
      thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true,
      supportsWildcard: true,
      omitQuotationForMultipartRequest: true,
      bulkDataURI: { enabled: true, relativeResolution: 'studies' },
    },
  }],
};
"""


class Ohif:
    """dist: the folder of that name in the npm package @ohif/app."""

    def __init__(self, dist: Path, *, pacs_url: str) -> None:
        self._server = ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, dist, pacs_url))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def address_of(self, study_instance_uid: str) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}/viewer?StudyInstanceUIDs={study_instance_uid}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, dist: Path, pacs_url: str, *args: object) -> None:
        self._dist, self._pacs_url = dist.resolve(), pacs_url
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path.startswith("/dicom-web"):
            self._answer(*self._from_pacs())
        elif self.path == "/app-config.js":
            self._answer(200, "text/javascript", CONFIGURATION.encode())
        else:
            self._answer(200, *self._file())

    def log_message(self, *args: object) -> None:
        """Silent."""

    def _from_pacs(self) -> tuple[int, str, bytes]:
        accepted = {"Accept": self.headers["Accept"]} if "Accept" in self.headers else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self._pacs_url + self.path, headers=accepted)) as answer:
                return answer.status, answer.headers["Content-Type"] or "application/octet-stream", answer.read()
        except urllib.error.HTTPError as error:
            return error.code, "text/plain", error.read()

    def _file(self) -> tuple[str, bytes]:
        """A page of the viewer is always index.html: the script in it reads the address."""
        path = (self._dist / self.path.partition("?")[0].lstrip("/")).resolve()
        if not (path.is_file() and path.is_relative_to(self._dist)):
            path = self._dist / "index.html"
        kind = "application/wasm" if path.suffix == ".wasm" else mimetypes.guess_type(path.name)[0]
        return kind or "application/octet-stream", path.read_bytes()

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            # What its workers need to share memory.
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Embedder-Policy": "require-corp",
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
