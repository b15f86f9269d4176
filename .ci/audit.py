"""Known vulnerabilities of what is installed, by pip-audit; exit code 1 if there are any.

Where pip-audit or its source cannot be had, without a network say, one line says so and the check passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

AUDIT = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable"]
AUDIT += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]


def main() -> int:
    """Audit this environment."""
    if find_spec("pip_audit") is None:
        return skipped("pip-audit is not installed here")
    done = subprocess.run(AUDIT, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return skipped((done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1])
    return report(found)


def skipped(reason: str) -> int:
    """Say that nothing was audited, and why."""
    print(f"audit skipped, nothing is known of vulnerabilities: {reason}")
    return 0


def report(found: list[dict[str, Any]]) -> int:
    """Print what pip-audit says of each package, as it gives it in JSON; the exit code."""
    audited = [package for package in found if "skip_reason" not in package]
    if not audited:
        return skipped(f"the source knows none of the {len(found)} packages")
    for package in found:
        for vulnerability in package.get("vulns", []):
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {vulnerability['id']}, mended in {fixed}")
        if "skip_reason" in package:
            print(f"not audited: {package['skip_reason']}")
    num_vulnerable = sum(bool(package["vulns"]) for package in audited)
    print(f"{len(audited)} packages audited, {num_vulnerable} with known vulnerabilities")
    return 1 if num_vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
