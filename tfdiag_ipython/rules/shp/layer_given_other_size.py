from __future__ import annotations

import math
import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.layers import set_in_features
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.layer_input import LayerInputProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import raised_by_hand
from tfdiag_ipython.sizes import sized

_MODULE = re.compile(r"torch[/\\]nn[/\\]modules[/\\]")
HEAD = """import torch
from transformers import BertConfig, BertModel
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = BertModel(BertConfig(**sizes))
        self.score = torch.nn.Linear(16, 3)  # of the larger one
    def forward(self, ids):
        return self.score(self.encoder(ids).pooler_output)
"""
IMAGES = """import torch
class Images(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.score = torch.nn.Linear(12, 2)
    def forward(self, x):
        return self.score(x)
"""


class LayerGivenOtherSize(Rule):
    """A layer was given another number of features than it takes.

    *What it means*
    A linear layer multiplies the last dimension of its input with its weights: that dimension must have `in_features` values.

    *Why it happens*
    A head was written for an encoder of another size (768 for BERT-base, 1,024 for the large one), an input was not flattened or is
    transposed, or a checkpoint's parts do not belong together.

    *How tfdiag confirms it*
    It reads the failing layer's size and path in the model, and the shape of what it was given.

    *Fixes and their safety*
    `set-in-features` (unsafe: the layer is made anew, untrained) writes the size that comes where a cell makes the layer.

    *Example*
    `torch.nn.Linear(768, 3)(torch.ones(8, 512))`.

    *References*
    torch: `torch.nn.Linear`, `torch.nn.LayerNorm`, `torch.nn.Conv2d`.
    """

    code = "SHP002"
    name = "layer-given-other-size"
    raised = ("builtins.RuntimeError",)
    message = re.compile(
        r"mat1 and mat2 shapes cannot be multiplied \((?P<rows>\d+)x(?P<given>\d+) and (?P<takes>\d+)x(?P<makes>\d+)\)"
        r"|size mismatch, m1: \[(?P<m>\d+) x (?P<has>\d+)\], m2: \[(?P<needs>\d+) x (?P<n>\d+)\]"
        r"|a and b must have same reduction dim, but got \[(?P<a>\d+), (?P<b>\d+)\] X \[(?P<c>\d+), (?P<d>\d+)\]"
        r"|Given normalized_shape=\[(?P<norm>\d+)\], expected input with shape \[\*, \d+\], but got input of size ?\[(?P<size>[\d, ]+)\]"
        r"|Given groups=\d+, weight of size \[[\d, ]+\], expected input ?\[[\d, ]+\] to have (?P<channels>\d+) channels, but got (?P<got>\d+)"
    )
    needs = (LayerInputProbe,)
    fixes = (Offer("set-in-features", Applicability.UNSAFE),)
    links = (Link("torch.nn.Linear", "https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html"),)
    CASES = (
        Match(
            text="RuntimeError: mat1 and mat2 shapes cannot be multiplied (32x1024 and 768x2)",
            certainty=Certainty.LIKELY,
            title="A layer takes 768 features and was given 1,024",
        ),
        Match(
            text="RuntimeError: size mismatch, m1: [4 x 300], m2: [768 x 10] at /pytorch/aten/src/TH/generic/THTensorMath.cpp:41",
            title="takes 768 features and was given 300",
        ),
        Match(
            text="RuntimeError: Given groups=1, weight of size [64, 3, 7, 7], expected input[8, 1, 28, 28] to have 3 channels, but got 1 "
            "channels instead",
            title="takes 3 channels and was given 1",
        ),
        Match(
            text="RuntimeError: Given normalized_shape=[768], expected input with shape [*, 768], but got input of size[2, 9, 512]",
            title="takes 768 features and was given 512",
        ),
        NoMatch(text="ValueError: shapes (3,4) and (5,6) not aligned: 4 (dim 1) != 5 (dim 0)"),
        NoMatch(
            text="RuntimeError: Error(s) in loading state_dict for Net:\n\tsize mismatch for fc.weight: copying a param with shape [2, 3]",
            code="CKP003",
        ),
        NoMatch(text="ValueError: Given groups of rows, expected 3 channels"),
        Reproduce(
            (HEAD, "model = Classifier()", "model(torch.tensor([[2, 3]]))"),
            title="Layer `score` of `model` .Linear. takes 16 features and was given 8",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-in-features"),),
        ),
        Reproduce(
            ("import torch\nlayer = torch.nn.Linear(12, 2)", "images = torch.ones(5, 3, 4)", "layer(images)"),
            title="Layer `layer` .Linear. takes 12 features and was given 4, the last dimension of `images` .5 × 3 × 4.",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            ("import torch\nnet = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))", "net(torch.ones(1, 4, 4, 3))"),
            title="Layer `0` of `net` .Conv2d. takes 3 channels and was given 4",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # not the layer is wrong
            (IMAGES, "model = Images()", "model(torch.ones(5, 3, 4))"),
            title="Layer `score` of `model` .Linear. takes 12 features and was given 4",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # its batch was flattened with it
            (IMAGES.replace("(x)", "(x.flatten())"), "model = Images()", "model(torch.ones(5, 3, 4))"),
            title="Layer `score` of `model` .Linear. takes 12 features and was given 60",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                "import torch\nx, w, b = torch.ones(2, 3), torch.ones(5, 4), torch.ones(5)",
                "torch.nn.functional.linear(x, w, b)",
            ),
            title="`x` is 2 × 3 and `w` is 5 × 4: its rows take 4 and were given 3",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # the layer itself has what it takes
            (
                "import torch\nclass Own(torch.nn.Conv2d):\n    def forward(self, x):\n"
                "        return torch.conv2d(super().forward(x), torch.ones(2, 9, 1, 1))\nown = Own(3, 5, 1)",
                "own(torch.ones(2, 3, 4, 4))",
            ),
            title="^A layer takes 9 channels and was given 5$",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            ("import torch\nq, k = torch.ones(2, 3), torch.ones(4, 5)", "q @ k.T"),
            title="A matrix of 3 columns was multiplied with one of 5 rows",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            ("import torch\nq, k = torch.ones(2, 3), torch.ones(4, 3)", "q @ k"),
            title=r"`q` is 2 × 3 and `k` is 4 × 3: write `k\.T`",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if raised_by_hand(hit.raised):
            return None
        seen = evidence[LayerInputProbe.name]
        title, why, remake = _of_layer(seen, hit) if seen.get("layer") else ("", "", False)
        if not title and seen.get("operands"):
            title, why = _of_operands(seen, hit)
        certainty = Certainty.CONFIRMED if title else Certainty.LIKELY
        if not title:
            inside = failure.stored or any(_MODULE.search(frame.file) for frame in hit.raised.frames)
            title, why = _told(hit, inside=inside)
        fixes: tuple[Fix, ...] = ()
        if remake and seen["attribute"]:
            given = seen["given"][-1]
            fixes = (
                self.offer(
                    "set-in-features",
                    f"Make the layer for {given:,} features",
                    f"Writes {given} for {seen['takes']} where `{seen['attribute']}` is made; the model is made again, with new weights in it.",
                    attribute=seen["attribute"],
                    takes=seen["takes"],
                    given=given,
                ),
            )
        return self.found(
            title,
            certainty,
            what="A layer multiplies one dimension of its input with its weights, and takes that size only.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        attribute, takes, given = (
            str(fix.parameters["attribute"]),
            int(fix.parameters["takes"]),
            int(fix.parameters["given"]),
        )
        return edit_cells(scene, lambda source: set_in_features(source, attribute, takes, given))


def _of_layer(seen: Evidence, hit: Hit) -> tuple[str, str, bool]:
    """The title, what to do, and whether it is the layer that must be another; no title where the message has other sizes."""
    takes, shape = seen["takes"], seen["given"]
    convolves = seen["layer"].startswith("Conv")
    place = max(len(shape) - int(seen["layer"][4:5] or 0) - 1, 0) if convolves else -1
    got = shape[place] if shape else 1
    given, needs, _ = _sizes(hit)
    needs = needs or int(hit["channels"] or hit["norm"])
    given = given or int(hit["got"] or hit["size"].rpartition(",")[2])
    if (got, takes) != (given, needs):
        return "", "", False  # a layer of one's own, which computes something else
    model = f"`{seen['model']}`" if seen["model"] else f"the {seen['kind']}"
    name = f"Layer `{seen['path']}` of {model}" if seen["path"] else f"Layer {model}" if seen["model"] else "A layer"
    source = f", the last dimension of `{seen['input']}` ({sized(shape)})" if seen["input"] and not convolves else ""
    title = f"{name} ({seen['layer']}) takes {takes:,} {'channels' if convolves else 'features'} and was given {got:,}{source}"
    if convolves and shape and shape[-1] == takes:
        return (
            title,
            "The channels are last in this input: move them (`x.permute(0, 3, 1, 2)`, or `channels_first` of the image processor).",
            False,
        )
    if not convolves:
        for first in range(1, len(shape) - 1):
            if math.prod(shape[first:]) == takes:
                return (
                    title,
                    f"Its input of {sized(shape)} has {takes:,} values from dimension {first} on: `x.flatten({first})` joins them.",
                    False,
                )
        if len(shape) > 1 and shape[-2] == takes:
            return (
                title,
                f"The dimension before the last has {takes:,}: is the input transposed (`x.transpose(-1, -2)`)?",
                False,
            )
        if got % takes == 0 and (len(shape) == 1 or (math.prod(shape[:-1]) == 1 and seen["rows"] > 1)):
            return (
                title,
                f"{got:,} is {got // takes:,} × {takes:,}: was the batch flattened, too? `x.flatten(1)` keeps its rows.",
                False,
            )
    return (
        title,
        "What comes before it makes another size: an encoder's is `config.hidden_size`; write the layer for that size.",
        True,
    )


def _of_operands(seen: Evidence, hit: Hit) -> tuple[str, str]:
    """The two matrices of the message, if they are found; ``F.linear`` has the second one turned."""
    given, takes, makes = _sizes(hit)
    operands = seen["operands"]
    for place, (one, first) in enumerate(operands):
        for other, second in operands[place + 1 :]:
            if not makes or first[-1:] != (given,) or sorted(second) != sorted((takes, makes)):
                continue
            told = f"`{one}` is {sized(first)} and `{other}` is {sized(second)}"
            if second != (takes, makes):
                return (
                    f"{told}: its rows take {takes:,} and were given {given:,}",
                    "The last dimensions of both must be equal.",
                )
            why = "The last dimension of the first must be the last but one of the second."
            if given == makes:
                return f"{told}: write `{other}.T`", why
            return f"{told}: {given:,} columns do not fit {takes:,} rows", why
    return "", ""


def _sizes(hit: Hit) -> tuple[int, int, int]:
    """The columns of the first matrix, and the rows and columns of the second, as the message has them; 0 for none."""
    names = (("given", "has", "b"), ("takes", "needs", "c"), ("makes", "n", "d"))
    given, takes, makes = (int(next((hit[name] for name in group if hit[name]), 0)) for group in names)
    return given, takes, makes


def _told(hit: Hit, *, inside: bool) -> tuple[str, str]:
    """The best answer that the message allows; ``inside``: in a layer, as far as is known."""
    if hit["channels"]:
        title = f"A layer takes {int(hit['channels']):,} channels and was given {int(hit['got']):,}"
        return (
            title,
            "Grey images have one channel, colour images three, and PyTorch wants the channels before height and width.",
        )
    given, takes, makes = _sizes(hit)
    if makes and not inside:
        title = f"A matrix of {given:,} columns was multiplied with one of {takes:,} rows"
        return title, "The last dimension of the first must be the last but one of the second."
    takes = takes or int(hit["norm"])
    given = given or int(hit["size"].rpartition(",")[2])
    return (
        f"A layer takes {takes:,} features and was given {given:,}",
        "Its weights were made for another size than what comes before it makes (`config.hidden_size` of an encoder), or the parts belong to "
        "different models.",
    )
