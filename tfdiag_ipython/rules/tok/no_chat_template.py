from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.chat_template import ChatTemplateProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule
from tfdiag_ipython.rules._places import own
from tfdiag_ipython.rules.tok._examples import TOKENIZER

CHAT = "chat = [{'role': 'user', 'content': 'the film'}]\n"
SAVED = TOKENIZER + (
    "import os, tempfile\nfrom transformers import AutoTokenizer\nos.chdir(tempfile.mkdtemp())\n"
    "tokenizer.save_pretrained('PLACE')\ntokenizer = AutoTokenizer.from_pretrained('PLACE')\n"
)
PLACE = re.compile(r"transformers[/\\]|trl[/\\]|vllm[/\\]")
_WHY = (
    "A template writes a conversation as the one text that the model was trained on. Base models have none: they continue plain text. "
    "Until 4.43 transformers used one of its own instead, without a word."
)


class NoChatTemplate(Rule):
    """A conversation is to become a prompt, and the tokenizer has no chat template.

    *What it means*
    `apply_chat_template` writes a list of messages as one text, in the form that the model was trained on. That form comes with the
    checkpoint, as `chat_template.jinja` or in `tokenizer_config.json`; here it does not.

    *Why it happens*
    The checkpoint is a base model, whose instruct or chat sibling has the template; or a folder to which only the weights and the vocabulary
    were saved; or it belongs to a processor and not to its tokenizer, or the other way around.

    *How tfdiag confirms it*
    It takes the tokenizer from the failing frame, looks into the folder or the cached repository that it was loaded from, and at the
    other tokenizers and processors of the notebook.

    *Fixes and their safety*
    `give-plain-text` and `take-the-template` are shown only: what a model was trained on is not known here, and with a form of
    another model's it answers worse without a word.

    *Example*
    `AutoTokenizer.from_pretrained("gpt2").apply_chat_template(messages)`.

    *References*
    transformers: `PreTrainedTokenizerBase.get_chat_template`; the page on chat templates.
    """

    code = "TOK006"
    name = "no-chat-template"
    kinds = ("exception", "warning")
    message = re.compile(
        r"tokenizer\.chat_template is not set and no template argument was passed"
        r"|(?P<processor>this processor does not have a chat template|No chat template is set for this processor)"
        r"|No chat template is (?:set|defined) for this tokenizer"
        r"|default chat template is no longer allowed, so you must provide a chat template"
    )
    needs = (ChatTemplateProbe,)
    fixes = (
        Offer("give-plain-text", Applicability.DISPLAY_ONLY),
        Offer("take-the-template", Applicability.DISPLAY_ONLY),
    )
    links = (Link("Chat templates", "https://huggingface.co/docs/transformers/chat_templating"),)
    CASES = (
        Match(
            text="ValueError: Cannot use apply_chat_template() because tokenizer.chat_template is not set and no template argument was "
            "passed! For information about writing templates please see the documentation",
            certainty=Certainty.LIKELY,
            title="The tokenizer has no chat template: load the instruct version of the model",
            fixes=("give-plain-text",),
        ),
        Match(
            text="ValueError: Cannot use apply_chat_template because this processor does not have a chat template.",
            certainty=Certainty.LIKELY,
            title="The processor has no chat template",
        ),
        Match(
            text="ValueError: As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template "
            "if the tokenizer does not define one.",
            certainty=Certainty.LIKELY,
        ),
        Match(
            text="ValueError: Cannot use chat template functions because tokenizer.chat_template is not set and no template argument was passed!",
            evidence={
                "chat-template": {
                    "name": "base",
                    "kind": "GPT2Tokenizer",
                    "processor": False,
                    "within": False,
                    "place": "acme/small",
                    "local": False,
                    "chats": False,
                    "file": "",
                    "others": ("chat_tokenizer",),
                }
            },
            certainty=Certainty.CONFIRMED,
            title="`base` has no chat template, and `chat_tokenizer` of this notebook has one",
            fixes=("take-the-template",),
        ),
        NoMatch(text="ValueError: This model has multiple chat templates with no default specified!"),
        NoMatch(text="jinja2.exceptions.TemplateNotFound: chat_template"),
        Reproduce(
            (SAVED.replace("PLACE", "tiny-lm") + CHAT, "ids = tokenizer.apply_chat_template(chat)"),
            title="`tokenizer` from `tiny-lm` has no chat template, and neither has that folder",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SAVED.replace("PLACE", "tiny-chat") + CHAT, "ids = tokenizer.apply_chat_template(chat)"),
            title="`tokenizer` from `tiny-chat` has no chat template, though its name says that it chats",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                SAVED.replace("PLACE", "tiny-lm") + CHAT,
                "open('tiny-lm/chat_template.jinja', 'w').write('{{ messages }}')\nids = tokenizer.apply_chat_template(chat)",
            ),
            title=r"`tokenizer` has no chat template, and `tiny-lm` has one in `chat_template\.jinja`: load it again",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                TOKENIZER
                + CHAT
                + "import copy\nother = copy.deepcopy(tokenizer)\nother.chat_template = '{{ messages }}'",
                "ids = tokenizer.apply_chat_template(chat)",
            ),
            title="`tokenizer` has no chat template, and `other` of this notebook has one",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[ChatTemplateProbe.name]
        if own(failure, PLACE):
            return None  # words of the person's own
        kind = "processor" if hit["processor"] or seen.get("processor") else "tokenizer"
        if not seen:
            return self.found(
                f"The {kind} has no chat template: load the instruct version of the model, or give it plain text",
                Certainty.LIKELY,
                what="A conversation cannot be written as a prompt without the model's own form for it.",
                why=_WHY,
                fixes=(self._plain("tokenizer"),),
            )
        name, place = str(seen["name"]), str(seen["place"])
        short = place.replace("\\", "/").rstrip("/").rpartition("/")[2] if seen["local"] else place[-80:]
        subject = f"`{name}`" if name else f"The {kind}"
        fixes: tuple[Fix, ...] = (self._plain(name or "tokenizer"),)
        if seen["within"]:
            title = f"{subject} has no chat template, and its tokenizer has one: call {name or 'processor'}.tokenizer.apply_chat_template"
        elif seen["file"]:
            title = f"{subject} has no chat template, and `{short}` has one in `{seen['file']}`: load it again, or with a newer transformers"
        elif seen["others"]:
            other = seen["others"][0]
            title = f"{subject} has no chat template, and `{other}` of this notebook has one"
            note = "Right only where both models were trained on conversations of the same form."
            label = f"{name or 'tokenizer'}.chat_template = {other}.chat_template"
            fixes = (self.offer("take-the-template", label, note), *fixes)
        elif seen["chats"]:
            title = (
                f"{subject} from `{short}` has no chat template, though its name says that it chats: its files lack it"
            )
        elif seen["local"]:
            title = f"{subject} from `{short}` has no chat template, and neither has that folder: load the tokenizer that it was trained with"
        elif place:
            title = f"{subject} from `{short}` has no chat template: it seems to be a base model, which continues plain text"
        else:
            title = f"{subject} has no chat template"
        return self.found(
            title[:200],
            Certainty.CONFIRMED,
            what=f"`chat_template` of this {seen['kind']} is None.",
            why=_WHY,
            evidence=seen.seen,
            fixes=fixes,
        )

    def _plain(self, name: str) -> Fix:
        note = "For a base model; for a chat the instruct version of the same model has the template, and was trained on it."
        return self.offer("give-plain-text", f'{name}("Question: ...\\nAnswer:", return_tensors="pt")', note)
