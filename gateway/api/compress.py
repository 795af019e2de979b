"""Compression as a service of its own."""

from __future__ import annotations

from starlette.routing import BaseRoute

routes: list[BaseRoute] = []
