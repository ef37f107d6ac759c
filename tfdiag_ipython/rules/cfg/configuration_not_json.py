from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.configuration_file import ConfigurationFileProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._json_files import unreadable
from tfdiag_ipython.rules._places import passes
from tfdiag_ipython.rules.cfg._examples import PLACE

_READERS = re.compile(
    r"transformers[/\\](?:configuration_utils|modeling_utils|utils[/\\]hub|tokenization_utils_tokenizers|modeling_rope_utils|image_processing_base|feature_extraction_utils|processing_utils"
    r"|generation[/\\]configuration_utils|tokenization_utils_base|tokenization_python|models[/\\]auto[/\\]\w+)\.py"
)
TOKENIZER = (
    "from tokenizers import Tokenizer, models\nfrom transformers import PreTrainedTokenizerFast\n"
    "words = Tokenizer(models.WordLevel({'a': 0}, unk_token='a'))\n"
    "PreTrainedTokenizerFast(tokenizer_object=words, unk_token='a').save_pretrained(folder)\n"
)
LOAD = "from transformers import AutoConfig\nAutoConfig.from_pretrained(folder)"


def broken(content: str, name: str = "config.json") -> tuple[str, str]:
    """The cells of a case: a configuration file with this content, and its loading."""
    return (f"{PLACE}(folder / {name!r}).write_bytes({content})", LOAD)


class ConfigurationNotJson(Rule):
    """A configuration file was found, and it is not a JSON object.

    *What it means*
    The library reads `config.json` (and its like for tokenizers, processors and generation) as JSON, and the file is something else.

    *Why it happens*
    The file is empty or cut short, was edited by hand (a comma too many) or written with `str()` or in another encoding, is a Git LFS
    pointer, or is a web page saved under that name.

    *How tfdiag confirms it*
    It reads the first 4 kB of the file, and the text before the place at which the JSON reader stopped; a file of 100 MB costs no more.

    *Fixes and their safety*
    None is carried out, since the right content is not known here: the title says where the file breaks off, or how to get it again.

    *Example*
    `AutoConfig.from_pretrained(folder)` where `config.json` breaks off after the first line.

    *References*
    transformers: `configuration_utils.py`, `PretrainedConfig._get_config_dict`; the Git LFS specification; RFC 8259.
    """

    code = "CFG003"
    name = "configuration-not-json"
    raised = ("builtins.OSError", "json.decoder.JSONDecodeError", "builtins.TypeError", "builtins.UnicodeDecodeError")
    message = re.compile(
        r"It looks like the config file at '(?P<file>[^'\n]{1,300})' is not a valid JSON file"
        r"|(?P<reader>: line \d+ column \d+ \(char \d+\)|codec can't decode byte)"
        r"|\A(?P<type>list indices must be integers or slices, not str|'(?:str|NoneType)' object does not support item assignment"
        r"|argument of type 'NoneType' is not iterable)\Z"
    )
    needs = (ConfigurationFileProbe,)
    CASES = (
        Match(
            text="OSError: It looks like the config file at './out/config.json' is not a valid JSON file.",
            certainty=Certainty.LIKELY,
            title=r"`\./out/config\.json` is not JSON",
        ),
        NoMatch(text="ValueError: settings.json is not a valid JSON file"),
        NoMatch(text="json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        NoMatch(text="TypeError: list indices must be integers or slices, not str"),
        Reproduce(
            broken("""b'{"model_type": "bert",\\n "hidden_size":'"""),
            title=r"config\.json` is cut short: it ends at line 2",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            broken("""b'{"model_type": "bert",\\n "layers": 2,}'"""),
            title=r"config\.json` is not JSON at line 2, column \d+: .*\"layers\": 2,",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(broken("b''"), title=r"config\.json` is empty", certainty=Certainty.CONFIRMED),
        Reproduce(
            broken("b'version https://git-lfs.github.com/spec/v1\\noid sha256:ab\\nsize 12\\n'"),
            title="is a Git LFS pointer: git lfs pull",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            broken("b'<!DOCTYPE html><html><title>Sign in</title></html>'"),
            title="is a web page",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            broken("""b"{'model_type': 'bert'}" """), title="is a Python dictionary", certainty=Certainty.CONFIRMED
        ),
        Reproduce(
            broken("""'{"model_type": "bert"}'.encode("utf-16")"""), title="is UTF-16", certainty=Certainty.CONFIRMED
        ),
        Reproduce(
            broken("""'{"model_type": "bert"}'.encode("utf-8-sig")"""),
            title="begins with a byte order mark",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            broken("""b'{"model_type": "bert", "x": "' + b'a' * 100_000_000"""),
            title=r"config\.json` \(100,000,\d+ bytes\) is cut short",
            certainty=Certainty.CONFIRMED,
        ),
        *(
            Reproduce(
                (
                    f"{PLACE}BertModel(BertConfig(**SMALL)).save_pretrained(folder)\n{TOKENIZER}"
                    f"(folder / {name!r}).write_text('')",
                    f"from transformers import {loader}\n{loader}.from_pretrained(folder)",
                ),
                title=rf"`[^`]*/{name}` is empty",
                certainty=Certainty.CONFIRMED,
                needs=("torch", release),
            )
            for name, loader, release in (
                ("tokenizer.json", "AutoTokenizer", "transformers>=5"),
                ("special_tokens_map.json", "AutoTokenizer", "transformers>=5"),
                ("tokenizer_config.json", "AutoTokenizer", "transformers"),
            )
        ),
        Reproduce(
            (
                f"{PLACE}BertModel(BertConfig(**SMALL)).save_pretrained(folder)\n"
                "(folder / 'model.safetensors').rename(folder / 'model-00001-of-00001.safetensors')\n"
                "(folder / 'model.safetensors.index.json').write_text('{\"weight_map\": {')",
                "from transformers import AutoModel\nAutoModel.from_pretrained(folder)",
            ),
            title=r"model\.safetensors\.index\.json` is cut short",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            broken("bytes(range(256)) * 4"), title=r"config\.json` is binary data", certainty=Certainty.CONFIRMED
        ),
        Reproduce(broken("b'null'"), title=r"config\.json` is JSON, but no object", certainty=Certainty.CONFIRMED),
        Reproduce(
            broken("b'[1, 2]'"),
            title=r"config\.json` is JSON, but no object",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5"),
        ),
        Reproduce(
            (
                PLACE
                + "BertConfig(**SMALL).save_pretrained(folder)\n(folder / 'tokenizer_config.json').write_text('{\"a\":')",
                "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained(folder)",
            ),
            title=r"tokenizer_config\.json` is cut short",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[ConfigurationFileProbe.name]
        if not hit["file"] and (not seen or not passes(failure, _READERS)):
            return None  # JSON of the person's own
        path = str(seen["path"] if seen else hit["file"])[-90:]
        kind = str(seen["kind"]) if seen else ""
        if hit["type"] and kind != "not an object":
            return None
        if kind == "binary" and re.search(r"\.(?:h5|keras|safetensors|bin|pth?|ckpt\.\w+)\Z", path):
            return None  # a weights file was given in the place of its folder: TFW013, CFG004
        if kind == "missing":
            return None  # it was there when it was read: nothing is known of it now
        reader = failure.find("json.decoder.JSONDecodeError", "UnicodeDecodeError")
        said = f": {reader.message.splitlines()[0][:90]}" if reader and reader.message else ""
        told, why = unreadable(seen.facts) if seen else (f"is not JSON{said}", "Look at its first lines.")
        size = f" ({seen['size']:,} bytes)" if seen and seen["size"] > 1_000_000 else ""
        return self.found(
            f"`{path}`{size} {told}",
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="The file is there, and its text cannot be read as the JSON object that a configuration is.",
            why=why,
            evidence=seen.seen,
        )
