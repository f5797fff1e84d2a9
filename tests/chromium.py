"""A real Chromium for tests: Debian's, found or installed, driven by playwright."""

import importlib
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

__all__ = ["ARGUMENTS", "chromium_path", "launch", "playwright_api"]

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_PLACES = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
_IN_CI = os.environ.get("CI", "") not in ("", "false")


def chromium_path() -> str:
    """Return where Chromium is; in CI, as root, it is installed where it is missing.

    Elsewhere a test that cannot have it is skipped, with the reason; in CI it fails.
    """
    found = next((place for place in _PLACES if Path(place).exists()), None) or shutil.which("chromium")
    if found is None and _IN_CI and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_get("update", "-qq")
        _apt_get("install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-liberation")
        found = next((place for place in _PLACES if Path(place).exists()), None)
    if found is None:
        reason = "no Chromium; install Debian's package chromium"
        if _IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def playwright_api() -> ModuleType:
    """Return playwright's synchronous interface; a module that cannot have it is skipped, in CI it fails."""
    if not _IN_CI:
        return pytest.importorskip("playwright.sync_api")
    return importlib.import_module("playwright.sync_api")


def launch(playwright: "Playwright") -> "Browser":
    """Start it, headless, with a fresh profile."""
    return playwright.chromium.launch(executable_path=chromium_path(), headless=True, args=list(ARGUMENTS))


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", *arguments], check=False, capture_output=True, timeout=600, env=environment)
