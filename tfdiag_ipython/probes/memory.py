"""Whose memory it is: a ledger per device and for the host, from what names hold to what other processes hold."""

from __future__ import annotations

import gc
import importlib.util
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython import host_memory
from tfdiag_ipython.bindings import IPYTHON_NAMES
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.batch_size import find_batch, find_loader
from tfdiag_ipython.fixes.detach import added_to, collecting_cell, needed_for_backward
from tfdiag_ipython.fixes.less_memory import given_arguments
from tfdiag_ipython.fixes.names import names_used
from tfdiag_ipython.probe import Deadline, Evidence, LiveFrame, Probe, Scene
from tfdiag_ipython.probes._holders import KINDS, OBJECTS, THOROUGH, Holders, by_size, fields_of
from tfdiag_ipython.probes._needed import names_needed
from tfdiag_ipython.probes._nvidia_smi import processes
from tfdiag_ipython.sizes import memory_size

SHOWN = 5
NAMED = 3
"""Names shown in one row."""
ROWS = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "variables": "other variables",
    "outputs": "displayed values (`Out`)",
    "frames": "frames of the failed cell",
    "graphs": "saved for backward by these",
    "unnamed": "tensors that no name holds",
    "other": "saved for backward, temporaries",
    "cached": "reserved by PyTorch, unused",
    "outside": "free, other processes, CUDA itself",
    "foreign": "other processes, CUDA itself",
    "free": "free",
}
"""The rows of a ledger, in their order."""
HOST_ROWS = {**ROWS, "other": "Python, libraries, other data", "foreign": "other processes"}
TRAINER = "transformers/trainer.py"
LIBRARY = re.compile(r"[/\\](?:site|dist)-packages[/\\]")
THOROUGH_SECONDS = 30.0
Ledger = dict[str, int]


class MemoryProbe(Probe):
    """Whose memory it is: parameters, gradients, optimizer state, variables, `Out`, the failed cell's frames, and all the rest.

    Facts: ``ledgers`` (device or ``cpu`` → row of ``ROWS`` → bytes, with ``total``), ``names`` (the same → name, bytes), ``variables``,
    ``outputs`` and ``frames`` (name, bytes; the largest first; each storage under one name only), ``frame_bytes``, ``available``
    (host bytes, ``None`` where unknown), ``limit`` (of the address space), ``resident``, ``batch`` (where the batch size is set, or
    empty), ``given`` (the training's arguments as source), ``trains`` (the Trainer's training loop is in the traceback),
    ``checkpoints`` (the argument by which its model computes layers again, or empty), ``read`` (names that the failing cell needs), ``loader`` (where its `DataLoader`'s batch size is set, or empty), ``precision`` (``bf16`` or
    ``fp16``: what the device has), ``collected`` (names of tensors, or of lists of nothing else, with graphs → the cell that adds to
    them, and whether it is a list), ``eight_bit`` (optimizers in 8 bits are installed for it), ``cut`` (not everything was looked into). The quick look asks PyTorch's own books, never the driver.
    """

    name: ClassVar[str] = "memory"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        return _look(scene, scene.deadline, OBJECTS)

    def ask(self, arguments: str, scene: Scene) -> Evidence:
        """The same without haste: tensors that no name holds are found, and the driver is asked for other processes."""
        return _look(scene, Deadline(THOROUGH_SECONDS), THOROUGH)


def observations(facts: Mapping[str, Any] | Evidence, place: str = "") -> tuple[Observation, ...]:
    """The ledgers of the devices whose names start with ``place`` as rows with bars."""
    seen: list[Observation] = []
    ledgers, names = facts.get("ledgers") or {}, facts.get("names") or {}
    wanted = [one for one in ledgers if one.startswith(place)]
    for one in wanted:
        total = ledgers[one].get("total")
        for row, label in (HOST_ROWS if one == "cpu" else ROWS).items():
            size = ledgers[one].get(row, 0)
            if not size:
                continue
            where = f"{'host' if one == 'cpu' else one}: " if len(wanted) > 1 else ""
            held = [pair for pair in names.get(one, {}).get(row, ()) if 100 * pair[1] >= size]
            told = ", ".join(f"`{name}` {memory_size(number)}" for name, number in held[:NAMED])
            more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
            seen.append(
                Observation(where + label, memory_size(size), told + more, share=size / total if total else None)
            )
    return tuple(seen)


def _look(scene: Scene, deadline: Deadline, most: int) -> Evidence:
    torch: Any = scene.module("torch")
    thorough = most == THOROUGH
    host = host_memory.look()
    trainers = [one.locals.get("self") for one in scene.frames if one.file.replace("\\", "/").endswith(TRAINER)]
    facts: dict[str, Any] = {
        "ledgers": {},
        "names": {},
        "variables": (),
        "outputs": (),
        "frames": (),
        "frame_bytes": 0,
        "available": host.available,
        "limit": host.address_limit,
        "resident": host.resident,
        "batch": find_batch(scene.cells),
        "given": given_arguments(scene.cells),
        "trains": bool(trainers),
        "checkpoints": _checkpoint_argument(scene) if any(map(_checkpoints, trainers)) else "",
        "read": (),
        "precision": "",
        "eight_bit": False,
        "collected": {},
        "cut": False,
    }
    needed = names_needed(scene.cell.source, scene.namespace) if scene.cell else frozenset()
    facts |= {"read": tuple(sorted(needed)), "loader": find_loader(scene.cells, needed)}
    holders = None
    if torch is not None:
        holders = Holders(torch, deadline, most)
        _fill(holders, scene, needed, asked=thorough)
        for root, name in (("variables", "variables"), ("outputs", "outputs"), ("frames", "frames")):
            facts[name] = tuple(holders.by_name(root)[:SHOWN])
        facts["frame_bytes"] = sum(size for _, size in holders.by_name("frames"))
        facts["cut"] = holders.cut
        facts["collected"] = _collected(holders, scene, torch)
        unnamed = holders.unnamed(gc.get_objects()) if thorough else {}
        for place, books in _devices(torch, scene, thorough).items():
            facts["ledgers"][place] = _ledger(books, holders, place, unnamed.get(place, 0))
            facts["names"][place] = _names(holders, place)
            if place.startswith("cuda") and thorough:
                facts["names"][place]["foreign"] = _others(int(place[5:]))
        facts["precision"] = _precision(torch, facts["ledgers"])
        facts["eight_bit"] = bool(facts["precision"]) and importlib.util.find_spec("bitsandbytes") is not None
        facts["names"]["cpu"] = _names(holders, "cpu")
    facts["ledgers"]["cpu"] = _host_ledger(host, holders, unnamed.get("cpu", 0) if holders and thorough else 0)
    seen = observations(facts)
    if host.address_limit is not None:
        seen += (Observation("limit of this process", memory_size(host.address_limit), "RLIMIT_AS"),)
    if thorough and host.group_limit is not None:
        seen += (Observation("limit of this container or job", memory_size(host.group_limit), "cgroup"),)
    missing = "CUDA, whose context is dead in this process" if torch is not None and scene.cuda_dead else ""
    return Evidence(MappingProxyType(facts), seen, missing)


def _fill(holders: Holders, scene: Scene, read: Collection[str], *, asked: bool) -> None:
    names = [pair for pair in scene.namespace.items() if not IPYTHON_NAMES.fullmatch(pair[0])]
    names.sort(
        key=lambda pair: pair[0] not in read
    )  # a loader's data is the loader's: deleting the other name frees nothing
    source = scene.cell.source if scene.cell and not asked else ""  # when a person asks, no step is running
    needed = needed_for_backward(source)
    running = names_used(source)[0] - added_to(source)  # the failing cell's own step: what its graph saved is no leak
    holders.add(
        "variables", names, graphs=lambda name: "none" if name in needed else "lists" if name in running else "all"
    )
    shown = scene.namespace.get("Out")
    if type(shown) is dict:
        holders.add("outputs", [(f"Out[{number}]", value) for number, value in list(shown.items())])
    for frame in scene.frames:
        if frame.function != "<module>":
            holders.add(
                "frames",
                [(f"{frame.function}: {name}", value) for name, value in list(frame.locals.items())],
                graphs=_graphs_of(frame, scene),
            )


def _graphs_of(frame: LiveFrame, scene: Scene) -> Callable[[str], str]:
    """What the graphs of a function's locals count for: in a function of the notebook's own, lists may collect what nobody needs."""
    if LIBRARY.search(frame.file):
        return lambda name: "none"
    made = [cell.source for cell in scene.cells if f"def {frame.function}(" in cell.source]
    needed = needed_for_backward(made[-1]) if made else set()
    return lambda name: "none" if name.rpartition(": ")[2] in needed else "lists"


def _collected(holders: Holders, scene: Scene, torch: Any) -> dict[str, tuple[str, bool]]:
    """The names that keep most in graphs and hold tensors alone, with the cell that adds to each."""
    places = {one.place for one in holders.held.values()}
    found: dict[str, tuple[str, bool]] = {}
    for name, _ in by_size(pair for place in places for pair in holders.of(place, "graphs"))[:NAMED]:
        function, _, own = name.rpartition(": ")
        values = [frame.locals.get(own) for frame in scene.frames if function and frame.function == function]
        value = values[-1] if values else scene.namespace.get(own)
        lists = type(value) is list
        parts = value if lists else [value]
        if parts and all(issubclass(type(part), torch.Tensor) for part in parts):
            cell = collecting_cell(scene.cells, own, lists=lists)
            found |= {name: (cell, lists)} if cell else {}
    return found


def _names(holders: Holders, place: str) -> dict[str, tuple[tuple[str, int], ...]]:
    return {kind: tuple(holders.of(place, kind)[:10]) for kind in KINDS}


def _ledger(books: Ledger, holders: Holders, place: str, unnamed: int) -> Ledger:
    """The rows of one device: what names hold, what of the allocated bytes they do not, and the books' other rows."""
    rows = {kind: sum(size for _, size in holders.of(place, kind)) for kind in KINDS}
    named = sum(rows.values())
    rows["unnamed"] = max(min(unnamed, books["allocated"] - named), 0)
    rows["other"] = max(books["allocated"] - named - rows["unnamed"], 0)
    return {**rows, **{row: size for row, size in books.items() if row != "allocated"}}


def _devices(torch: Any, scene: Scene, thorough: bool) -> dict[str, Ledger]:
    """What PyTorch has allocated and cached on each device that is in use; with ``thorough`` what the driver says, too."""
    found: dict[str, Ledger] = {}
    if torch.cuda.is_initialized() and not scene.cuda_dead:
        for index in range(torch.cuda.device_count()):
            stats = torch.cuda.memory_stats(index)
            allocated, reserved = (stats.get(f"{name}_bytes.all.current", 0) for name in ("allocated", "reserved"))
            if not reserved and index != torch.cuda.current_device():
                continue
            total = int(torch.cuda.get_device_properties(index).total_memory)
            books = {"allocated": allocated, "cached": reserved - allocated, "total": total}
            if thorough:
                free, _ = torch.cuda.mem_get_info(index)
                books |= {"foreign": max(total - free - reserved, 0), "free": free}
            else:
                books["outside"] = max(total - reserved, 0)
            found[f"cuda:{index}"] = books
    if torch.backends.mps.is_available() and torch.mps.current_allocated_memory():
        allocated, reserved = torch.mps.current_allocated_memory(), torch.mps.driver_allocated_memory()
        total = int(torch.mps.recommended_max_memory())
        books = {"allocated": allocated, "cached": max(reserved - allocated, 0), "total": total}
        found["mps:0"] = {**books, "outside": max(total - reserved, 0)}
    return found


def _host_ledger(host: host_memory.HostMemory, holders: Holders | None, unnamed: int) -> Ledger:
    rows = {kind: sum(size for _, size in holders.of("cpu", kind)) if holders else 0 for kind in KINDS}
    rows["unnamed"] = unnamed
    if host.resident is not None:  # what is mapped from a file or was never written is not resident
        rows["other"] = max(host.resident - sum(rows.values()), 0)
    if host.total is not None and host.available is not None:
        rows |= {"foreign": max(host.total - host.available - (host.resident or 0), 0), "free": host.available}
    return rows if host.total is None else {**rows, "total": host.total}


def _others(index: int) -> tuple[tuple[str, int], ...]:
    """Processes that use this device, as the driver's tool lists them; this process is not one of them."""
    try:
        found = processes()
    except TimeoutError:
        return ()
    return tuple((f"process {one.number} {one.name}".strip(), one.size) for one in found if one.device == index)


def _precision(torch: Any, ledgers: Mapping[str, Ledger]) -> str:
    """The half precision that the hardware computes in: what `torch` itself says of a device that is in use."""
    if any(place.startswith("cuda") for place in ledgers):
        try:
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        except TypeError:  # an older torch, which knows no emulation
            native = torch.cuda.is_bf16_supported()
        return "bf16" if native else "fp16"
    return ""


def _checkpoint_argument(scene: Scene) -> str:
    """transformers 5.23 calls it by another name than those before."""
    arguments: Any = getattr(scene.module("transformers.training_args"), "TrainingArguments", None)
    fields = getattr(arguments, "__dataclass_fields__", {})
    return next((name for name in ("activation_checkpointing", "gradient_checkpointing") if name in fields), "")


def _checkpoints(trainer: object) -> bool:
    """Whether the Trainer's model can compute its layers again: what its class says, read past any property."""
    model = type(fields_of(trainer).get("model"))
    said = (
        vars(kind)["supports_gradient_checkpointing"]
        for kind in model.__mro__
        if "supports_gradient_checkpointing" in vars(kind)
    )
    return next(said, False) is True
