"""Each container's command line and health check, and the systemd unit's, run here as an ordinary user.

Only what the image itself would give is replaced: the interpreter, the ports, the folders of its volumes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deployment.dockerfiles import FOLDER, read_image
from tests.support.fake_upstream import fake_upstream
from tests.support.live_server import free_port
from tests.support.waiting import until
from tests.with_redis.server import RedisServer

IMAGES = ("Dockerfile.cpu", "Dockerfile.gpu")
START_SECONDS = 90.0
KEY = "sk-terse-master-of-a-container"


def ordinary(folder: Path, command: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The command and arguments of Popen that run it as the images' user, without capabilities.

    Where that user cannot reach this interpreter (it lies in root's home), only the capabilities go, as
    `cap_drop: [ALL]` and `no-new-privileges` take them away.
    """
    if os.geteuid() != 0:
        return list(command), {}
    folder.chmod(0o777)
    for parent in folder.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(parent.stat().st_mode | 0o055)
    user = {"user": 10001, "group": 10001, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import gateway.cli"], cwd=folder, check=True, **user)
    except (OSError, subprocess.CalledProcessError):
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *command], {}
    return list(command), user


@contextmanager
def container(folder: Path, command: Sequence[str], environment: dict[str, str]) -> Iterator[Any]:
    """The command line with this interpreter's `terse`, in `folder`; killed at the end if it still runs."""
    assert command[0] == "terse"
    base = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    started, user = ordinary(folder, [sys.executable, "-m", "gateway", *command[1:]])
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            started,
            cwd=folder,
            env={**base, **environment, "HOME": str(folder), "PYTHONPATH": str(FOLDER.parent)},
            stdout=log,
            stderr=log,
            **user,
        )
    try:
        yield process
    finally:
        process.kill() if process.poll() is None else None
        process.wait()


def with_port(command: Sequence[str], old: int, new: int) -> list[str]:
    """The same with another port, which must have stood in it."""
    changed = [re.sub(rf"\b{old}\b", str(new), word) for word in command]
    assert changed != list(command), f"no port {old} in {command}"
    return changed


def is_healthy(health: Sequence[str], old: int, new: int) -> bool:
    """What the health check says, run as Docker would."""
    assert health[0] == "python"
    command = [sys.executable, *with_port(health[1:], old, new)]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def ends_when_asked(process: subprocess.Popen[bytes], folder: Path, how: str = "SIGTERM") -> None:
    process.send_signal(signal.Signals[how])
    assert process.wait(40) == 0, (folder / "log").read_text()


@pytest.mark.parametrize("name", IMAGES)
def test_image(name: str, tmp_path: Path) -> None:
    image, port = read_image(name), free_port()
    assert int(image.user.split(":")[0]) > 0, "the image runs as root"
    command = with_port([*image.entrypoint, *image.command], image.port, port)
    environment = {**image.environment, "TERSE_DATA_DIR": str(tmp_path / "data"), "TERSE_MASTER_KEY": KEY}
    environment.pop("PATH", None)
    assert not is_healthy(image.health, image.port, port)
    with container(tmp_path, command, environment) as process:
        until(lambda: process.poll() is not None or is_healthy(image.health, image.port, port), START_SECONDS)
        assert process.poll() is None, (tmp_path / "log").read_text()
        if name == "Dockerfile.gpu":
            _probes_answer("compressor.yaml", port)
        else:
            _probes_answer("gateway.yaml", port)
        ends_when_asked(process, tmp_path, image.stop_signal)


def _probes_answer(template: str, port: int) -> None:
    """The Helm chart's probes ask what the process has."""
    text = (FOLDER / "helm" / "terse" / "templates" / template).read_text(encoding="utf-8")
    paths = set(re.findall(r"httpGet: \{path: (\S+),", text))
    assert len(paths) == 2
    for path in paths:
        assert httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10).status_code == 200, path


def compose() -> dict[str, Any]:
    """The services of both files, as `docker compose -f … -f …` joins them."""
    services: dict[str, Any] = {}
    for name in ("compose.yaml", "compose.gpu.yaml"):
        for service, said in yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))["services"].items():
            services[service] = {**said, **services.get(service, {})}
    return services


def test_every_command_of_compose_is_run_here() -> None:
    assert {name for name, said in compose().items() if "command" in said} == {
        "gateway",
        "redis",
        "compressor",
        "otel-collector",
    }


def test_compose_gateway_on_its_redis(tmp_path: Path) -> None:
    services, port = compose(), free_port()
    said = services["gateway"]
    command = with_port(["terse", *said["command"]], 4000, port)
    command[command.index("/etc/terse/terse.yaml")] = str(tmp_path / "terse.yaml")
    with fake_upstream() as upstream, compose_redis(tmp_path, services["redis"]) as store:
        text = (FOLDER / "terse.yaml").read_text(encoding="utf-8")
        assert "https://api.openai.com/v1" in text
        (tmp_path / "terse.yaml").write_text(text.replace("https://api.openai.com/v1", upstream.url))
        assert set(said["environment"]) >= {"TERSE_MASTER_KEY", "OPENAI_API_KEY", "REDIS_URL"}
        image = read_image("Dockerfile.cpu")
        environment = {"TERSE_MASTER_KEY": KEY, "OPENAI_API_KEY": "sk-up", "REDIS_URL": store}
        environment["TERSE_DATA_DIR"] = str(tmp_path / "data")
        with container(tmp_path, command, environment) as process:
            until(
                lambda: process.poll() is not None or is_healthy(image.health, image.port, port),
                START_SECONDS,
            )
            assert process.poll() is None, (tmp_path / "log").read_text()
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
            reply = httpx.post(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {KEY}"},
                timeout=30,
            )
            assert reply.status_code == 200, reply.text
            assert upstream.seen[-1].headers["authorization"] == "Bearer sk-up"
            ends_when_asked(process, tmp_path)


@contextmanager
def compose_redis(folder: Path, said: dict[str, Any]) -> Iterator[str]:
    """Redis with the service's options, by its own program where there is one; yields its URL."""
    program, *options = said["command"]
    assert program == "redis-server"
    assert said["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    server = RedisServer(folder, options)
    try:
        asked = shutil.which("redis-cli")
        if asked:
            ping = [asked, "-p", str(server.port), "ping"]
            assert subprocess.run(ping, capture_output=True, check=True).stdout == b"PONG\n"
        with server.client() as client:
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        yield server.url
    finally:
        server.kill()


def test_compose_compressor_is_the_image_command() -> None:
    assert compose()["compressor"]["command"] == read_image("Dockerfile.gpu").command


def test_systemd_unit(tmp_path: Path) -> None:
    unit = (FOLDER / "systemd" / "terse.service").read_text(encoding="utf-8")
    start = re.search(r"^ExecStart=/opt/terse/bin/(.*)$", unit, re.MULTILINE)
    assert start is not None
    port = free_port()
    command = with_port(start[1].split(), 4000, port)
    command[command.index("/etc/terse/terse.yaml")] = str(tmp_path / "terse.yaml")
    (tmp_path / "terse.yaml").write_text("policies:\n  default: {mode: off}\n")
    reload = re.search(r"^ExecReload=/bin/kill -(\w+) \$MAINPID$", unit, re.MULTILINE)
    assert reload is not None
    environment = {"TERSE_MASTER_KEY": KEY, "TERSE_DATA_DIR": str(tmp_path / "data")}
    with container(tmp_path, command, environment) as process:
        health = read_image("Dockerfile.cpu").health
        until(lambda: process.poll() is not None or is_healthy(health, 4000, port), START_SECONDS)
        assert process.poll() is None, (tmp_path / "log").read_text()
        process.send_signal(signal.Signals["SIG" + reload[1]])
        until(lambda: process.poll() is not None or is_healthy(health, 4000, port), START_SECONDS)
        assert process.poll() is None, (tmp_path / "log").read_text()
        ends_when_asked(process, tmp_path, "SIGTERM")
