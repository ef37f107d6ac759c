"""A JupyterLab server of the test's own and a page in Chromium that shows one notebook."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TRY = re.compile("Apply|Try it here first")
"""The button of a preview that runs a copy in the panel; the second name where the page can hold the fix itself."""
ROOT = Path(__file__).resolve().parents[2]


def copy_notebooks(target: Path) -> Path:
    """The project's notebooks without their outputs, each with a kernel (else JupyterLab asks for one)."""
    leftovers = shutil.ignore_patterns("hub", "models", ".*", "__pycache__")
    shutil.copytree(ROOT / "notebooks", target, ignore=leftovers)
    for path in target.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)
    return target


@contextlib.contextmanager
def server(notebooks: Path, home: Path, application: str = "jupyterlab") -> Iterator[str]:
    """JupyterLab (or Notebook 7: ``notebook``) on these notebooks, with settings under ``home`` alone; gives the address with its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {name: str(home / name) for name in ("CONFIG_DIR", "RUNTIME_DIR", "DATA_DIR")}
    environment = {**os.environ, **{f"JUPYTER_{name}": folder for name, folder in folders.items()}}
    environment |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces"),
    }
    environment |= {"IPYTHONDIR": str(home / "ipython")}
    command = [sys.executable, "-m", application, "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}", "--ServerApp.ip=127.0.0.1"]
    name, page = ("LabApp", "doc/tree") if application == "jupyterlab" else ("JupyterNotebookApp", "notebooks")
    command += [f"--{name}.expose_app_in_browser=True"]
    quiet = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with open(home / "server.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=home)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", process, home / "server.log")
        yield f"http://127.0.0.1:{port}/{page}/{{}}?token={token}&reset"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(address, timeout=5):
                return
        time.sleep(0.3)
    raise RuntimeError(f"The server did not start:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def browser(home: Path, *, width: int = 1280, height: int = 900, scale: float = 1) -> Iterator[Any]:
    """A page in Debian's Chromium with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(home / "profile"),
            executable_path=shutil.which("chromium"),
            args=list(FLAGS),
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
        )
        try:
            page = context.pages[0] if context.pages else context.new_page()
            page.set_default_timeout(30_000)
            yield page
        finally:
            context.close()


def open_notebook(page: Any, address: str, name: str, *, theme: str = "JupyterLab Light") -> None:
    """Show a notebook alone (single-document mode, no side bars), its kernel idle."""
    page.goto(address.format(name))
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    set_theme(page, theme)
    page.evaluate("""async () => {
        const session = window.jupyterapp.shell.currentWidget.sessionContext;
        await session.ready;
        await session.session.kernel.info;
    }""")


def command(page: Any, name: str, arguments: dict[str, Any] | None = None) -> None:
    """Carry out one of JupyterLab's commands to its end (a cell's run included)."""
    script = """([name, options]) => Promise.race([
        window.jupyterapp.commands.execute(name, options).then(() => null),
        new Promise((_, reject) => setTimeout(() => reject(new Error(`${name} did not end`)), 120000)),
    ])"""
    page.evaluate(script, [name, arguments or {}])


def run_to_first_panel(page: Any) -> Any:
    """Run cells one after the other, as a person does, until one of them has a panel; gives the panel."""
    panel = page.locator(".tfdiag-panel").first
    for _ in range(20):
        command(page, "notebook:run-cell-and-select-next")
        if page.locator(".tfdiag-answer").count():
            panel.wait_for()
            return panel
    raise AssertionError("No cell was diagnosed.")


def set_theme(page: Any, theme: str) -> None:
    command(page, "apputils:change-theme", {"theme": theme})
    light = str("Light" in theme).lower()
    page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
