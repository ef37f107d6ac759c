from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.arguments import DOTTED, gives, with_behind
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, edit_calls
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.dtypes import DtypesProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import raised_by_hand
from tfdiag_ipython.rules.dty._answers import answer, method_for, told

if TYPE_CHECKING:
    import libcst as cst

_KIND = r"(?:torch\.|c10::)?(?:cuda\.)?\w+"
BERT = """import torch
from transformers import BertConfig, BertModel
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
model = BertModel(BertConfig(**sizes))
"""
SPEECH = """import torch
from transformers import BatchFeature, Wav2Vec2Config, Wav2Vec2Model
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_feat_extract_layers=2)
layers = dict(conv_dim=(4, 4), conv_kernel=(3, 3), conv_stride=(2, 2), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
model = Wav2Vec2Model(Wav2Vec2Config(**sizes, **layers)).half().eval()
"""
NET = """import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.score = torch.nn.Linear(2, 1)
    def forward(self, x):
        return self.score(x)
net = Net()
"""
SCALED = """import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l = torch.nn.Linear(2, 2)
    def forward(self, x, scale):
        return self.l(x.float()) * scale
net = Net().half()
"""


class DtypesDiffer(Rule):
    """A layer was given a tensor of another dtype than its weights have.

    *What it means*
    A layer multiplies its weights with its input, and PyTorch does so in one dtype only; nothing is cast by itself, except under autocast.

    *Why it happens*
    The model was loaded in float16 or bfloat16 and an input, or a tensor made in `forward`, is float32; numpy's arrays are float64; a part
    that was added to the model (an adapter, a head) has another dtype than the rest.

    *How tfdiag confirms it*
    It reads the dtypes of the modules in the traceback, of the failing layer and of what the cell's call gave, and whether an argument is
    the very tensor that the layer was given: no value is looked at.

    *Fixes and their safety*
    `cast-input` (safe: the model computes in its own dtype anyway) casts the argument in the cell's call.

    *Example*
    `torch.nn.Linear(2, 1)(torch.from_numpy(numpy.ones((1, 2))))`.

    *References*
    torch: `torch.Tensor.to`; transformers: `from_pretrained(dtype=…)`.
    """

    code = "DTY001"
    name = "dtypes-differ"
    raised = ("builtins.RuntimeError", "builtins.ValueError")
    message = re.compile(
        rf"(?:mat1 and mat2|m1 and m2|self and mat2) (?:must|to) have the same dtype(?:, but got:? (?P<one>{_KIND})(?: and | != )(?P<two>{_KIND}))?"
        rf"|Input type \((?P<input>{_KIND})\) and (?:weight|bias) type \((?P<weight>{_KIND})\) should be the same"
        r"|expected (?:m1 and m2|scalar type) (?P<wanted>Half|Float|Double|BFloat16) but found (?P<found>Half|Float|Double|BFloat16|Long|Int|Byte)\b"
        r"|Expected object of scalar type (?P<type>Half|Float|Double|BFloat16) but got scalar type (?P<other>\w+) for argument"
        r"|(?P<mixed>mixed dtype \(CPU\): )"
        rf"|RNN input dtype \((?P<rnn>{_KIND})\) does not match weight dtype \((?P<gates>{_KIND})\)"
        rf"|input must have the type (?P<must>torch\.\w+), got type (?P<has>torch\.\w+)"
        rf"|Expected query, key, and value to have the same dtype, but got query\.dtype: (?P<query>{_KIND}) key\.dtype: (?P<key>{_KIND})"
    )
    needs = (DtypesProbe,)
    fixes = (Offer("cast-input", Applicability.SAFE),)
    links = (Link("Tensor.to", "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html"),)
    CASES = (
        Match(
            text="RuntimeError: expected mat1 and mat2 to have the same dtype, but got: c10::BFloat16 != float",
            certainty=Certainty.LIKELY,
            title="A layer in float32 was given bfloat16: cast the input to the model's dtype",
        ),
        Match(
            text="RuntimeError: expected scalar type Double but found Float",
            title="float64 and float32 met in one operation",
        ),
        Match(
            text="RuntimeError: Input type (torch.cuda.FloatTensor) and weight type (torch.cuda.HalfTensor) should be the same",
            title="A layer in float16 was given float32",
        ),
        Match(
            text="RuntimeError: Input type (c10::Half) and bias type (float) should be the same",
            title="A layer in float32 was given float16",
        ),
        Match(
            text="ValueError: RNN input dtype (torch.float64) does not match weight dtype (torch.float32). Convert input: ",
            title="A layer in float32 was given float64",
        ),
        Match(
            text="RuntimeError: mixed dtype (CPU): expect parameter to have scalar type of Float", title="another dtype"
        ),
        Match(
            text="RuntimeError: Expected object of scalar type Float but got scalar type Double for argument #2 'mat2' in call to _th_addmm",
            title="float32 and float64 met in one operation",
        ),
        NoMatch(
            text="RuntimeError: Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same",
            code="DEV001",
        ),
        NoMatch(text="RuntimeError: expected scalar type Bool but found Float"),
        NoMatch(text="ValueError: columns must have the same dtype"),
        Reproduce(  # the layer's tensor is a sum of several: which of them has the dtype is not seen
            (
                BERT + "model.half()",
                "vectors = torch.ones(1, 2, 8)",
                "out = model(inputs_embeds=vectors)  # soft prompt",
            ),
            title=r"The layer `embeddings\.LayerNorm` of `model` is float16 and was given float32",
            certainty=Certainty.LIKELY,
            bare=True,
        ),
        Reproduce(  # the argument has the dtype, and the cast in `forward` is at fault
            (SCALED, "net(torch.ones(1, 2).half(), torch.ones(1))"),
            title=r"`x\.float\(\)` is float32, and `self\.l` is float16",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # the same in a file, which cannot be read like a cell
            (
                f"source = {SCALED!r}\nexec(compile(source, 'net.py', 'exec'))",
                "net(torch.ones(1, 2).half(), torch.ones(1))",
            ),
            title="The layer `l` of `net` is float16 and was given float32: a step before it made that",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # and where no module tells what it was given
            (
                SCALED.replace("self.l(x.float())", "torch.nn.functional.linear(x.float(), self.l.weight)"),
                "net(torch.ones(1, 2).half(), torch.ones(1))",
            ),
            title="^float32 and float16 met in one operation$",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (NET + "import numpy as np", "x = torch.from_numpy(np.ones((3, 2)))", "y = net(x / 2)"),
            title=r"`x / 2` is float64, and `net` is float32: write `\(x / 2\)\.float\(\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("cast-input"),),
            needs=("torch",),
        ),
        Reproduce(
            (SPEECH, "batch = BatchFeature({'input_values': torch.ones(1, 50)})", "out = model(**batch)"),
            title=r"`input_values` in `batch` is float32, and `model` is float16: write `batch\[\"input_values\"\]\.to\(model\.dtype\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("cast-input"),),
        ),
        Reproduce(
            (NET, "net(torch.tensor([[1, 2]]))"),
            title=r"`torch\.tensor\(\[\[1, 2\]\]\)` is int64, and `net` is float32",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                NET + "net = torch.nn.Sequential(torch.nn.Linear(2, 2).bfloat16(), net)",
                "net(torch.ones(1, 2).bfloat16())",
            ),
            title=r"`net` is bfloat16, but its layer `1\.score` is float32",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                NET.replace("self.score(x)", "self.score(x + torch.zeros(2))") + "net.half()",
                "net(torch.ones(1, 2).half())",
            ),
            title=r"`x \+ torch\.zeros\(2\)` is float32, and `self\.score` is float16: write `\(x \+ torch\.zeros\(2\)\)\.half\(\)`",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                NET + "ids, x = torch.ones(1, 2), torch.ones(1, 2).double()",
                "net(ids)\nnet(x)  # the other is none of it",
            ),
            title="`x` is float64, and `net` is float32: write `x.float..`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("cast-input"),),
            needs=("torch",),
        ),
        Reproduce(  # the call stands in an earlier cell
            (NET + "def predict(x):\n    return net(x)", "predict(torch.ones(1, 2).double())"),
            title="`x` is float64, and `net` is float32",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                "import torch\nw = torch.ones(3).double()",
                "torch.nn.CrossEntropyLoss(weight=w)(torch.ones(2, 3), torch.tensor([0, 1]))",
            ),
            title="^float32 and float64 met in one operation$",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            ("import torch\na = torch.ones(2, 2)\nb = torch.ones(2, 2).half()", "c = a.T @ b"),
            title="^float32 and float16 met in one operation$",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            ("import torch\na = torch.ones(2, 2)\nb = torch.ones(2, 2).half()", "c = a @ b"),
            title="`a` is float32, and `b` is float16",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        devices = ["cuda" in hit[group] for group in ("input", "weight")]
        if devices[0] != devices[1] or raised_by_hand(hit.raised):
            return None  # the same dtype on another device
        seen = evidence[DtypesProbe.name]
        fixes: tuple[Fix, ...] = ()
        guessed = (
            bool(seen) and bool(seen["casts"]) and not seen["same"]
        )  # an argument has the dtype, and may have nothing to do with it
        known = Evidence(MappingProxyType({**seen.facts, "casts": ()}), seen.seen) if guessed else seen
        title, why = answer(known)
        certainty = Certainty.CONFIRMED if title and not guessed else Certainty.LIKELY
        if seen and seen["casts"]:
            fixes = self._cast(seen)
        if not title:
            layer = failure.stored or (bool(seen.get("weight")) and "" != seen["given"] != seen["weight"])
            title, why = (
                told(hit, layer=layer),
                "Cast the input in the call (`x.to(model.dtype)`), or load the model in one dtype.",
            )
            if not layer:
                why = "Cast one of the two (`y.to(x.dtype)`): numpy makes float64, torch float32 where nothing says otherwise."
        return self.found(
            title,
            certainty,
            what="A layer multiplies its weights with its input in one dtype; nothing is cast by itself.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def _cast(self, seen: Evidence) -> tuple[Fix, ...]:
        method = method_for(seen)
        places = tuple((keyword, place, written) for keyword, place, written, _ in seen["casts"])
        spread = any(keyword.startswith("**") for keyword, _, _ in places)
        amounts = all(dtype.startswith(("float", "bfloat")) for *_, dtype in seen["casts"])
        if not amounts or not method:
            return ()
        return (
            self.offer(
                "cast-input",
                "Cast it in the call",
                f"Writes `{method}` behind it in the call: the model computes in its own dtype.",
                display=not seen["same"]
                or not seen["here"]
                or not DOTTED.fullmatch(seen["called"])
                or (spread and len(places) > 1),
                called=seen["called"],
                places=places,
                method=method,
            ),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        called, places, method = (fix.parameters[key] for key in ("called", "places", "method"))

        def change(call: cst.Call) -> cst.Call:
            if all(gives(call, keyword, place, written) for keyword, place, written in places):
                for keyword, place, _ in places:
                    call = with_behind(call, keyword, place, method)
            return call

        failing = scene.cell.source if scene.cell is not None else ""  # other calls may give the right dtype
        return edit_cells(
            scene,
            lambda source: (
                edit_calls(source, lambda call: dotted(call.func) == called, change) if source == failing else source
            ),
            apart=True,
        )
