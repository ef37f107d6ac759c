from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan, Progress
from tfdiag_ipython.fixes.cells import EditCells, edit_cells
from tfdiag_ipython.fixes.source import dotted, transform
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.generation_settings import SET_ON_CONFIG, GenerationSettingsProbe, named
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, own

MODEL = (
    "import tempfile, torch\nfrom transformers import GPT2Config, GPT2LMHeadModel\n"
    "sizes = dict(n_layer=1, n_head=1, n_embd=4, vocab_size=8, bos_token_id=0, eos_token_id=0)\n"
    "model = GPT2LMHeadModel(GPT2Config(**sizes))"
)


class GenerationSettingsInConfig(Rule):
    """Generation parameters were set on the model's configuration, where transformers 5 no longer takes them.

    *What it means*
    `model.config.max_length = 9` said how to generate; in transformers 5 that is `model.generation_config.max_length`, and `generate` and
    `save_pretrained` refuse a configuration that says it.

    *Why it happens*
    The code is of the time when both were one. transformers 4 takes it over, with a warning.

    *How tfdiag confirms it*
    The message lists the parameters, and a cell that was run assigns them.

    *Fixes and their safety*
    `set-on-generation-config` (safe: the same setting where it is read) changes the assignments in the cells, and moves what the live
    configuration holds.

    *Example*
    `model.config.num_beams = 4` before `model.generate(ids)`.

    *References*
    transformers: `MIGRATION_GUIDE_V5.md`, Generate.
    """

    code = "API005"
    name = "generation-settings-in-config"
    raised = ("builtins.ValueError",)
    message = SET_ON_CONFIG
    needs = (GenerationSettingsProbe,)
    fixes = (Offer("set-on-generation-config", Applicability.SAFE),)
    CASES = (
        Match(
            text="ValueError: You have modified the pretrained model configuration to control generation We detected the following values "
            "set - {'max_length': 9}. This strategy to control generation is not supported anymore. Please use and modify "
            "`model.generation_config`",
            certainty=Certainty.LIKELY,
            title="`max_length` is set on `model.config`, transformers 5 reads it from `model.generation_config`",
        ),
        Match(
            text="ValueError: Some generation parameters are set in the model config. These should go into `model.generation_config`as "
            "opposed to `model.config`. \nGeneration parameters found: {'num_beams': 4, 'do_sample': True}",
            title="`num_beams` and `do_sample` are set on `model.config`",
        ),
        NoMatch(text="ValueError: Some generation parameters are set wrongly."),
        Reproduce(
            (MODEL, "model.config.max_length = 9  # words", "out = model.generate(torch.tensor([[1]]))"),
            title="`max_length` is set on `model.config`, transformers 5 reads it from `model.generation_config`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-on-generation-config"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            (
                MODEL,
                "model.config.do_sample = True\nmodel.config.top_k = 9\nmodel.save_pretrained(tempfile.mkdtemp())",
            ),
            title="`do_sample` and `top_k` are set on `model.config`, transformers 5 reads them from",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-on-generation-config"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(  # another object has a `config` and a `max_length`, too
            (
                MODEL,
                "from types import SimpleNamespace\napp = SimpleNamespace(config=SimpleNamespace())",
                "app.config.max_length = 5\nmodel.config.max_length = 9",
                "out = model.generate(torch.tensor([[1]]))\nassert app.config.max_length == 5",
            ),
            title="`max_length` is set on `model.config`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-on-generation-config"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(  # a cell reads it where it would be gone
            (
                MODEL,
                "model.config.max_length = 9",
                "longest = model.config.max_length\nout = model.generate(torch.tensor([[1]]))",
            ),
            title="`max_length` is set on `model.config`",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(  # of an object that no cell assigns to
            (MODEL, "vars(model.config).update(num_beams=4)\nmodel.generate(torch.tensor([[1]]))"),
            title="`num_beams` is set on `model.config`",
            certainty=Certainty.LIKELY,
            needs=("torch", "transformers>=5"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TRANSFORMERS):
            return None  # words of the person's own
        names, seen = named(hit["modified"] or hit["found"]), evidence[GenerationSettingsProbe.name]
        if not names:
            return None
        owners: tuple[str, ...] = seen["owners"] if seen else ()
        owner = owners[0] if len(owners) == 1 else "model"
        told = " and ".join(f"`{name}`" for name in names[:4])
        many = len(names) > 1
        title = f"{told} {'are' if many else 'is'} set on `{owner}.config`, "
        title += f"transformers 5 reads {'them' if many else 'it'} from `{owner}.generation_config`"
        fixes: tuple[Fix, ...] = ()
        if owners and seen["all"]:
            label = f"Set {'them' if many else 'it'} on generation_config"
            note = "A cell reads it from there, too: change that by hand." if seen["read"] else "The same setting."
            values = {"names": names, "owners": owners}
            fixes = (self.offer("set-on-generation-config", label, note, display=bool(seen["read"]), **values),)
        return self.found(
            title,
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="generate() and save_pretrained() refuse a model configuration that says how to generate.",
            why="The code is written for transformers 4, where both configurations were read."
            + ("" if seen else " Where no cell sets it, the configuration file of the checkpoint does."),
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        names, owners = (tuple(fix.parameters[key]) for key in ("names", "owners"))
        made = edit_cells(scene, lambda source: _moved(source, owners, names), every=True, undoable=False)
        return MoveSettings(made, owners, names)


class MoveSettings(EditCells):
    """Run the edited cells, after the live configurations' settings were moved to where they belong."""

    def __init__(self, made: EditCells, owners: tuple[str, ...], names: tuple[str, ...]) -> None:
        super().__init__(made.host, made.edits, made.reruns, failure=made.failure, undoable=False)
        self.owners = owners
        self.names = names

    def execute(self, progress: Progress) -> str:
        for owner in self.owners:
            first, *others = owner.split(".")
            model: Any = self.host.namespace.get(first)
            for name in others:
                model = getattr(model, name, None)
            held = getattr(getattr(model, "config", None), "__dict__", {})
            for name in self.names:
                if name in held and hasattr(model, "generation_config"):
                    setattr(model.generation_config, name, held.pop(name))
        return f"{super().execute(progress)} Moved the settings of {', '.join(self.owners)}."


def _moved(source: str, owners: tuple[str, ...], names: tuple[str, ...]) -> str:
    """The cell with ``model.generation_config.name = …`` for the ``model.config.name = …`` of these models."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_AssignTarget(
            self, original_node: cst.AssignTarget, updated_node: cst.AssignTarget
        ) -> cst.AssignTarget:
            target = updated_node.target
            if not isinstance(target, cst.Attribute) or target.attr.value not in names:
                return updated_node
            if dotted(target.value) not in {f"{owner}.config" for owner in owners}:
                return updated_node
            return updated_node.with_deep_changes(
                cst.ensure_type(target.value, cst.Attribute), attr=cst.Name("generation_config")
            )

    return transform(source, lambda tree: tree.visit(Editor()))
