from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.weights_folder import RENAMED_SAFETENSORS, WeightFile, WeightsFolderProbe, weight_files
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._places import own
from tfdiag_ipython.rules.tfw._convert import path_told

SETUP = """
import tempfile, torch
from transformers import BertConfig, BertModel
folder = tempfile.mkdtemp()
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
model = BertModel(BertConfig(**sizes))
model.save_pretrained(folder)
safetensors = folder + "/model.safetensors"
whole = open(safetensors, "rb").read()
"""
POINTER = """
text = "version https://git-lfs.github.com/spec/v1\\noid sha256:" + "4d" * 32 + "\\nsize 437972328\\n"
open(safetensors, "w").write(text)
"""
TRUNCATED = 'open(safetensors, "wb").write(whole[: len(whole) // 2])\n'
OLD_FORMAT = 'import os\nos.remove(safetensors)\nbinary = folder + "/pytorch_model.bin"\n'
SHARDS = """
import glob, os
os.remove(safetensors)
model.save_pretrained(folder, max_shard_size="1kB")
shard = sorted(glob.glob(folder + "/model-*.safetensors"))[1]
"""
BINARY_SHARDS = """
import json, os
os.remove(safetensors)
names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
weights = list(model.state_dict().items())
for number, name in enumerate(names):
    torch.save(dict(weights[number::2]), f"{folder}/{name}")
index = {key: names[place % 2] for place, (key, _) in enumerate(weights)}
json.dump({"metadata": {}, "weight_map": index}, open(folder + "/pytorch_model.bin.index.json", "w"))
shard = f"{folder}/{names[1]}"
"""
HALF = 'whole = open(shard, "rb").read()\nopen(shard, "wb").write(whole[: len(whole) // 2])\n'
LOAD = "model = BertModel.from_pretrained(folder)"
_STARTS = {"v": "Git LFS pointer", "<": "web page", "\\x89": "HDF5 file (TensorFlow/Keras weights)", "{": "JSON text"}


class DamagedWeightsFile(Rule):
    """A weights file is cut short, or is something else under a weights file's name.

    *What it means*
    The reader (safetensors, or PyTorch's zip and pickle readers) found bytes that its format cannot have. "If you tried to load a
    PyTorch model from a TF 2.0 checkpoint, please set from_tf=True" is said for any unreadable file: it is hardly ever TensorFlow.

    *Why it happens*
    The repository was cloned without git-lfs, so the file is a three-line pointer; the download or the copy broke off; a web page
    (log-in, error) was saved in its place; the disk was full while saving.

    *How tfdiag confirms it*
    It reads the size and the first bytes of the files that were being loaded, and compares a safetensors header with the file's size.

    *Fixes and their safety*
    None is carried out: the whole file must come from where it came from. `git lfs pull` in a clone; `force_download=True`, or
    deleting the file from the cache, for a download.

    *Example*
    `UnpicklingError: invalid load key, 'v'.`: the file begins with `version https://git-lfs…`.

    *References*
    safetensors: format page; Git LFS: pointer specification; torch: `serialization.py`.
    """

    code = "CKP002"
    name = "damaged-weights-file"
    raised = (
        "builtins.OSError",
        "builtins.RuntimeError",
        "builtins.EOFError",
        "_pickle.UnpicklingError",
        "SafetensorError",
    )
    message = re.compile(
        r"(?P<unable>Unable to load (?:weights|vocabulary)? ?from (?:h5|(?:pytorch )?checkpoint) file(?: for '?(?P<given>[^'\n]{0,400}?)'?\s{1,20}at '(?P<file>[^']+)')?)"
        r"|(?P<header>[Ee]rror while deserializing header: ?[\w: ]+|HeaderTooLarge|InvalidHeaderDeserialization|MetadataIncompleteBuffer)"
        r"|(?P<key>invalid load key, '.{1,4}')"
        r"|(?P<reader>PytorchStreamReader failed [\w ]+)|(?P<operand>Unsupported operand \d+)"
        r"|(?P<lfs>cloned a repository without having git-lfs)|(?P<vague>Invalid argument$|^$)"
        r"|No such file or directory: '?(?P<shard>\S{0,300}-\d{5}-of-\d{5}\.(?:safetensors|bin))"
        r"|(?P<magic>Invalid magic number; corrupt file|unexpected EOF, expected \d+ more bytes)",
        re.DOTALL,
    )
    needs = (WeightsFolderProbe,)
    links = (
        Link("safetensors' format", "https://huggingface.co/docs/safetensors/index#format"),
        Link("Git LFS", "https://git-lfs.com"),
    )
    CASES = (
        Match(
            text="OSError: Unable to load weights from pytorch checkpoint file for '/content/small' at '/content/small/pytorch_model.bin'"
            "If you tried to load a PyTorch model from a TF 2.0 checkpoint, please set from_tf=True.",
            certainty=Certainty.LIKELY,
            title="`/content/small/pytorch_model.bin` is no readable PyTorch file",
        ),
        Match(
            text="OSError: Unable to load weights from h5 file. If you tried to load a TF 2.0 model from a PyTorch checkpoint, please "
            "set from_pt=True.",
            title="h5 file cannot be read",
        ),
        Match(text="_pickle.UnpicklingError: invalid load key, 'v'.", title="Git LFS pointer"),
        Match(text="_pickle.UnpicklingError: invalid load key, '<'.", title="web page"),
        Match(
            text="RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory",
            certainty=Certainty.LIKELY,
            title="cut short",
        ),
        Match(
            text="safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
            title="cut short",
        ),
        Match(
            text="safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
            title="Git LFS pointer",
        ),
        Match(
            text="_pickle.UnpicklingError: Weights only load failed. In PyTorch 2.6, we changed the default value of the `weights_only` "
            "argument.\nPlease file an issue with the following: WeightsUnpickler error: \n\nUnsupported operand 118\n",
            title="by its first byte, a Git LFS pointer",
        ),
        NoMatch(text="OSError: [Errno 22] Invalid argument: 'C:\\\\data\\x0bideo.csv'"),
        NoMatch(text="_pickle.UnpicklingError: pickle data was truncated"),
        NoMatch(text="EOFError"),
        Reproduce(
            (SETUP + POINTER, LOAD),
            title=r"`.*model.safetensors` is a Git LFS pointer \(a text of \d+ bytes in place of the real 438 MB\)",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + "import os\nos.rename(safetensors, folder + '/pytorch_model.bin')\n", LOAD),
            title=r"pytorch_model\.bin` is a safetensors file \(under another name: rename it to model\.safetensors\)",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + "open(safetensors, 'ab').write(b'more')\n", LOAD),
            title=r"model\.safetensors` is damaged: 4 bytes longer than its header says",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + TRUNCATED, LOAD),
            title=r"`.*model.safetensors` is damaged: cut short: .* of .*",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + OLD_FORMAT + POINTER.replace("safetensors", "binary"), LOAD),
            title="`.*pytorch_model.bin` is a Git LFS pointer",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                SETUP
                + OLD_FORMAT
                + "torch.save(model.state_dict(), binary)\nwhole = open(binary, 'rb').read()\n"
                + TRUNCATED.replace("safetensors", "binary"),
                LOAD,
            ),
            title="`.*pytorch_model.bin` is damaged: cut short: the archive's end is missing",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + OLD_FORMAT + "open(binary, 'w').close()", LOAD),
            title="`.*pytorch_model.bin` is damaged: it holds nothing",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + SHARDS + HALF, LOAD),
            title="`.*model-00002-of-0.*` is damaged: cut short",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + BINARY_SHARDS + HALF, LOAD),
            title="`.*pytorch_model-00002-of-00002.bin` is damaged: cut short: the archive's end is missing",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + SHARDS + "os.remove(shard)", LOAD),
            title=r"lacks model-00002-of-\d+.safetensors, one of the \d+ files that its index names",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP + BINARY_SHARDS + "os.remove(shard)", LOAD),
            title="lacks pytorch_model-00002-of-00002.bin, one of the 2 files that its index names",
            certainty=Certainty.CONFIRMED,
        ),
        Match(
            text="FileNotFoundError: No such file or directory: /models/m/model-00002-of-00004.safetensors",
            certainty=Certainty.LIKELY,
            title="One of the model's files is missing: model-00002-of-00004.safetensors",
        ),
        NoMatch(text="FileNotFoundError: [Errno 2] No such file or directory: '/data/part-00001.csv'"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure):
            return None  # a pickle of the person's own
        seen = evidence[WeightsFolderProbe.name]
        if hit["shard"]:
            return self._missing(hit["shard"], seen)
        bad = _bad(seen)
        if bad is None and hit["operand"]:
            bad = next((file for file in weight_files(seen, "tensorflow") if file.name == seen.get("at")), None)
        if bad is None:
            vague = not any(hit.groups.values()) or hit["vague"]
            return None if seen or vague else self._from_text(failure, hit)
        if bad.framework == "tensorflow" and not bad.problem and not seen["folder"]:
            return None  # a whole file of TensorFlow's was given: TFW013
        where = path_told(f"{seen['path']}/{bad.name}" if seen["folder"] else seen["path"])
        other = bad.framework == "tensorflow" or bad.kind in {"Git LFS pointer", "web page", RENAMED_SAFETENSORS}
        title = (
            f"{where} is {bad.named} ({bad.problem or 'no PyTorch file'})"
            if other
            else f"{where} is damaged: {bad.problem}"
        )
        remedy = {"Git LFS pointer": "pointer", "web page": "page"}.get(bad.kind, "other" if other else "cut")
        return self.found(
            title,
            Certainty.CONFIRMED,
            what=f"The file that was to be read is not a whole weights file: {bad.told}.",
            why=_REMEDIES[remedy],
            evidence=seen.seen,
        )

    def _missing(self, file: str, seen: Evidence) -> Diagnosis | None:
        name = file.replace("\\", "/").rpartition("/")[2]
        lacking = seen.get("lacking", ()) if seen else ()
        if seen and name not in lacking:
            return None
        title = f"One of the model's files is missing: {name}"
        if seen:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            title = (
                f"{path_told(seen['path'])} lacks {name}{more}, one of the {seen['shards']} files that its index names"
            )
        return self.found(
            title,
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="The model is saved in several files; the index lists them, and from_pretrained needs every one.",
            why="The download, the copy or the saving broke off: get the missing files from where the others came from.",
            evidence=seen.seen,
        )

    def _from_text(self, failure: Failure, hit: Hit) -> Diagnosis | None:
        named = failure.says(r"checkpoint file for\s{1,20}'?[^'\n]{0,400}?'?\s{0,20}at\s{1,20}'(?P<file>[^']+)'")
        where = path_told(named["file"]) if named else "The weights file"
        first = _first_byte(failure)
        if hit["lfs"]:
            return self._likely(f"{where} is a Git LFS pointer, not the weights", "pointer")
        if first in _STARTS:
            remedy = {"v": "pointer", "<": "page"}.get(first, "other")
            return self._likely(
                f"{where} is no PyTorch file but, by its first byte, {_article(_STARTS[first])} {_STARTS[first]}",
                remedy,
            )
        if "h5 file" in hit["unable"]:
            title = "The h5 file cannot be read into this TensorFlow model: cut short, a Git LFS pointer, or of another model"
            return self._likely(title, "cut")
        if hit["unable"]:
            title = f"{where} is no readable PyTorch file: cut short, a Git LFS pointer or another format; not a matter of from_tf"
            return self._likely(title, "cut")
        if first:
            return self._likely(f"{where} is no PyTorch checkpoint: the reader stumbled over '{first}'", "cut")
        if re.search(r"too ?large|header ?deserialization|invalid UTF-8", hit["header"], re.IGNORECASE):
            title = f"{where} does not start like a safetensors file: a Git LFS pointer, a web page or another format"
            return self._likely(title, "pointer")
        said = " ".join((hit["header"] or hit["reader"] or hit["magic"]).split())
        return self._likely(f"{where} is cut short or overwritten ({said[:80]})", "cut")

    def _likely(self, title: str, remedy: str) -> Diagnosis:
        return self.found(
            title,
            Certainty.LIKELY,
            what="The reader found bytes that a whole weights file cannot have.",
            why=_REMEDIES[remedy],
        )


_REMEDIES = {
    "pointer": "The repository was cloned without git-lfs: run `git lfs install` and `git lfs pull` in it, or load it by its Hub name.",
    "page": "A log-in or error page was saved in place of the weights: get the file again with the right address or token.",
    "cut": "The download, the copy or the saving broke off: compare the size with the original's and get the file again "
    "(`force_download=True` for the Hub).",
    "other": "The file is in another format than its name says: load it with what wrote it, or convert it.",
}


def _article(word: str) -> str:
    return "an" if word[0] in "AEIOUH" else "a"


def _first_byte(failure: Failure) -> str:
    """The byte over which the pickle reader stumbled, as the message gives it; empty when it gives none."""
    found = failure.says(r"invalid load key, '(\\x[0-9a-f]{2}|.)'")
    if found:
        return found[1]
    operand = failure.says(r"Unsupported operand (\d{1,3})\b")
    # a file that starts with \x89HDF gets past \x89, a valid opcode, and fails at the H
    return {72: "\\x89"}.get(int(operand[1]), chr(int(operand[1]))) if operand else ""


def _bad(seen: Evidence) -> WeightFile | None:
    """The file that cannot be read: the one being read when it failed, if that is known."""
    files = weight_files(seen)
    reading = [file for file in files if file.name == seen.get("at")]
    return next((file for file in reading or files if file.problem), None)
