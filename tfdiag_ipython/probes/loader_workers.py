"""The DataLoader whose worker ended: how many it had, how they were started, and what of the notebook they needed."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.trainer import trainer_of


class LoaderWorkersProbe(Probe):
    """The DataLoader in the frames of the failure; its workers are not touched.

    Facts: ``workers`` (their number), ``method`` (how processes are started: ``fork``, ``spawn``, ``forkserver``), ``local`` (classes and functions
    of the notebook that workers must import: data set, collator, initializer), ``trainer`` (a Trainer made the loader).
    """

    name: ClassVar[str] = "loader-workers"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        fields: dict[str, Any] = {}
        for frame in scene.find_frames(file="torch/utils/data/dataloader.py"):
            for held in (frame.locals.get("self"), frame.locals.get("loader")):
                if hasattr(held, "__dict__") and {"num_workers", "_num_workers"} & set(vars(held)):
                    fields.update(vars(held))  # the loader's, and those of what runs through it
        if not fields:
            return Evidence(missing="no DataLoader is left in this traceback")
        workers = fields.get("num_workers", fields.get("_num_workers"))
        context: Any = fields.get("_DataLoader__multiprocessing_context") or fields.get("_multiprocessing_context")
        processes: Any = scene.module("multiprocessing")
        method = getattr(context, "_name", "") or (processes and processes.get_start_method(True)) or _usual()
        dataset = fields.get("dataset", fields.get("_dataset"))
        needed = [type(dataset), fields.get("collate_fn", fields.get("_collate_fn")), fields.get("worker_init_fn")]
        local = tuple(str(getattr(one, "__name__", "")) for one in needed if _of_notebook(one))
        facts: dict[str, Any] = {
            "workers": workers if isinstance(workers, int) else 0,
            "method": str(method or ""),
            "local": local,
            "trainer": trainer_of(scene) is not None,
        }
        seen = [Observation("num_workers", str(facts["workers"]), "the DataLoader")]
        if facts["method"]:
            seen.append(Observation("Workers are started by", facts["method"], "multiprocessing"))
        if local:
            seen.append(Observation("Defined in the notebook", ", ".join(local), "module __main__"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _usual() -> str:
    """How processes are started where nobody chose: asking for it would choose."""
    if sys.platform in ("win32", "darwin"):
        return "spawn"
    return "forkserver" if sys.version_info >= (3, 14) else "fork"


def _of_notebook(one: Any) -> bool:
    return getattr(one, "__module__", "") == "__main__" and isinstance(getattr(one, "__name__", None), str)
