"""Each migration, tried on the transformers that is installed: the old form works before the release that dropped it and fails from then on,
and what is written instead works from the release on that knows it."""

import dataclasses
import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

from tfdiag_ipython.data import table
from tfdiag_ipython.data.changes import arguments, environment, methods, tasks
from tfdiag_ipython.migrate import migrate
from tfdiag_ipython.probe import Cell
from tfdiag_ipython.rules.imp._symbols import older, release_of

pytestmark = pytest.mark.hf
transformers = pytest.importorskip("transformers")
HERE = transformers.__version__

SETUP = """
import tempfile
import huggingface_hub
import torch
import transformers
from accelerate import Accelerator
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification, DynamicCache, GPT2Config,
    GPT2LMHeadModel, LlamaConfig, PreTrainedTokenizerFast, Trainer, TrainingArguments, pipeline,
)
folder = tempfile.mkdtemp()
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
model = BertForSequenceClassification(BertConfig(**sizes))
words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[PAD]": 2}, unk_token="a"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]")
tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
decoder = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, bos_token_id=0, eos_token_id=1))
ids = torch.tensor([[1, 2]])
rows = [{"input_ids": [0, 1], "labels": 0}, {"input_ids": [1, 0], "labels": 1}]
arguments = TrainingArguments(folder, report_to=[], use_cpu=True, max_steps=1)
batch = tokenizer("a")
cache = DynamicCache()
config = LlamaConfig(num_hidden_layers=1)
trainer = Trainer(model, arguments, train_dataset=rows)
"""
TRAINING = {
    "evaluation_strategy": "'no'",
    "no_cuda": "True",
    "per_gpu_train_batch_size": "2",
    "per_gpu_eval_batch_size": "2",
    "push_to_hub_token": "'x'",
    "include_tokens_per_second": "True",
    "warmup_ratio": "0.1",
    "torchdynamo": "'eager'",
    "tpu_num_cores": "None",
    "fp16_backend": "'auto'",
    "half_precision_backend": "'auto'",
    "mp_parameters": "''",
    "past_index": "-1",
    "logging_dir": "'logs'",
    "ray_scope": "'last'",
    "push_to_hub_model_id": "None",
    "push_to_hub_organization": "'x'",
    "fp16_opt_level": "'O1'",
    "fsdp_min_num_params": "0",
    "fsdp_transformer_layer_cls_to_wrap": "None",
    "jit_mode_eval": "False",
    "use_legacy_prediction_loop": "False",
    "use_mps_device": "False",
}
HUB = {"use_auth_token": "False", "force_filename": "'d'", "proxies": "{}"}
ARGUMENTS = {
    **{
        ("TrainingArguments", entry.old): "TrainingArguments(folder, report_to=[], {}={})".format(
            entry.old, TRAINING.get(entry.old, "True")
        )
        for entry in arguments()
        if entry.of == "TrainingArguments" and entry.old
    },
    ("Trainer", "tokenizer"): "Trainer(model, arguments, tokenizer=tokenizer)",
    ("trainer.train", "model_path"): "trainer.train(model_path=None)",
    ("model", "load_in_8bit"): "AutoModelForSequenceClassification.from_pretrained(folder, load_in_8bit=True)",
    ("model", "load_in_4bit"): "AutoModelForSequenceClassification.from_pretrained(folder, load_in_4bit=True)",
    (
        "model",
        "use_flash_attention_2",
    ): "AutoModelForSequenceClassification.from_pretrained(folder, use_flash_attention_2=True)",
    ("model", "resume_download"): "AutoModelForSequenceClassification.from_pretrained(folder, resume_download=True)",
    ("model", "use_auth_token"): "AutoModelForSequenceClassification.from_pretrained(folder, use_auth_token=False)",
    ("model", "from_tf"): "AutoModelForSequenceClassification.from_pretrained(folder, from_tf=False)",
    ("model", "from_flax"): "AutoModelForSequenceClassification.from_pretrained(folder, from_flax=False)",
    ("auto class", "use_auth_token"): "AutoTokenizer.from_pretrained(folder, use_auth_token=False)",
    ("pipeline", "use_auth_token"): "pipeline('text-classification', model=folder, use_auth_token=False)",
    ("push_to_hub", "use_auth_token"): "model.push_to_hub('x/y', use_auth_token='x')",
    ("push_to_hub", "use_temp_dir"): "model.push_to_hub('x/y', use_temp_dir=True)",
    ("push_to_hub", "safe_serialization"): "model.push_to_hub('x/y', safe_serialization=True)",
    ("push_to_hub", "organization"): "model.push_to_hub('y', organization='x')",
    ("push_to_hub", "repo_url"): "model.push_to_hub('y', repo_url='x')",
    ("model.save_pretrained", "safe_serialization"): "model.save_pretrained(folder, safe_serialization=True)",
    ("model()", "head_mask"): "model(ids, head_mask=None)",
    ("tokenizer()", "pad_to_max_length"): "tokenizer('a', truncation=True, max_length=2, pad_to_max_length=True)",
    **{
        (
            "huggingface_hub",
            entry.old,
        ): "huggingface_hub.hf_hub_download('a/b', 'c', {}={}, local_files_only=True)".format(
            entry.old, HUB.get(entry.old, "True")
        )
        for entry in arguments()
        if entry.of == "huggingface_hub"
    },
    **{
        ("Accelerator", entry.old): f"Accelerator(cpu=True, {entry.old}={'folder' if 'dir' in entry.old else 'False'})"
        for entry in arguments()
        if entry.of == "Accelerator"
    },
    ("torch.optim.AdamW", "correct_bias"): "torch.optim.AdamW(model.parameters(), correct_bias=True)",
    (
        "torch.optim.AdamW",
        "no_deprecation_warning",
    ): "torch.optim.AdamW(model.parameters(), no_deprecation_warning=True)",
    ("model.generate", "return_legacy_cache"): "decoder.generate(ids, max_new_tokens=2, return_legacy_cache=False)",
}
METHODS = {
    ("tokenizer", "encode_plus"): "tokenizer.encode_plus('a', None, padding=True)",
    ("tokenizer", "batch_encode_plus"): "tokenizer.batch_encode_plus(['a', 'b'], padding=True)",
    (
        "tokenizer",
        "as_target_tokenizer",
    ): "with tokenizer.as_target_tokenizer():\n    labels = tokenizer(['a', 'b'], padding=True)",
    ("tokenizer", "prepare_seq2seq_batch"): "tokenizer.prepare_seq2seq_batch",
    ("tokenizer", "sanitize_special_tokens"): "tokenizer.sanitize_special_tokens()",
    ("batch", "words"): "batch.words()",
    ("cache", "get_max_length"): "cache.get_max_length()",
    ("cache", "get_max_cache_shape"): "cache.get_max_cache_shape()",
    ("cache", "get_usable_length"): "cache.get_usable_length(1)",
    ("cache", "from_legacy_cache"): "cache.from_legacy_cache",
    ("cache", "to_legacy_cache"): "cache.to_legacy_cache",
    ("trainer", "prediction_loop"): "trainer.prediction_loop",
    ("model", "get_head_mask"): "model.get_head_mask(None, 1)",
    ("model", "get_extended_attention_mask"): "model.get_extended_attention_mask",
    ("model", "invert_attention_mask"): "model.invert_attention_mask",
    ("model", "parallelize"): "decoder.parallelize",
    ("model", "deparallelize"): "decoder.deparallelize",
    ("model", "prune_heads"): "model.prune_heads({})",
    ("model", "to_bettertransformer"): "model.to_bettertransformer",
}
TOLD = [entry for entry in arguments() if entry.gone]
NEW = [entry for entry in arguments() if not entry.old]


def migrated(source: str) -> str:
    """The last cell of a program, as ``%tfdiag migrate`` writes it."""
    found = migrate([Cell(1, SETUP), Cell(2, source)], release="4.57.6")
    assert found.findings and all(finding.place.cell == 1 for finding in found.findings), (
        "the set-up is written for both releases"
    )
    return found.sources().get(1, source)


def migrated_again(source: str) -> str:
    return migrate([Cell(1, SETUP), Cell(2, source)]).sources().get(1, source)


def refusal(source: str) -> str:
    """How transformers refuses this; empty where it takes it (that the Hub or a package is out of reach is no refusal)."""
    space: dict[str, object] = {}
    exec(SETUP, space)
    try:
        exec(source, space)
    except (TypeError, AttributeError, ImportError, KeyError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        words = r"unexpected keyword|has no attribute|AttributeError: |cannot import|been removed|not used by the model|No module|positive integer|not supported anymore"
        return told if re.search(words, told) and "bitsandbytes" not in told else ""
    except Exception:
        return ""
    return ""


def check(source: str, entry) -> None:
    refused = bool(refusal(source))
    silent = getattr(entry, "silent", False)
    library = getattr(entry, "library", "transformers")
    here = HERE if library == "transformers" else importlib.metadata.version(library)
    ignored = getattr(entry, "ignored", "")
    silent = silent or bool(ignored and not older(here, ignored))
    assert refused is (not silent and not older(here, entry.gone)), f"on {HERE}: {refusal(source) or 'accepted'}"
    new = migrated(source)
    if not entry.edit:
        assert new == source
        return
    assert new != source and migrated_again(new) == new
    if not older(HERE, entry.since or "0"):
        assert refusal(new) == ""


@pytest.mark.parametrize("entry", TOLD, ids=[f"{entry.of} {entry.old}".replace(" ", "-") for entry in TOLD])
def test_argument(entry, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check(ARGUMENTS[entry.of, entry.old], entry)


@pytest.mark.parametrize("entry", NEW, ids=[entry.new for entry in NEW])
def test_new_argument(entry):
    taken = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    assert (entry.new in taken) is not older(HERE, entry.since)


PRESENT = [entry for entry in methods() if not entry.back]


@pytest.mark.parametrize("entry", PRESENT, ids=[f"{entry.of}-{entry.old}" for entry in PRESENT])
def test_method_or_attribute(entry):
    written = f"decoder.config.{entry.old}" if entry.edit == "generation" else f"{entry.of}.{entry.old}"
    check(METHODS.get((entry.of, entry.old), written), entry)


def test_a_generation_setting_reaches_generate():
    source = "decoder.config.max_length = 7\nout = decoder.generate(ids, min_length=7, do_sample=False)"
    assert bool(refusal(source)) is not older(HERE, "5.0")
    space: dict[str, object] = {}
    exec(SETUP, space)
    exec(migrated(source), space)
    assert space["out"].shape[1] == 7


def test_labels_are_the_same_without_the_target_block():
    source = METHODS["tokenizer", "as_target_tokenizer"]
    space: dict[str, object] = {}
    exec(SETUP, space)
    exec(migrated(source), space)
    assert space["labels"]["input_ids"] == [[0], [1]]
    if older(HERE, "5.0"):
        new = dict(space["labels"])
        exec(source, space)
        assert dict(space["labels"]) == new


def test_a_chat_template_gives_the_ids_as_before():
    source = "ids = tokenizer.apply_chat_template([{'role': 'user', 'content': 'b'}])"
    space: dict[str, object] = {}
    exec(SETUP, space)
    exec(source, space)
    assert isinstance(space["ids"], list) is older(HERE, "5.0")
    exec(migrated(source), space)
    assert space["ids"] == [1]


def test_half_precision_loads_as_the_listing_says():
    source = "model.half().save_pretrained(folder)\nhalf = AutoModelForSequenceClassification.from_pretrained(folder)"
    found = migrate([Cell(1, SETUP), Cell(2, source)], release="4.57.6").findings
    assert [finding.edit for finding in found] == ['`dtype="float32"`, if you need it']
    space: dict[str, object] = {}
    exec(SETUP, space)
    exec(source, space)
    kept = source.replace("from_pretrained(folder)", 'from_pretrained(folder, dtype="float32")')
    assert (str(space["half"].dtype) == "torch.float32") is older(HERE, "5.0")
    exec(kept, space)
    assert str(space["half"].dtype) == "torch.float32"


def test_a_trainer_of_the_persons_own_trains_again():
    source = (
        "class Mine(Trainer):\n"
        "    def compute_loss(self, model, inputs, return_outputs=False):\n"
        "        outputs = model(**inputs)\n"
        "        return (outputs.loss, outputs) if return_outputs else outputs.loss\n"
        "Mine(model, arguments, train_dataset=rows).train()"
    )
    assert "num_items_in_batch" in refusal(source)
    assert refusal(migrated(source)) == ""


NAMES = [
    name
    for name, known in table("symbols")["removed"].items()
    if known.get("new") and known.get("library", "transformers") == "transformers" and not known.get("calls_differ")
]


@pytest.mark.parametrize("name", [*NAMES, "ViTFeatureExtractor", "CLIPFeatureExtractor", "DetrFeatureExtractor"])
def test_name(name):
    source = f"from transformers import {name} as kind"
    assert bool(refusal(source)) is not older(HERE, release_of("gone", name) or "5.0")
    assert refusal(migrated(source)) == ""


@pytest.mark.parametrize(
    ("source", "gone"),
    [
        ("from transformers.models.bert.tokenization_bert_fast import BertTokenizerFast", "5.0"),
        ("from transformers.modeling_bert import BertModel", "4.0"),
        ("from transformers.generation_utils import GenerationMixin", "4.50"),
    ],
)
def test_module(source, gone):
    assert bool(refusal(source)) is not older(HERE, gone)
    assert refusal(migrated(source)) == ""


@pytest.mark.parametrize("task", tasks())
def test_pipeline_task(task):
    name = "translation_en_to_de" if task == "translation" else task
    source = f"transformers.pipelines.check_task('{name}')"
    assert bool(refusal(source)) is not older(HERE, "5.0")
    assert migrated(f"pipe = pipeline('{name}', model=folder)") == f"pipe = pipeline('{name}', model=folder)"


@pytest.mark.parametrize("name", environment())
def test_variable(name, tmp_path):
    source = f"import os\nos.environ['{name}'] = {str(tmp_path)!r}\nimport transformers"
    look = "\nfrom transformers.utils import hub\nprint(getattr(hub, 'TRANSFORMERS_CACHE', hub.constants.HF_HUB_CACHE))"

    def folder(program: str) -> str:
        plain = {key: value for key, value in os.environ.items() if "CACHE" not in key}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=plain, check=True)
        return done.stdout.strip().splitlines()[-1]

    assert (folder(source + look) == str(tmp_path)) is older(HERE, "5.0")
    assert folder(migrated(source) + look) == str(tmp_path)
