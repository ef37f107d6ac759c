"""A restart that tfdiag asks for, under a kernel manager that restarts what ends, as Jupyter's server does."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.shell.kernels import LOAD, ROOT, environment, specification
from tests.shell.pack import ASSEMBLE, FAILS

pytestmark = pytest.mark.kernel

CLICK = """
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.shell.extension import extension_of
session = extension_of(get_ipython()).last
plan = session.plan(session.diagnoses[0], session.diagnoses[0].fix({fix!r}))
print(plan.preview().text, session.apply(plan, Progress())[0])
"""


SPOKEN = "The widget of size 7 is broken"
RUN = """
session = extension_of(get_ipython()).last
plan = session.plan(session.diagnoses[0], session.diagnoses[0].fix('run-again'))
print(plan.preview().text)
print(session.apply(plan, Progress())[1].detail)
"""
IMPORTS = "from tfdiag_ipython.fix import Progress\nfrom tfdiag_ipython.shell.extension import extension_of"


async def result_of(client, code):
    """What the cell printed and displayed, as text."""
    identity = client.execute(code, stop_on_error=False)
    printed = ""
    while True:
        got = await client.get_iopub_msg(timeout=60)
        if got["parent_header"].get("msg_id") != identity:
            continue
        if got["msg_type"] == "stream":
            printed += got["content"]["text"]
        if got["msg_type"] == "display_data":
            printed += got["content"]["data"].get("text/plain", "")
        if got["msg_type"] == "status" and got["content"]["execution_state"] == "idle":
            return printed


async def alive_again(client):
    """Wait for the new kernel; until it has been started, the client finds the old one dead."""
    for _ in range(100):
        try:
            return await client.wait_for_ready(timeout=60)
        except RuntimeError:
            await asyncio.sleep(0.1)
    raise TimeoutError("no new kernel came")


@contextlib.asynccontextmanager
async def kernel(*options):
    """A kernel under a manager that restarts what ends, and a client of it."""
    from jupyter_client.ioloop import AsyncIOLoopKernelManager
    from traitlets.config import Config

    config = Config()
    config.KernelRestarter.time_to_dead = 0.3
    manager = AsyncIOLoopKernelManager(autorestart=True, config=config)
    manager._kernel_spec = specification()
    manager._kernel_spec.argv = [*manager._kernel_spec.argv, *options]
    await manager.start_kernel(env=environment(), cwd=str(ROOT))
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def restart_by_click(after, *options, cells=(LOAD, "before = 41", "1 / 0", ASSEMBLE, FAILS), fix="restart"):
    """What the click printed, and then each cell of ``after`` in the new kernel."""
    async with kernel(*options) as (manager, client):
        ended = asyncio.Event()
        manager.add_restart_callback(ended.set, "restart")
        for cell in cells:
            await result_of(client, cell)
        told = await result_of(client, CLICK.format(fix=fix))
        await asyncio.wait_for(ended.wait(), 30)
        await alive_again(client)
        return [told, *[await result_of(client, cell) for cell in after]]


async def restart_by_the_toolbar(cells):
    """What loading tfdiag shows after the kernel was restarted as the front end does it, and what the fix that is then offered runs."""
    async with kernel() as (manager, client):
        for cell in cells:
            await result_of(client, cell)
        await manager.restart_kernel()
        await alive_again(client)
        listed = await result_of(client, LOAD)
        return listed, await result_of(client, f"{IMPORTS}\n{RUN}") if "KER001" in listed else ""


def test_a_fresh_kernel_comes_lists_the_cells_to_run_again_and_runs_them_when_asked():
    told, _, left, listed, ran, value = asyncio.run(
        restart_by_click((IMPORTS, "print('assemble' in globals())", LOAD, RUN, "print(before)"))
    )
    assert "variables are lost. Then `%load_ext tfdiag` lists" in told and "The kernel restarts." in told
    assert left.strip() == "False"
    assert "The kernel was restarted: run again" in listed and "KER001" in listed
    assert (
        "before = 41" in ran and FAILS in ran and "1 / 0" not in ran
    )  # shown before they run; what had failed is left out
    assert SPOKEN in ran and "raised" in ran  # the failing cell fails again, and is diagnosed where the output stands
    assert value.strip() == "41"


def test_a_kernel_that_loads_tfdiag_by_itself_lists_them_below_its_first_cell():
    _, first, second = asyncio.run(restart_by_click(("1 + 1", "2 + 2"), "--IPKernelApp.extensions=tfdiag_ipython"))
    assert "The kernel was restarted: run again" in first and "KER001" not in second


def test_a_restart_by_the_toolbar_lists_the_same_where_a_restart_was_advised():
    listed, ran = asyncio.run(restart_by_the_toolbar((LOAD, "before = 41", "1 / 0", ASSEMBLE, FAILS)))
    assert (
        "The kernel was restarted: run again" in listed
        and "before = 41" in ran
        and SPOKEN in ran
        and "1 / 0" not in ran
    )


@pytest.mark.parametrize("cells", [(LOAD, ASSEMBLE, FAILS, "1 / 0"), (LOAD, ASSEMBLE)])
def test_a_restart_that_was_not_advised_leaves_no_list(cells):
    assert "KER001" not in asyncio.run(restart_by_the_toolbar(cells))[0]


async def shut_down(cells):
    """The files that a kernel left which was shut down for good."""
    async with kernel() as (manager, client):
        for cell in cells:
            await result_of(client, cell)
        file = Path(manager.connection_file)
        await manager.shutdown_kernel()
        return list(file.parent.glob(f"{file.stem}*again"))


def test_a_shutdown_leaves_no_list():
    assert asyncio.run(shut_down((LOAD, ASSEMBLE, FAILS))) == []
