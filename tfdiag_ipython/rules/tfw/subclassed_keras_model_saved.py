from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, edit_calls
from tfdiag_ipython.fixes.statements import insert_before_call
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.keras_model import KerasModelProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tfw._tensorflow_example import TENSORFLOW, TENSORFLOW_SETUP

if TYPE_CHECKING:
    import libcst as cst

PRETRAINED, WEIGHTS = "save-pretrained", "save-weights"
SEEN = {
    "variable": "model",
    "model": "TFBertForSequenceClassification",
    "ours": True,
    "inside": ("TFBertMainLayer",),
    "file": "bert.h5",
}
_TRANSFORMERS = r"transformers[/\\.]|\bTF[A-Z]\w+(?:Model|Layer|For\w+)\b|modeling_tf_"
_MODEL_FILE = re.compile(r"keras[/\\](?:src[/\\])?(?:engine|models)[/\\](?:training|network|model|functional)\.py$")


class SubclassedKerasModelSaved(Rule):
    """`model.save("x.h5")` of a model that is, or contains, a class of transformers.

    *What it means*
    HDF5 holds a whole Keras model as the list of its layers and their `get_config`. transformers' models are subclasses of `Model` whose
    structure is Python code: there is no such list.

    *Why it happens*
    `model.save(…)` with a name in `.h5` or `.keras`, `ModelCheckpoint` without `save_weights_only=True`, or `model.to_json()`.

    *How tfdiag confirms it*
    It finds the model in Keras's frames and looks whether its class is one of transformers'. Without that: `NotImplementedError` from `get_config` of Keras's `Model` itself, or Keras's sentence about HDF5, together with a class or file of
    transformers. Without transformers in it, it is silent: a subclassed model of the person's own is Keras's business.

    *Fixes and their safety*
    Both write other files than the call that failed, hence unsafe. `save-pretrained` puts `model.save_pretrained("x")` for
    `model.save("x.h5")`; `save-weights` puts `model.config.save_pretrained("x")` and `model.save_weights("x/tf_model.h5")`. Either folder can be
    loaded by transformers 4, and converted for transformers 5 (TFW001).

    *Example*
    `TFBertForSequenceClassification….save("model.h5")`

    *References*
    Keras: "Serialization and saving"; transformers 4: `TFPreTrainedModel.save_pretrained`.
    """

    code = "TFW006"
    name = "subclassed-keras-model-saved"
    raised = ("builtins.NotImplementedError",)
    message = re.compile(
        r"^\s*$|(?P<hdf>Saving the model to HDF5 format requires the model to be a Functional)"
        r"|(?P<layer>[Ll]ayers? .{0,80}(?:must override|does not implement|was created by passing).{0,200}get_config)",
        re.DOTALL,
    )
    needs = (KerasModelProbe,)
    fixes = (Offer(PRETRAINED, Applicability.UNSAFE), Offer(WEIGHTS, Applicability.UNSAFE))
    links = (Link("Keras: saving", "https://keras.io/guides/serialization_and_saving/"),)
    CASES = (
        Match(
            text='Traceback (most recent call last):\n  File "t.py", line 9, in <module>\n    model.save("x.h5")\n'
            '  File "/x/site-packages/transformers/modeling_tf_utils.py", line 1101, in save\n    super().save(*args)\n'
            '  File "/x/site-packages/tensorflow/python/keras/engine/training.py", line 2231, in get_config\n'
            "    raise NotImplementedError\nNotImplementedError",
            certainty=Certainty.LIKELY,
            title="HDF5",
        ),
        Match(
            text='  File "/x/site-packages/transformers/modeling_tf_utils.py", line 9, in save\n    super().save()\n'
            "NotImplementedError: Saving the model to HDF5 format requires the model to be a Functional model or a Sequential model. "
            "It does not work for subclassed models.",
            certainty=Certainty.LIKELY,
        ),
        Match(
            text="NotImplementedError: Saving the model to HDF5 format requires the model to be a Functional model or a Sequential model. "
            "It does not work for subclassed models, because such models are defined via the body of a Python method, which isn't safely "
            'serializable. Consider saving to the Tensorflow SavedModel format (by setting save_format="tf") or using `save_weights`.',
            evidence={"keras-model": SEEN},
            certainty=Certainty.CONFIRMED,
            title="`model` is transformers' `TFBertForSequenceClassification`: .*`bert.h5`",
        ),
        Match(
            text="NotImplementedError: Saving the model to HDF5 format requires the model to be a Functional model or a Sequential model.",
            evidence={"keras-model": SEEN | {"ours": False, "model": "Mine", "inside": ("TFBertModel",)}},
            certainty=Certainty.CONFIRMED,
            title="contains transformers' `TFBertModel`",
        ),
        Reproduce(
            (TENSORFLOW_SETUP, 'model.save("bert.h5")'),
            certainty=Certainty.CONFIRMED,
            title="`model` is transformers' `TFBertForSequenceClassification`: .*`bert.h5`",
            fixes=(Try(PRETRAINED), Try(WEIGHTS)),
            needs=TENSORFLOW,
            isolated=True,
        ),
        NoMatch(text="NotImplementedError: Layers with arguments in `__init__` must override `get_config`."),
        NoMatch(text="NotImplementedError"),
        NoMatch(
            text='  File "/x/site-packages/tensorflow/python/keras/engine/training.py", line 2231, in get_config\n'
            "    raise NotImplementedError\nNotImplementedError"
        ),
        NoMatch(
            text="NotImplementedError: Saving the model to HDF5 format requires the model to be a Functional model or a Sequential model."
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[KerasModelProbe.name]
        if seen and (seen["ours"] or seen["inside"]):
            return self._seen(failure, seen)
        if seen and seen["model"]:
            return None  # a subclassed model of the person's own is Keras's business
        frames = hit.raised.frames
        ours = failure.says(_TRANSFORMERS) or any(
            re.search(_TRANSFORMERS, frame.file + frame.source) for frame in frames
        )
        silent = not hit.raised.message.strip()
        in_model = bool(frames) and frames[-1].function == "get_config" and _MODEL_FILE.search(frames[-1].file)
        if not ours or (silent and not in_model):
            return None  # a subclassed model of the person's own is Keras's business
        return self.found(
            "A whole Keras model cannot be saved to HDF5 when it is (or contains) a subclassed model such as transformers' TF classes",
            Certainty.LIKELY,
            what="Keras asked the model for its get_config, and a subclassed model has none.",
            why="Save the weights: `model.save_pretrained(folder)` for a transformers model, `model.save_weights(…)` for one built around "
            "it, `save_weights_only=True` for ModelCheckpoint.",
        )

    def _seen(self, failure: Failure, seen: Evidence) -> Diagnosis:
        name, kind = seen["variable"] or "the model", seen["model"]
        what = (
            f"`{name}` is transformers' `{kind}`"
            if seen["ours"]
            else f"`{name}` contains transformers' `{seen['inside'][0]}`"
        )
        target = f" `{seen['file']}`" if seen["file"] else " HDF5"
        fixes = [
            self.offer(code, label, told, variable=seen["variable"])
            for code, (label, told) in _OFFERS.items()
            if seen["ours"] and seen["variable"] and _edited(failure.source, seen["variable"], code) != failure.source
        ]
        return self.found(
            f"{what}: Keras cannot save such a model whole to{target}, only its weights",
            Certainty.CONFIRMED,
            what="A subclassed model is Python code: HDF5 has no place for it. Its weights can be saved, and the class is made again from its config.",
            why="Save with `model.save_pretrained(folder)`, or `save_weights` to a file named tf_model.h5 beside the config. For a model built "
            "around it: `save_weights`, and build it in code before `load_weights`.",
            evidence=seen.seen,
            fixes=tuple(fixes),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        variable = str(fix.parameters["variable"])
        note = "It writes a folder in place of one file; Undo leaves that folder where it is."
        return edit_cells(scene, lambda source: _edited(source, variable, fix.id), note=note)


def _edited(source: str, variable: str, way: str) -> str:
    """The cell that saves in the way that works: ``save("x.h5")`` becomes a folder ``x``. Unchanged where the name is no literal."""
    folders: list[str] = []

    def wanted(call: cst.Call) -> bool:
        return dotted(call.func) == f"{variable}.save" and len(call.args) == 1 and bool(_folder(call.args[0].value))

    def change(call: cst.Call) -> cst.BaseExpression:
        import libcst as cst

        folder = _folder(call.args[0].value)
        folders.append(folder)
        if way == PRETRAINED:
            return cst.parse_expression(f"{variable}.save_pretrained({folder!r})".replace("'", '"'))
        return cst.parse_expression(f"{variable}.save_weights({folder + '/tf_model.h5'!r})".replace("'", '"'))

    changed = edit_calls(source, wanted, change)
    if way == WEIGHTS and len(folders) == 1:
        return insert_before_call(changed, variable, f'{variable}.config.save_pretrained("{folders[0]}")')
    return changed if way == PRETRAINED else source


def _folder(value: cst.BaseExpression) -> str:
    """The name without its ending, if it is plain text with one of those that ask for a whole model."""
    import libcst as cst

    text = value.evaluated_value if isinstance(value, cst.SimpleString) else None
    found = re.fullmatch(r"([\w ./-]*\w)\.(?:h5|hdf5|keras)", text) if isinstance(text, str) else None
    return found[1] if found else ""


_OFFERS = {
    PRETRAINED: (
        "Save with save_pretrained",
        "Writes the folder that transformers itself loads: config.json and tf_model.h5.",
    ),
    WEIGHTS: ("Save with save_weights", "Writes config.json and, by Keras's own save_weights, tf_model.h5 beside it."),
}
