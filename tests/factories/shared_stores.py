"""Shared stores: a folder, and a bucket on a real server of moto, which can be away."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

from tests.factories.ports import free_port

LOOPBACK = "127.0.0.1"
BUCKET = "hospital"
# moto takes any; obstore looks for some.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
STARTS_WITHIN_S = 60.0


@dataclass
class MotoServer:
    """A process that speaks S3. It keeps its objects in memory: once ended, they are lost."""

    log: Path
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def endpoint_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        if not self.port:
            self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)]
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ})
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            assert time.monotonic() < deadline, f"moto does not answer; see {self.log}"
            time.sleep(0.1)

    def make_bucket(self, bucket: str = BUCKET) -> None:
        urlopen(Request(f"{self.endpoint_url}/{bucket}", method="PUT"), timeout=30).close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def _answers(self) -> bool:
        try:
            urlopen(f"{self.endpoint_url}/moto-api/", timeout=5).close()
        except OSError:
            return False
        return True


def bucket_url(server: MotoServer, prefix: str) -> str:
    return f"s3://{BUCKET}/{prefix}?region=us-east-1&endpoint_url={server.endpoint_url}"
