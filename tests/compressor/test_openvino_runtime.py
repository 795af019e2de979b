"""Opening the embedded encoder speaks to nobody."""

from __future__ import annotations

import subprocess
import sys

WATCH = """
import sys
said = []
def audit(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        said.append((event, str(arguments)))
sys.addaudithook(audit)
from compressor.model.openvino_runtime import import_openvino
openvino = import_openvino()
assert openvino.Core().available_devices
assert "openvino_telemetry" not in sys.modules
from compressor import Compressor
Compressor.open("default").compress("The committee met again on Tuesday. " * 50, keep=0.5)
print(said)
"""


def test_nothing_is_reported() -> None:
    done = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
