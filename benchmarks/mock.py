"""A provider that answers every request at once with the same reply: an nginx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import running

MOCK = 9100
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there, how can I help you today?"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 22},
}
NGINX = """worker_processes 1; daemon off; pid nginx.pid; error_log stderr;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000; client_body_buffer_size 4m; client_max_body_size LARGEST;
 client_body_temp_path body; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
 server { listen 127.0.0.1:9100 reuseport;
  location = /v1/chat/completions {
   error_page 405 =200 @ok; default_type application/json; return 200 'REPLY'; } } }
"""


@contextmanager
def running_mock(folder: Path, largest: str = "16m") -> Iterator[int]:
    """Answers until the block ends, bodies of up to `largest`; yields its process id."""
    config = folder / "nginx.conf"
    config.write_text(NGINX.replace("LARGEST", largest).replace("REPLY", json.dumps(REPLY)))
    with running(["nginx", "-p", str(folder), "-c", str(config)], MOCK, folder) as pid:
        yield pid
