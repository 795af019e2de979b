"""Fixtures that several areas share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.fake_upstream import FakeUpstream, fake_upstream
from tests.support.live_gateway import LiveGateway, live_gateway

# A busy machine is no bug. What continuous integration tries is the same each time, so that it fails for what
# a change did; on a developer's machine the cases are new each time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[FakeUpstream]:
    """One fake provider for the tests of a module."""
    with fake_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def shared_gateway(shared_upstream: FakeUpstream) -> Iterator[LiveGateway]:
    """One gateway in front of it, with the default policy."""
    with live_gateway(shared_upstream) as gateway:
        yield gateway


@pytest.fixture
def upstream(shared_upstream: FakeUpstream) -> FakeUpstream:
    """The module's provider, with nothing seen and nothing planned."""
    shared_upstream.reset()
    return shared_upstream


@pytest.fixture
def gateway(upstream: FakeUpstream, shared_gateway: LiveGateway) -> LiveGateway:
    """The module's gateway; its upstream is the fixture `upstream`."""
    return shared_gateway
