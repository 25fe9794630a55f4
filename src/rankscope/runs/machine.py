"""Where a run happened: versions, threads and git state, and nothing that names a person, a host or a path."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

_KEPT = ("user_api", "internal_api", "version", "num_threads", "threading_layer", "architecture")


def environment() -> dict[str, Any]:
    """Describe this machine and installation, ready for JSON."""
    import torch  # noqa: PLC0415  (listing and reading runs must not wait for it)
    from threadpoolctl import threadpool_info  # noqa: PLC0415

    return {
        "utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch_threads": torch.get_num_threads(),
        # Each entry also has a "filepath", which would say where the user's home is.
        "blas": [{key: entry[key] for key in _KEPT if key in entry} for entry in threadpool_info()],
        "packages": package_versions(),
        "git": git_state(Path(__file__).parents[1]),
    }


def package_versions() -> dict[str, str]:
    """The installed versions of rankscope and of what it depends on."""
    try:
        requirements = requires("rankscope") or []
    except PackageNotFoundError:  # imported from a source tree that was never installed
        requirements = []
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in requirements if "extra ==" not in line]
    versions = {}
    for name in ("rankscope", *sorted(names, key=str.lower)):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def git_state(package: Path) -> dict[str, Any] | None:
    """The commit of rankscope's own checkout and whether it is dirty; None outside of one or where git is absent."""
    head = _git(package, "rev-parse", "--show-prefix", "HEAD")
    # A virtual environment inside somebody's repository is in a checkout too, but not in ours.
    if head is None or len(head.split()) != 2 or head.split()[0] != "src/rankscope/":
        return None
    status = _git(package, "status", "--porcelain", "--untracked-files=no", ":/")
    return {"commit": head.split()[1], "dirty": bool(status) if status is not None else None}


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_DIR and its kin (set inside hooks) would answer for another repository; optional locks would write to it.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    variables["GIT_OPTIONAL_LOCKS"] = "0"
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=variables)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
