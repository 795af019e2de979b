"""OpenVINO, imported so that it tells nobody.

`import openvino` reports the import to an analytics service unless its telemetry package is missing. A
gateway that handles other people's prompts sends nothing that it was not told to send, so that package is
hidden while OpenVINO is imported; OpenVINO then takes the stub that it ships for this case.
"""

from __future__ import annotations

import sys
from types import ModuleType

from compressor.errors import ModelLoadFailed

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The package `openvino`. Raises ModelLoadFailed where it is not installed."""
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # what Python itself takes for "not there"
    try:
        import openvino
    except ImportError:
        raise ModelLoadFailed("encoders on a CPU need OpenVINO: pip install openvino") from None
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]
    module: ModuleType = openvino
    return module
