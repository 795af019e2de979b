"""Asks the advisory service about everything that is pinned: `make audit`.

pip-audit says "not found" of a package that the service does not know, and passes: behind a mirror that has
no advisories that would be every package. So its answer is read here.

Exit code 0: nothing is known against what was asked, or the service could not be reached (said on stderr); 1:
an advisory is open; 2: `--strict` and the service could not be reached.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Audit:
    """What the service said."""

    asked: int
    unknown: tuple[str, ...]
    found: tuple[str, ...]


def ask(program: str, requirements: Path, service: str) -> Audit | None:
    """None: the service could not be reached."""
    command = [program, "-r", str(requirements), "--no-deps", "--disable-pip", "-s", service, "-f", "json"]
    ended = subprocess.run(
        [*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False
    )
    try:
        told = json.loads(ended.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        return None
    asked = [one for one in told if "skip_reason" not in one]
    if not asked:
        return None
    found = [f"{one['name']} {one['version']}: {v['id']}" for one in asked for v in one["vulns"]]
    return Audit(len(asked), tuple(one["name"] for one in told if "skip_reason" in one), tuple(found))


def main() -> None:
    """Asks PyPI, then OSV, whichever answers first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("requirements", type=Path)
    parser.add_argument("--program", default="pip-audit")
    parser.add_argument("--strict", action="store_true", help="an unreachable service fails, too")
    options = parser.parse_args()
    for service in ("pypi", "osv"):
        audit = ask(options.program, options.requirements, service)
        if audit is None:
            continue
        print(f"{service}: {audit.asked} packages asked about, {len(audit.found)} open advisories")
        if audit.unknown:
            print(f"  not known there: {', '.join(audit.unknown)}")
        for one in audit.found:
            print(f"  {one}")
        sys.exit(1 if audit.found else 0)
    print("NOT AUDITED: neither PyPI's advisories nor api.osv.dev can be reached from here", file=sys.stderr)
    sys.exit(2 if options.strict else 0)


if __name__ == "__main__":
    main()
