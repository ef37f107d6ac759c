from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.data.changes import Argument, arguments
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.migrate.edits import argument_edit
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.callable_signature import UNEXPECTED, CallableSignatureProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import passes
from tfdiag_ipython.rules.api._arguments import MODEL, edit_argument, entry_for, gives_both
from tfdiag_ipython.rules.api._examples import SAVED, TOKENIZER
from tfdiag_ipython.rules.imp._symbols import older

OWN = re.compile(r"[/\\](?:transformers|trl|sentence_transformers|setfit)[/\\]")
_WHY = "The code and the installed release are of different times, or the name is misspelt."


class RenamedArgument(Rule):
    """A keyword argument that this release renamed, removed, or does not have yet.

    *What it means*
    The call gives an argument that the class of the installed release does not take.

    *Why it happens*
    Transformers 4.46 to 5 renamed and dropped arguments: `evaluation_strategy` is `eval_strategy`, the Trainer's
    `tokenizer` is `processing_class`. In a release that is older than the argument the same message means: too old. Or
    it is misspelt.

    *How tfdiag confirms it*
    The argument and the callable stand in a table read from the releases (`data/changes.json`), or the signature of the callable has a
    parameter one or two letters away.

    *Fixes and their safety*
    `rename-argument` (safe: the same setting under its new name, or under the one that alone is near) edits the call
    where it stands. `rewrite-argument` (safe: what the release does, or another argument for the same) leaves it out or
    writes what replaces its value. `%tfdiag migrate` does so for the whole program.

    *Example*
    `TrainingArguments("out", evaluation_strategy="epoch")`.

    *References*
    transformers: `MIGRATION_GUIDE_V5.md`.
    """

    code = "API001"
    name = "renamed-argument"
    raised = ("builtins.TypeError",)
    message = UNEXPECTED
    needs = (PackageVersionsProbe, CallableSignatureProbe)
    fixes = (Offer("rename-argument", Applicability.SAFE), Offer("rewrite-argument", Applicability.SAFE))
    CASES = (
        Match(
            text="TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'evaluation_strategy'",
            certainty=Certainty.LIKELY,
            title="`evaluation_strategy` of TrainingArguments is now `eval_strategy`",
            fixes=("rename-argument",),
        ),
        Match(
            text="TypeError: MyTrainer.compute_loss() got an unexpected keyword argument 'num_items_in_batch'",
            title="compute_loss",
        ),
        Match(
            failure=Failure.from_text(
                "TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'eval_strategy'",
                versions={"transformers": "4.38.2"},
            ),
            title="`eval_strategy` of TrainingArguments came with transformers 4.41.*: write `evaluation_strategy`",
            fixes=("rename-argument",),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments('out', train_sampling_strategy='group_by_length', use_cpu=True)",
            ),
            title="`train_sampling_strategy` of TrainingArguments came with transformers 5.2, here is 4.*: upgrade",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5", "accelerate"),
        ),
        Match(
            text="TypeError: hf_hub_download() got an unexpected keyword argument 'use_auth_token'",
            certainty=Certainty.LIKELY,
            title="`use_auth_token` of hf_hub_download is now `token`",
        ),
        NoMatch(text="TypeError: download() got an unexpected keyword argument 'use_auth_token'"),
        NoMatch(text="TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'learning_rat'"),
        NoMatch(text="TypeError: fitness() got an unexpected keyword argument 'learning_rate'"),
        NoMatch(text="TypeError: Lexer.__init__() got an unexpected keyword argument 'tokenizer'"),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments(\n"
                "    'out',\n    evaluation_strategy='epoch',  # each epoch\n    use_cpu=True,\n)",
            ),
            title="`evaluation_strategy` of TrainingArguments is now `eval_strategy`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
            needs=("torch", "transformers", "accelerate"),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments as Arguments",
                "options = {\n    'output_dir': 'out',\n    'evaluation_strategy': 'epoch',  # each epoch\n    'use_cpu': True,\n}",
                "def made():\n    return Arguments(**options)",
                "arguments = made()",
            ),
            title="`evaluation_strategy` of TrainingArguments is now `eval_strategy`",
            fixes=(Try("rename-argument"),),
            needs=("torch", "transformers", "accelerate"),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments('out', overwrite_output_dir=True, use_cpu=True)",
            ),
            title="`overwrite_output_dir` is gone from TrainingArguments: leave it out",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rewrite-argument"),),
            needs=("torch", "transformers>=5", "accelerate"),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments('out', adafactor=True, use_cpu=True)",
            ),
            title="TrainingArguments does not take `adafactor`: use `optim='adafactor'`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rewrite-argument"),),
            needs=("torch", "transformers>=5", "accelerate"),
        ),
        Reproduce(
            (
                SAVED,
                "model = BertModel.from_pretrained(folder, use_auth_token=False)",
            ),
            title="`use_auth_token` of BertModel is now `token`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            (
                "from huggingface_hub import HfApi\napi = HfApi(endpoint='http://127.0.0.1:9')  # nobody answers there",
                "try:\n    api.model_info('a/b', use_auth_token=False)\nexcept Exception as error:\n"
                "    if 'refused' not in str(error):\n        raise",
            ),
            title="`use_auth_token` of HfApi.model_info is now `token`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
            needs=("torch", "huggingface_hub>=1"),
        ),
        Reproduce(
            (
                "from accelerate import Accelerator",
                "options = {'dispatch_batches': False}\naccelerator = Accelerator(cpu=True, **options)",
            ),
            title="Accelerator does not take `dispatch_batches`: it belongs into `dataloader_config=",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rewrite-argument"),),
            needs=("torch", "accelerate>=1"),
        ),
        Reproduce(
            (
                "import torch\nlayer = torch.nn.Linear(2, 2)",
                "optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3, correct_bias=True)",
            ),
            title="AdamW does not take `correct_bias`: PyTorch's AdamW always corrects the bias",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rewrite-argument"),),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments('out', evaluate_during_training=True, use_cpu=True)",
            ),
            title="TrainingArguments does not take `evaluate_during_training`: use `eval_strategy='steps'`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rewrite-argument"),),
            needs=("torch", "transformers", "accelerate"),
        ),
        *(
            Reproduce(  # what it would become is given already: the person knows which is meant
                (
                    "from transformers import TrainingArguments",
                    f"arguments = TrainingArguments('out', evaluate_during_training=True, {other}='no', use_cpu=True)",
                ),
                title="`evaluat(?:e_during_training|ion_strategy)`",
                bare=True,
                needs=("torch", "transformers>=5", "accelerate"),
            )
            for other in ("eval_strategy", "evaluation_strategy")
        ),
        Reproduce(
            (
                TOKENIZER,
                "def encode(text):\n    return tokenizer(text, truncation=True, max_length=4, pad_to_max_length=True)",
                "batch = encode('a b')",
            ),
            title="does not take `pad_to_max_length`: use `padding='max_length'`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rewrite-argument"),),
            needs=("torch", "transformers<5"),
        ),
        Reproduce(  # the new one is given, too: which value is meant?
            (
                "from transformers import TrainingArguments",
                "options = {'use_cpu': True, 'eval_strategy': 'no', 'evaluation_strategy': 'epoch'}\n"
                "arguments = TrainingArguments('out', **options)",
            ),
            title="`evaluation_strategy` of TrainingArguments is now `eval_strategy`",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers", "accelerate"),
        ),
        Reproduce(  # the call stands in one cell, and what it is given in another
            (
                TOKENIZER,
                "options = {'padding': True, 'return_tensor': 'pt'}  # for all texts",
                "batch = tokenizer(['a'], **options)",
            ),
            title="has no argument `return_tensor`: did you mean `return_tensors`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
            needs=("torch", "transformers<5"),
        ),
        Reproduce(  # the new form needs a name that the cell does not import
            (
                SAVED,
                "try:\n    model = BertModel.from_pretrained(folder, load_in_8bit=True)\nexcept ImportError:\n"
                "    pass  # bitsandbytes is not installed",
            ),
            title="BertModel does not take `load_in_8bit`: use `quantization_config=",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rewrite-argument"),),
            needs=("torch", "transformers>=5", "without bitsandbytes"),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments('out', learning_rat=1e-4, use_cpu=True)  # slowly",
            ),
            title="TrainingArguments has no argument `learning_rat`: did you mean `learning_rate`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
            needs=("torch", "transformers", "accelerate"),
        ),
        Reproduce(
            (
                "import tempfile\nfrom transformers import BertConfig, BertForSequenceClassification as Model\n"
                "folder = tempfile.mkdtemp()\n"
                "sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)\n"
                "Model(BertConfig(**sizes)).save_pretrained(folder)",
                "model = Model.from_pretrained(folder, ignore_mismatched_size=True, num_labels=3)",
            ),
            title="from_pretrained has no argument `ignore_mismatched_size`: did you mean `ignore_mismatched_sizes`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
        ),
        Reproduce(
            (
                "from transformers import GPT2Config, GPT2LMHeadModel\n"
                "model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))",
                "model.resize_token_embeddings(new_num_token=9)",
            ),
            title="resize_token_embeddings has no argument `new_num_token`: did you mean `new_num_tokens`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        argument, callee, seen = hit["argument"], hit["callee"], evidence[PackageVersionsProbe.name]
        signature = evidence[CallableSignatureProbe.name]
        place = str(signature["where"]) if signature else ""
        known = entry_for(callee, place, failure, lambda entry: entry.old == argument)
        newer = entry_for(callee, place, failure, lambda entry: entry.new == argument and bool(entry.since))
        if signature and argument in signature["parameters"]:
            return None  # of another callable of that name
        loaded = seen["packages"]["transformers"]["loaded"] if seen else ""
        version = loaded or failure.versions.get("transformers", "")
        if seen and not loaded and (known is None or known.library == "transformers"):
            return None
        if hit.raised.frames and not failure.stored and not signature and not passes(failure, OWN):
            return None  # another library has a `Trainer`, too
        if known:
            return self._renamed(failure, hit, known, seen, signature)
        if newer and older(version, newer.since):
            where = _name(callee, newer.of)
            write = f"write `{newer.old}`" if newer.old else "upgrade, or leave it out"
            return self._found(
                f"`{argument}` of {where} came with transformers {newer.since}, here is {version}: {write}",
                Certainty.CONFIRMED if loaded else Certainty.LIKELY,
                f"`{callee}` was called with `{argument}=`, which this release does not take yet.",
                (*seen.seen, *signature.seen),
                self._rename(failure, argument, newer.old, where, signature) if newer.renamed else (),
            )
        if not signature or not signature["nearest"]:
            return None
        where, nearest = signature.get("through") or _name(callee, ""), signature["nearest"]
        return self._found(
            f"{where} has no argument `{argument}`: did you mean {' or '.join(f'`{name}`' for name in nearest)}?",
            Certainty.CONFIRMED if signature["sure"] else Certainty.POSSIBLE,
            f"`{signature['where']}` takes no `{argument}`.",
            (*seen.seen, *signature.seen),
            self._rename(failure, argument, nearest[0], where, signature) if signature["sure"] else (),
        )

    def _renamed(
        self, failure: Failure, hit: Hit, known: Argument, seen: Evidence, signature: Evidence
    ) -> Diagnosis | None:
        argument, callee = hit["argument"], hit["callee"]
        where = _name(callee, known.of)
        if known.note:
            title = f"{where} does not take `{argument}`: {known.note}"
        elif not known.new:
            title = f"`{argument}` is gone from {where}: leave it out"
        elif signature and known.new not in signature["parameters"] and known.of != MODEL:
            return None
        else:
            title = f"`{argument}` of {where} is now `{known.new}`"
        if known.renamed:
            fixes = self._rename(failure, argument, known.new, _callee_of(where, known.of), signature)
        else:
            fixes = self._rewrite(failure, known, _callee_of(where, known.of), signature)
        return self._found(
            title,
            Certainty.CONFIRMED if signature else Certainty.LIKELY,
            f"`{callee}` was called with `{argument}=`, which it does not take.",
            (*seen.seen, *signature.seen),
            fixes,
        )

    def _found(
        self, title: str, certainty: Certainty, what: str, evidence: tuple[Observation, ...], fixes: tuple[Fix, ...]
    ) -> Diagnosis:
        return self.found(title, certainty, what=what, why=_WHY, evidence=evidence, fixes=fixes)

    def _rename(self, failure: Failure, old: str, new: str, where: str, signature: Evidence) -> tuple[Fix, ...]:
        values = {"old": old, "new": new, "callee": where.split(".")[-1]}
        both = gives_both(failure.source, old, new)
        told = (
            f"Both are given: leave `{old}` out, and give `{new}` the value that you mean."
            if both
            else "The same setting."
        )
        display = both or (bool(signature) and not signature["written"])
        return (self.offer("rename-argument", f"Write {new}=", told, display=display, **values),)

    def _rewrite(self, failure: Failure, known: Argument, callee: str, signature: Evidence) -> tuple[Fix, ...]:
        """The fix that leaves the argument out, or writes what stands for its value; none where a person must see to it."""
        value = str(signature["written"]) if signature else ""
        if not signature:  # old text: the failing line alone tells
            told = re.search(rf"\b{known.old}\s*=\s*([\w.'\"-]+)", failure.source or failure.text)
            value = told[1] if told else ""
        if known.edit != "drop" and not (known.edit == "replace" and value in known.values):
            return ()
        name = known.values.get(value, "").partition("=")[0]
        if name and signature and name not in signature["parameters"] and known.of not in {MODEL, "tokenizer()"}:
            return ()  # this release is too old for it
        label = f"Leave {known.old} out" if not known.values.get(value) else f"Write what replaces {known.old}"
        values = {"old": known.old, "of": known.of, "callee": callee.split(".")[-1]}
        rivals = [name, *(entry.old for entry in arguments() if entry.new == name)] if name else []
        given = next((other for other in rivals if gives_both(failure.source, known.old, other)), "")
        note = f"`{given}` is given, too: leave `{known.old}` out." if given else known.note
        display = bool(given) or (bool(signature) and not value)
        return (self.offer("rewrite-argument", label, note, display=display, **values),)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, callee = str(fix.parameters["old"]), str(fix.parameters["callee"])
        if fix.id == "rename-argument":
            new = str(fix.parameters["new"])
            known = Argument(of="", old=old, new=new, edit="rename")
        else:
            known = next(entry for entry in arguments() if (entry.old, entry.of) == (old, fix.parameters["of"]))
        return edit_argument(
            scene,
            old,
            callee,
            lambda call: argument_edit(call, known),
            lambda entry: entry.changed(known),
            new=known.new,
            needs=known.needs,
        )


def _callee_of(where: str, owner: str) -> str:
    """The callable as the person's cell calls it: a model complains of what `from_pretrained` was given."""
    return "from_pretrained" if owner == MODEL else where


def _name(callee: str, owner: str) -> str:
    """The callable as titles name it: old Pythons say `__init__` only."""
    return callee.replace(".__init__", "") if callee != "__init__" else owner
