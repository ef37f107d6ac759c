from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.devices import DevicesProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule

SAME = "RuntimeError: Expected all tensors to be on the same device, but "


class TensorsOnDifferentDevices(Rule):
    """Tensors on different devices met in one operation.

    *What it means*
    An operation reads all its tensors on one device; here at least one of them is on another. Nothing is moved by itself.

    *Why it happens*
    The model was moved to the GPU and the inputs were not (or the other way round), a tensor is made inside `forward` without
    `device=`, or a model split over several devices is used without the hooks that move its activations.

    *How tfdiag confirms it*
    It reads the devices of the running model's parameters and of what its `forward` was given: metadata only.

    *Fixes and their safety*
    `move-inputs` (shown only) is the line that moves the inputs to the model.

    *Example*
    `model.to("cuda"); model(**tokenizer("a film", return_tensors="pt"))`

    *References*
    torch: `torch.Tensor.to`; transformers: `BatchEncoding.to`.
    """

    code = "DEV001"
    name = "tensors-on-different-devices"
    raised = ("builtins.RuntimeError", "builtins.ValueError")
    message = re.compile(
        r"Expected all tensors to be on the same device"
        r"(?:, but (?:found at least two devices, (?P<one>[a-z]+(?::\d+)?)(?: and |, )(?P<two>[a-z]+(?::\d+)?)"
        r"|got (?P<argument>\w+) is on (?P<is>[a-z]+(?::\d+)?), different from other tensors on (?P<others>[a-z]+(?::\d+)?)))?"
        r"|Input type \((?P<input>[\w.]+)\) and weight type \((?P<weight>[\w.]+)\) should be the same"
        r"|Expected object of (?:device type|backend) (?P<wanted>\w+) but got (?:device type|backend) (?P<got>\w+)"
        r"|Tensor for (?:argument #\d+ )?'(?P<called>\w+)' is on (?P<on>\w+), but expected (?:it|them) to be on (?P<should>\w+)"
        r"|(?P<mps>Placeholder storage has not been allocated on MPS device)"
        r"|indices should be either on (?:cpu|\w+) or on the same device as the indexed tensor \((?P<indexed>[a-z]+(?::\d+)?)\)"
        r"|module must have its parameters and buffers on device (?P<first>[a-z:\d]+) .{0,40}found one of them on device: (?P<stray>[a-z:\d]+)"
    )
    needs = (DevicesProbe,)
    fixes = (Offer("move-inputs", Applicability.DISPLAY_ONLY),)
    links = (Link("Tensor.to", "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html"),)
    CASES = (
        Match(
            text=f"{SAME}found at least two devices, cpu and cuda:0! (when checking argument for argument index in method "
            "wrapper_CUDA__index_select)",
            certainty=Certainty.LIKELY,
            title="ids .*embedding.*cpu and cuda:0",
        ),
        Match(
            text=f"{SAME}got mat1 is on cpu, different from other tensors on cuda:0 (when checking argument in method wrapper_CUDA_addmm)",
            title="`mat1` is on cpu, the others on cuda:0",
        ),
        Match(text=f"{SAME}found at least two devices, cuda:0 and cuda:1!", title="split.*cuda:0 and cuda:1"),
        Match(
            text="RuntimeError: Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same or input should "
            "be a MKLDNN tensor and weight is a dense tensor",
            title="cpu and cuda",
        ),
        Match(
            text="RuntimeError: Tensor for argument #2 'mat1' is on CPU, but expected it to be on GPU (while checking arguments for addmm)",
            title="`mat1` is on cpu, the others on gpu",
        ),
        Match(
            text=f"{SAME}found at least two devices, cuda:0 and cpu!",
            evidence={
                "devices": {
                    "model": "model",
                    "model_devices": ("cuda:0",),
                    "inputs": {"input_ids": "cpu"},
                    "variable": "batch",
                    "movable": True,
                }
            },
            certainty=Certainty.CONFIRMED,
            title="`batch` is on cpu, and `model` is on cuda:0",
            fixes=("move-inputs",),
        ),
        Match(
            text="RuntimeError: module must have its parameters and buffers on device cuda:0 (device_ids[0]) but found one of them on "
            "device: cuda:1",
            title="DataParallel.*cuda:0.*cuda:1",
        ),
        NoMatch(text="RuntimeError: Input type (float) and bias type (c10::Half) should be the same", code="DTY001"),
        NoMatch(
            text="RuntimeError: Input type (torch.cuda.FloatTensor) and weight type (torch.cuda.HalfTensor) should be the same",
            code="DTY001",
        ),
        NoMatch(text="RuntimeError: Expected all rows to be on the same page"),
        Reproduce(
            (
                "import torch\nmodel = torch.nn.Linear(2, 2).to('cuda')\nbatch = torch.ones(1, 2)",
                "scores = model(batch)",
            ),
            certainty=Certainty.CONFIRMED,
            title="`batch` is on cpu, and `model` is on cuda:0",
            needs=("torch",),
            gpu=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["input"] and ("cuda" in hit["input"]) == ("cuda" in hit["weight"]):
            return None  # the same device and another dtype
        seen = evidence[DevicesProbe.name]
        places: tuple[str, ...] = seen.get("model_devices", ())
        stray = {name: device for name, device in (seen.get("inputs") or {}).items() if device not in places}
        if len(places) == 1 and stray:
            return self._confirmed(seen, places[0], stray)
        return self.found(
            _title(failure, hit),
            Certainty.LIKELY,
            what="An operation reads all its tensors on one device; nothing is moved by itself.",
            why="Move the inputs to the model (`inputs.to(model.device)`), and make tensors inside `forward` with `device=`.",
            evidence=seen.seen,
        )

    def _confirmed(self, seen: Evidence, place: str, stray: Mapping[str, str]) -> Diagnosis:
        argument, device = next(iter(stray.items()))
        name, model = seen["variable"] or argument, seen["model"] or "the model"
        shown = f"`{seen['model']}`" if seen["model"] else model
        fixes: tuple[Fix, ...] = ()
        if seen["variable"] and seen["model"]:
            moved = (
                f"{name}.to('{place}')"
                if seen["movable"]
                else f"{{key: value.to('{place}') for key, value in {name}.items()}}"
            )
            line = f"{name} = {moved}"
            fixes = (
                self.offer(
                    "move-inputs", f"Add `{line}` before the call", "The inputs are copied to the model's device."
                ),
            )
        return self.found(
            f"`{name}` is on {device}, and {shown} is on {place}: move the inputs to the model",
            Certainty.CONFIRMED,
            what=f"On another device than the model: {', '.join(f'`{one}` ({where})' for one, where in stray.items())}.",
            why="The model was moved to its device, and the inputs were not; nothing is moved by itself.",
            evidence=seen.seen,
            fixes=fixes,
        )


def _title(failure: Failure, hit: Hit) -> str:
    """The best answer that the message allows."""
    if hit["stray"]:
        return f"DataParallel needs the whole model on {hit['first']}, and a part of it is on {hit['stray']}"
    one, two = hit["one"], hit["two"]
    if hit["wanted"]:
        one, two = hit["wanted"].lower(), hit["got"].lower()
    if hit["input"]:
        one, two = ("cuda" if "cuda" in kind else "cpu" for kind in (hit["input"], hit["weight"]))
    name, on, others = (
        hit["argument"] or hit["called"],
        hit["is"] or hit["on"].lower(),
        hit["others"] or hit["should"].lower(),
    )
    if name:
        return f"`{name}` is on {on}, the others on {others}: move the inputs to the model's device"
    if hit["mps"]:
        return "The model is on mps, and an input is not: move the inputs to the model's device"
    if hit["indexed"]:
        return f"The indices are on another device than the tensor that they index, which is on {hit['indexed']}"
    if "meta" in {one, two}:
        return f"Tensors on {one} and {two} met: what is on meta has no values, its weights were never loaded"
    if not one:
        return "Tensors on different devices met in one operation: move the inputs to the model's device"
    if one != "cpu" != two and one.partition(":")[0] == two.partition(":")[0]:
        return f"The model is split over devices, and tensors on {one} and {two} met in one operation"
    if failure.says(r"index_select|embedding"):
        return f"The ids and the embedding that they are looked up in are on different devices ({one} and {two}): move the inputs"
    return f"Tensors on {one} and {two} met in one operation: move the inputs to the model's device"
