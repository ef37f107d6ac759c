from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, edit_calls, with_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.cuda_setup import CudaSetupProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TORCH, own, raised_by_hand

if TYPE_CHECKING:
    import libcst as cst

SAVED = """import os, tempfile, torch, zipfile
folder = tempfile.mkdtemp()
path, made = os.path.join(folder, "best.pt"), os.path.join(folder, "cpu.pt")
torch.save({"w": torch.ones(2)}, made)
with zipfile.ZipFile(made) as old, zipfile.ZipFile(path, "w") as new:  # as a GPU would have written it
    for name in old.namelist():
        new.writestr(name, old.read(name).replace(b"X\\x03\\x00\\x00\\x00cpu", b"X\\x06\\x00\\x00\\x00cuda:0"))
"""


class SavedOnGpu(Rule):
    """A file that was saved from a GPU is loaded where torch has no such GPU.

    *What it means*
    `torch.save` notes on which device each tensor was, and `torch.load` puts it there again, unless `map_location` says otherwise.

    *Why it happens*
    A checkpoint of a GPU is loaded on a computer without one, or one of the GPU 3 where there is only GPU 0.

    *How tfdiag confirms it*
    The message says so; the build of torch and the driver's files tell whether there could be a GPU.

    *Fixes and their safety*
    `map-to-cpu` (unsafe: the tensors are on the CPU afterwards, on a computer with a GPU, too) adds `map_location="cpu"` to the call.

    *Example*
    `torch.load("best.pt")` of a file that was saved from `cuda:0`.

    *References*
    torch: `torch.load`.
    """

    code = "ENV003"
    name = "saved-on-gpu"
    raised = ("builtins.RuntimeError",)
    message = re.compile(
        r"Attempting to deserialize object on (?:a CUDA device but torch\.cuda\.is_available\(\) is False"
        r"|CUDA device (?P<device>\d+) but torch\.cuda\.device_count\(\) is (?P<count>\d+))"
    )
    needs = (CudaSetupProbe,)
    fixes = (Offer("map-to-cpu", Applicability.UNSAFE),)
    links = (Link("torch.load", "https://docs.pytorch.org/docs/stable/generated/torch.load.html"),)
    CASES = (
        Match(
            text="RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are running",
            certainty=Certainty.LIKELY,
            title='The file was saved from a GPU, and torch sees none here: pass map_location="cpu"',
            fixes=("map-to-cpu",),
        ),
        Match(
            text="RuntimeError: Attempting to deserialize object on CUDA device 5 but torch.cuda.device_count() is 2. Please use torch.load",
            title='The file was saved from GPU 5, and there are 2 here: pass map_location="cpu"',
        ),
        NoMatch(text="RuntimeError: Attempting to deserialize object of an unknown device"),
        NoMatch(text="ValueError: Attempting to deserialize a model without its config"),
        NoMatch(text="RuntimeError: torch.cuda.is_available() is False"),
        Reproduce(
            (SAVED, "weights = torch.load(path)  # the best epoch"),
            title="The file was saved from a GPU, and torch sees none here",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("map-to-cpu"),),
            needs=("torch", "without triton"),
        ),
        Reproduce(  # the file is not to blame
            (SAVED, "weights = torch.load(made, map_location='cuda')"),
            title='The call puts it on "cuda", and torch sees no GPU here: pass map_location="cpu"',
            certainty=Certainty.CONFIRMED,
            fixes=(Try("map-to-cpu"),),
            needs=("torch", "without triton"),
        ),
        Reproduce(
            (SAVED + "gpu = torch.device('cuda')", "weights = torch.load(made, gpu)"),
            title='The call puts it on "cuda", and torch sees no GPU here',
            fixes=(Try("map-to-cpu"),),
            needs=("torch", "without triton"),
        ),
        Reproduce(  # as pickle does it
            (SAVED + "stored = open(path, 'rb').read()", "torch.storage._load_from_bytes(stored)"),
            title="The file was saved from a GPU, and torch sees none here$",
            bare=True,
            needs=("torch", "without triton"),
        ),
        Reproduce(  # another function loads it
            (SAVED, "load = torch.load\nweights = load(path)"),
            title="The file was saved from a GPU",
            bare=True,
            needs=("torch", "without triton"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TORCH) or raised_by_hand(hit.raised):
            return None
        seen = evidence[CudaSetupProbe.name]
        title = "The file was saved from a GPU, and torch sees none here"
        if seen.get("mapped"):
            title = f'The call puts it on "{seen["mapped"]}", and torch sees no GPU here'
        if hit["count"]:
            verb = "is" if hit["count"] == "1" else "are"
            title = (
                f'The call puts it on "{seen["mapped"]}"'
                if seen.get("mapped")
                else f"The file was saved from GPU {hit['device']}"
            )
            title += f", and there {verb} {hit['count']} here"
        called = any(frame.file.startswith("<cell") and "torch.load(" in frame.source for frame in failure.frames)
        why = "torch.load puts each tensor on the device that it was saved from, unless it is told another one."
        if seen and not seen["build"]:
            why += f" This torch ({seen['version']}) is built for the CPU only."
        pickled = any(frame.function == "_load_from_bytes" for frame in hit.raised.frames)
        if pickled:
            why = "pickle, unlike torch.load, cannot be told another place: move the tensors to the CPU before they are pickled, or use torch.save."
        told = 'Writes `map_location="cpu"` into the call of torch.load; `load_state_dict` copies from there to wherever the model is.'
        return self.found(
            title if pickled else f'{title}: pass map_location="cpu"',
            Certainty.LIKELY if failure.stored else Certainty.CONFIRMED,
            what="torch.save notes the device of each tensor.",
            why=why,
            evidence=seen.seen,
            fixes=() if pickled else (self.offer("map-to-cpu", "Load it to the CPU", told, display=not called),),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return edit_cells(scene, lambda source: edit_calls(source, calls_to("torch.load"), _to_cpu), apart=True)


def _to_cpu(call: cst.Call) -> cst.Call:
    """The call with its ``map_location``, which is its second argument, on the CPU."""
    import libcst as cst

    first = [arg for arg in call.args[:2] if not arg.star and arg.keyword is None]
    if len(first) < 2:
        return with_arguments(call, {"map_location": '"cpu"'})
    return call.with_deep_changes(first[1], value=cst.SimpleString('"cpu"'))
