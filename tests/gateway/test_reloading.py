"""Hot reload: a good file is taken up, a bad or vanished one is refused and the old one stays."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.configuration_file import load_config
from gateway.reloading import Reloader, reloading
from gateway.settings import Settings

GOOD = "policies: {default: {keep: 0.5}}\n"
NEWER = "policies: {default: {keep: 0.4}}\n"
BAD = "policies: {default: {keep: 40}}\n"


class App:
    """Takes configurations as the gateway does."""

    def __init__(self, path: Path) -> None:
        self.config = load_config(str(path), Settings())
        self.changed = asyncio.Event()
        self.broken = False

    async def apply(self, config: Config) -> None:
        if self.broken:
            raise RuntimeError("no such upstream")
        self.config = config
        self.changed.set()

    @property
    def keep(self) -> float:
        return self.config.policies["default"].keep


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "terse.yaml"
    path.write_text(GOOD)
    return path


def reloader_of(app: App, file: Path) -> Reloader:
    return Reloader(str(file), Settings(), app.config, app.apply, environment={}.get)


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - some conditions lie outside of this loop
            await asyncio.sleep(0.01)


async def test_a_changed_file_is_applied_and_an_unchanged_one_is_not(file: Path) -> None:
    app = App(file)
    reloader = reloader_of(app, file)
    assert await reloader.reload() == "unchanged"
    in_place(file, NEWER)
    assert await reloader.reload() == "applied"
    assert (app.keep, reloader.config.policies["default"].keep) == (0.4, 0.4)
    assert reloader.applied_at
    os.utime(file)
    assert await reloader.reload() == "unchanged"
    assert await reloader.reload(force=True) == "applied"
    assert reloader.reloads == {"unchanged": 0, "applied": 2, "refused": 0}


async def test_a_bad_file_is_refused_with_its_error(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = App(file)
    reloader = reloader_of(app, file)
    in_place(file, BAD)
    assert await reloader.reload() == "refused"
    assert app.keep == 0.5
    assert reloader.error.startswith(f"{file}:1: policies.default.keep: expected a share above 0")
    assert "the old one stays in force" in caplog.text
    assert await reloader.reload() == "unchanged"  # not read and told again until it changes
    in_place(file, NEWER)
    assert await reloader.reload() == "applied"
    assert (app.keep, reloader.error) == (0.4, "")


async def test_a_vanished_file_leaves_the_old_one_until_it_is_back(file: Path) -> None:
    app = App(file)
    reloader = reloader_of(app, file)
    vanish(file)
    assert await reloader.reload() == "refused"
    assert reloader.error == f"{file}: no such file"
    assert app.keep == 0.5
    in_place(file, NEWER)
    assert await reloader.reload() == "applied"
    assert app.keep == 0.4


async def test_a_configuration_that_cannot_be_put_in_force_changes_nothing(file: Path) -> None:
    app = App(file)
    reloader = reloader_of(app, file)
    app.broken = True
    in_place(file, NEWER)
    assert await reloader.reload() == "refused"
    assert reloader.error == "RuntimeError: no such upstream"
    assert reloader.config.policies["default"].keep == 0.5


async def test_what_needs_a_restart_keeps_its_old_value(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = App(file)
    reloader = reloader_of(app, file)
    in_place(file, NEWER + "compressor: {device: cpu}\nstore: redis://elsewhere\n")
    assert await reloader.reload() == "applied"
    assert app.keep == 0.4
    assert (app.config.compressor.device, app.config.store) == ("auto", None)
    assert "the change of compressor takes effect after a restart" in caplog.text
    assert "elsewhere" not in caplog.text


def vanish(file: Path) -> None:
    file.unlink()


def replaced(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def as_kubernetes_does(file: Path, text: str) -> None:
    """terse.yaml -> ..data/terse.yaml, ..data -> a dated folder: the middle link is replaced."""
    folder = file.parent / "..2026"
    folder.mkdir()
    (folder / "terse.yaml").write_text(text)
    (file.parent / "..data_tmp").symlink_to(folder)
    (file.parent / "..data_tmp").replace(file.parent / "..data")
    if not file.is_symlink():
        file.unlink()
        file.symlink_to(file.parent / "..data" / "terse.yaml")


@pytest.mark.parametrize("write", [in_place, replaced, as_kubernetes_does])
async def test_a_running_app_follows_the_file(file: Path, write: Callable[[Path, str], None]) -> None:
    app = App(file)
    async with reloading(reloader_of(app, file)) as reloader:
        await asyncio.sleep(0.3)  # until the folder is watched
        write(file, NEWER)
        await until(lambda: app.keep == 0.4)
        if write is in_place:
            write(file, BAD)
            await until(lambda: reloader.error != "")
            assert app.keep == 0.4


async def test_hangup_reads_the_file_again(file: Path) -> None:
    app = App(file)
    before = signal.getsignal(signal.SIGHUP)
    async with reloading(reloader_of(app, file)) as reloader:
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: reloader.reloads["applied"] == 1)
    assert signal.getsignal(signal.SIGHUP) == before
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "terse-reload"]


async def test_the_folder_may_vanish_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.reloading._RETRY_SECONDS", 0.05)
    monkeypatch.setattr("gateway.reloading._LOOK_EVERY_MS", 200)
    folder = tmp_path / "config"
    folder.mkdir()
    file = folder / "terse.yaml"
    in_place(file, GOOD)
    app = App(file)
    async with reloading(reloader_of(app, file)) as reloader:
        await asyncio.sleep(0.3)
        folder.rename(tmp_path / "away")
        await until(lambda: reloader.error != "")
        assert app.keep == 0.5
        folder.mkdir()
        in_place(file, NEWER)
        await until(lambda: app.keep == 0.4)


async def test_workers_with_a_compressor_of_their_own_are_not_told_of_a_change(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(file)
    shared = replace(app.config, compressor=replace(app.config.compressor, url="unix:///run/one.sock"))
    app.config = shared
    async with reloading(reloader_of(app, file)) as reloader:
        await asyncio.sleep(0.3)
        in_place(file, NEWER)
        await until(lambda: reloader.reloads["applied"] == 1)
    assert app.config.compressor == shared.compressor
    assert "takes effect after a restart" not in caplog.text
