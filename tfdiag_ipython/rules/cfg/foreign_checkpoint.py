from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.loading import load_from, load_with_option
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_folder import ModelFolderProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.cfg._examples import FOLDER, GGUF, PLACE, UNRECOGNIZED, files_of

_LOADER = re.compile(r"[\w.]*(?:Tokenizer|Processor|FeatureExtractor)\w*")
_SINGLE = r"[^'\n]+\.(?:gguf|onnx|safetensors|bin|pth?|ckpt)"
KINDS = frozenset(
    [
        "adapter",
        "diffusers",
        "diffusers-part",
        "sentence-transformers",
        "timm",
        "gguf",
        "onnx",
        "openvino",
        "gguf-file",
        "onnx-file",
        "weights-file",
        "config-file",
    ]
)
"""What :class:`ModelFolderProbe` calls the checkpoints that the auto classes do not open by themselves."""
PARTS = {"diffusers": "unet", "sentence-transformers": "0_Transformer"}


class ForeignCheckpoint(Rule):
    """The folder is another library's, or another format's, and was given to a Transformers class.

    *What it means*
    The files are there and are what they should be; this class does not open their kind: a PEFT adapter, a diffusers pipeline, a
    sentence-transformers, timm, ONNX, OpenVINO or GGUF model, or one weights file in the place of a folder.

    *Why it happens*
    All of them lie on the Hub side by side, and each library reports that *its* file is missing.

    *How tfdiag confirms it*
    It looks into the folder that was given, or into the cached snapshot of the repository, for the file that only this library writes
    (`adapter_config.json`, `model_index.json`, `modules.json`, …).

    *Fixes and their safety*
    `load-base-model` (unsafe: the adapter is left out; for a tokenizer just right) loads the adapter's base model. `load-the-transformer`
    (unsafe: pooling or the rest of the pipeline is left out) loads the part that is a Transformers model. `load-the-folder` (unsafe) loads
    the file's folder. `pass-gguf-file` (unsafe: the weights are turned into floating point) adds `gguf_file=`, where the package
    gguf is installed and the file is one. `open-with-its-library` shows the call that opens it.

    *Example*
    `AutoModelForCausalLM.from_pretrained("acme/lora-adapter")` without peft.

    *References*
    PEFT, Diffusers, Sentence Transformers, timm and Optimum: their pages on saved models; transformers: "GGUF and interaction with
    Transformers".
    """

    code = "CFG004"
    name = "foreign-checkpoint"
    specific = True
    raised = ("builtins.OSError", "builtins.ValueError", "EntryNotFoundError", "HFValidationError", "UnpicklingError")
    message = re.compile(
        r"Unrecognized (?:model|image processor|video processor|feature extractor|processing class) in "
        r"|Couldn't instantiate the backend tokenizer from one of"
        r"|does not appear to have a file named [\w.-]+"
        r"|We couldn't connect to '[^'\n]{1,200}' to load"
        r"|Error no file named [^\n]{1,300}found in directory"
        r"|Can't load (?:tokenizer|feature extractor|image processor|processor|the configuration|the model) (?:for|of) '"
        rf"|It looks like the config file at '{_SINGLE}' is not a valid JSON file"
        r"|Weights only load failed|Unable to load weights from pytorch checkpoint file for '[^'\n]{1,300}\.json'"
        rf"|Repo id must be in the form [^\n]{{1,200}}: '{_SINGLE}'"
    )
    needs = (ModelFolderProbe,)
    fixes = (
        Offer("load-base-model", Applicability.UNSAFE),
        Offer("load-the-transformer", Applicability.UNSAFE),
        Offer("load-the-folder", Applicability.UNSAFE),
        Offer("pass-gguf-file", Applicability.UNSAFE),
        Offer("open-with-its-library", Applicability.DISPLAY_ONLY),
    )
    CASES = (
        Match(
            text=UNRECOGNIZED,
            evidence={"model-folder": FOLDER | {"kind": "timm", "made_of": "resnet18"}},
            certainty=Certainty.CONFIRMED,
            title=r"`out` is a timm model \(resnet18\)",
            fixes=("open-with-its-library",),
        ),
        NoMatch(text=UNRECOGNIZED, code="CFG002"),
        NoMatch(text="OSError: acme/tiny does not appear to have a file named config.json.", code="HUB003"),
        NoMatch(text="OSError: scores.csv was not found in directory out."),
        Reproduce(
            (
                PLACE
                + files_of(("adapter_config.json", "{'base_model_name_or_path': str(base)}"))
                + "BertForMaskedLM(BertConfig(**SMALL)).save_pretrained(base)",
                "from transformers import AutoModelForMaskedLM\nmodel = AutoModelForMaskedLM.from_pretrained(folder)",
            ),
            title="is a PEFT adapter of `.*`: AutoModelForMaskedLM opens it only with peft",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("load-base-model"),),
            environment={"HF_HUB_OFFLINE": "1"},
            isolated=True,
        ),
        Reproduce(
            (
                PLACE + GGUF,
                "from transformers import AutoModelForCausalLM\nmodel = AutoModelForCausalLM.from_pretrained(folder)",
            ),
            title=r"holds a GGUF model \(tiny-f32\.gguf\): it is opened with gguf_file=",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("pass-gguf-file"),),
            needs=("torch", "transformers", "gguf"),
        ),
        Reproduce(
            (
                PLACE + GGUF,
                "from transformers import AutoModelForCausalLM\nAutoModelForCausalLM.from_pretrained(folder)",
            ),
            title=r"holds a GGUF model \(tiny-f32\.gguf\): it is opened with gguf_file= and the package gguf, not installed here",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers", "without gguf"),
        ),
        Reproduce(
            (
                PLACE + "(folder / 'tiny-q4.gguf').write_bytes(b'GGUF' + bytes(64))",
                "from transformers import AutoModelForCausalLM\nAutoModelForCausalLM.from_pretrained(folder)",
            ),
            title=r"holds a GGUF model \(tiny-q4\.gguf\) that does not start like GGUF 2 or 3: get it again",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                PLACE + "BertModel(BertConfig(**SMALL)).save_pretrained(folder)\nfile = folder / 'model.safetensors'",
                "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(file)",
            ),
            title=r"is one weights file \(model\.safetensors\): give AutoModel the folder",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("load-the-folder"),),
        ),
        Reproduce(
            (
                PLACE
                + files_of(
                    ("model_index.json", "{'_class_name': 'StableDiffusionPipeline', '_diffusers_version': '1'}")
                ),
                "from transformers import AutoModel\nAutoModel.from_pretrained(folder)",
            ),
            title=r"is a diffusers pipeline \(StableDiffusionPipeline\): .*DiffusionPipeline\.from_pretrained",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                PLACE
                + files_of(("modules.json", "[]"), ("config_sentence_transformers.json", "{}"))
                + "BertModel(BertConfig(**SMALL)).save_pretrained(folder / '0_Transformer')",
                "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(folder)",
            ),
            title="is a sentence-transformers model: SentenceTransformer",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("load-the-transformer"),),
        ),
        Reproduce(
            (
                PLACE
                + "import huggingface_hub.constants as hub\nhub.HF_HUB_CACHE = str(folder)\n"
                + "commit = folder / 'models--acme--lora' / 'snapshots' / ('a' * 40)\ncommit.mkdir(parents=True)\n"
                + "(commit / 'adapter_config.json').write_text('{\"base_model_name_or_path\": \"acme/base\"}')\n"
                + "(commit.parents[1] / 'refs').mkdir()\n(commit.parents[1] / 'refs' / 'main').write_text(commit.name)",
                "from transformers import AutoModelForCausalLM\n"
                "AutoModelForCausalLM.from_pretrained('acme/lora', cache_dir=folder)",
            ),
            title="`acme/lora` is a PEFT adapter of `acme/base`",
            certainty=Certainty.CONFIRMED,
            environment={"HF_HUB_OFFLINE": "1"},
            isolated=True,
        ),
        Reproduce(
            (
                PLACE + "BertConfig(**SMALL).save_pretrained(folder)\n(folder / 'model.onnx').write_bytes(b'x')",
                "from transformers import AutoModel\nAutoModel.from_pretrained(folder)",
            ),
            title=r"holds an ONNX model \(model\.onnx\)",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                PLACE
                + "BertConfig(**SMALL).save_pretrained(folder)\n(folder / 'openvino_model.xml').write_text('<x/>')",
                "from transformers import AutoModel\nAutoModel.from_pretrained(folder)",
            ),
            title=r"holds an OpenVINO model",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        held = evidence[ModelFolderProbe.name]
        if not held or held["kind"] not in KINDS:
            return None
        asked, path = held["asked"] or "this class", str(held["path"])
        title, call, why = _told(held, asked, str(held["shown"]))
        fixes: list[Fix] = []
        if held["base"] and asked:
            note = "For a tokenizer that is what is wanted. A model is then the base model without what the adapter learned."
            fixes.append(
                self.offer("load-base-model", f"Load {held['base'][:80]}", note, asked=asked, place=held["base"])
            )
        part = PARTS.get(held["kind"], "")
        inner = next((name for name in held["nested"] if name == part or name.endswith(part)), "") if part else ""
        if held["kind"] == "sentence-transformers" and inner:
            note = "The pooling that makes one vector of a sentence is left out."
            place = f"{path.rstrip('/')}/{inner}"
            fixes.append(self.offer("load-the-transformer", f"Load {inner}", note, asked=asked, place=place))
        if held["kind"] in ("weights-file", "config-file"):
            fixes.append(self.offer("load-the-folder", "Load its folder", "", asked=asked, place=_folder(path)))
        elif held["kind"] == "gguf":
            problem, name = held["gguf_problem"], held["gguf"][0]
            note = f"{problem[:1].upper()}{problem[1:]}. " if problem else ""
            note += "The quantized weights are turned into floating point."
            label = f'Pass gguf_file="{name}"'
            fixes.append(self.offer("pass-gguf-file", label, note, display=bool(problem), asked=asked, file=name))
        fixes.append(self.offer("open-with-its-library", "Open it with its own library", call))
        count = len(held["files"])
        what = f"{count} file{' is' if count == 1 else 's are'} there, and none is what {asked} looks for."
        return self.found(title, Certainty.CONFIRMED, what=what, why=why, evidence=held.seen, fixes=tuple(fixes))

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        asked = str(fix.parameters["asked"])
        if fix.id == "pass-gguf-file":
            value = repr(str(fix.parameters["file"]))
            return edit_cells(scene, lambda source: load_with_option(source, asked, "gguf_file", value), apart=True)
        place = str(fix.parameters["place"])
        return edit_cells(scene, lambda source: load_from(source, asked, place), apart=True)


def _told(held: Evidence, asked: str, path: str) -> tuple[str, str, str]:
    """Title, the call that opens it, and why this one does not."""
    kind, name, files = held["kind"], str(held["made_of"])[:40], held["files"]
    here = f"`{path}`"
    if kind == "adapter":
        base = str(held["base"])[-60:] or "a model that it does not name"
        call = f'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{path}")'
        title = f"{here} is a PEFT adapter of `{base}`: {asked} opens it only with peft"
        if _LOADER.fullmatch(asked):
            title = f"{here} is a PEFT adapter without a tokenizer: load it from its base model `{base}`"
        return title, call, "An adapter holds only the weights that were trained on top of its base model."
    if kind == "diffusers":
        title = (
            f"{here} is a diffusers pipeline ({name or 'model_index.json'}): DiffusionPipeline.from_pretrained opens it"
        )
        return (
            title,
            f'DiffusionPipeline.from_pretrained("{path}")',
            "Its parts lie in subfolders, each with a class of its own.",
        )
    if kind == "diffusers-part":
        title = f"{here} is a part of a diffusers pipeline: diffusers.{name or 'ModelMixin'}.from_pretrained opens it"
        return (
            title,
            f'diffusers.{name}.from_pretrained("{path}")',
            "Its config.json is of diffusers and names no model type.",
        )
    if kind == "sentence-transformers":
        title = f'{here} is a sentence-transformers model: SentenceTransformer("…") opens it'
        return (
            title,
            f'SentenceTransformer("{path}")',
            "It is a chain of modules; a Transformers model is at most one of them.",
        )
    if kind == "timm":
        title = f"{here} is a timm model ({name}): timm.create_model opens it, or a newer Transformers with timm"
        return title, f'timm.create_model("local-dir:{path}")', "Transformers wraps timm's models since 4.48."
    if kind == "gguf":
        title = f"{here} holds a GGUF model ({held['gguf'][0][:60]})"
        problem = held["gguf_problem"]
        if "package" in problem:
            title += ": it is opened with gguf_file= and the package gguf, not installed here"
        else:
            title += f" that {problem.removeprefix('the file ')}" if problem else ": it is opened with gguf_file="
        return (
            title,
            f'llama_cpp.Llama("{path}/{held["gguf"][0]}")',
            "Transformers reads a GGUF file only when it is named.",
        )
    if kind == "onnx":
        title = f"{here} holds an ONNX model ({held['onnx'][0][:60]}) and no PyTorch weights"
        return (
            title,
            f'ORTModel.from_pretrained("{path}")  # optimum[onnxruntime]',
            "PyTorch cannot load an ONNX graph.",
        )
    if kind == "openvino":
        title = f"{here} holds an OpenVINO model and no PyTorch weights"
        return (
            title,
            f'OVModel.from_pretrained("{path}")  # optimum[openvino]',
            "PyTorch cannot load an OpenVINO graph.",
        )
    folder = _folder(path)
    what = {"gguf-file": "GGUF", "onnx-file": "ONNX", "config-file": "configuration"}.get(kind, "weights")
    title = f"`{path}` is one {what} file ({files[0][:60]}): give {asked} the folder"
    option = f', gguf_file="{files[0]}"' if kind == "gguf-file" else ""
    call = f'{asked}.from_pretrained("{folder}"{option})'
    if kind == "onnx-file":
        title = f"`{path}` is one ONNX file: onnxruntime opens it, not {asked}"
        call = f'onnxruntime.InferenceSession("{path}")'
    return title, call, "from_pretrained reads several files, so it takes their folder."


def _folder(path: str) -> str:
    return re.sub(r"[\\/]?[^\\/]+$", "", path) or "."
