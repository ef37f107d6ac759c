"""Which auto classes come near to each other: what a person tried to do, and what else does nearly that."""

from __future__ import annotations

from collections.abc import Mapping

GENERAL = ("AutoModelForPreTraining", "AutoModel")
"""Auto classes that load nearly everything and do not say what for."""

_NEAR = {
    "CausalLM": "Seq2SeqLM ImageTextToText MultimodalLM Vision2Seq SpeechSeq2Seq MaskedLM",
    "Seq2SeqLM": "CausalLM ImageTextToText MultimodalLM SpeechSeq2Seq Vision2Seq MaskedLM",
    "MaskedLM": "CausalLM Seq2SeqLM MaskedImageModeling",
    "ImageTextToText": "MultimodalLM Vision2Seq VisualQuestionAnswering CausalLM Seq2SeqLM",
    "Vision2Seq": "ImageTextToText MultimodalLM VisualQuestionAnswering CausalLM Seq2SeqLM",
    "MultimodalLM": "ImageTextToText Vision2Seq CausalLM Seq2SeqLM",
    "QuestionAnswering": "DocumentQuestionAnswering VisualQuestionAnswering TableQuestionAnswering Seq2SeqLM CausalLM",
    "DocumentQuestionAnswering": "QuestionAnswering VisualQuestionAnswering ImageTextToText",
    "VisualQuestionAnswering": "ImageTextToText Vision2Seq DocumentQuestionAnswering",
    "TableQuestionAnswering": "QuestionAnswering Seq2SeqLM",
    "SequenceClassification": "ImageClassification AudioClassification VideoClassification TokenClassification",
    "TokenClassification": "SequenceClassification ObjectDetection",
    "MultipleChoice": "SequenceClassification",
    "NextSentencePrediction": "SequenceClassification",
    "ImageClassification": "ZeroShotImageClassification VideoClassification SequenceClassification AudioClassification",
    "ZeroShotImageClassification": "ImageClassification",
    "VideoClassification": "ImageClassification",
    "AudioClassification": "AudioFrameClassification SequenceClassification CTC",
    "SpeechSeq2Seq": "CTC RNNT TDT Seq2SeqLM",
    "CTC": "SpeechSeq2Seq RNNT TDT AudioClassification",
    "ObjectDetection": "ZeroShotObjectDetection InstanceSegmentation UniversalSegmentation",
    "ZeroShotObjectDetection": "ObjectDetection",
    "ImageSegmentation": "SemanticSegmentation UniversalSegmentation InstanceSegmentation MaskGeneration",
    "SemanticSegmentation": "ImageSegmentation UniversalSegmentation InstanceSegmentation",
    "InstanceSegmentation": "UniversalSegmentation ImageSegmentation SemanticSegmentation ObjectDetection",
    "UniversalSegmentation": "InstanceSegmentation SemanticSegmentation ImageSegmentation",
    "TextToWaveform": "TextToSpectrogram",
    "TextToSpectrogram": "TextToWaveform",
}


def related(wanted: str) -> tuple[str, ...]:
    """The auto classes whose purpose is nearest to this one's, nearest first."""
    return tuple(f"AutoModelFor{name}" for name in _NEAR.get(wanted.removeprefix("AutoModelFor"), "").split())


def ranked(wanted: str, accepting: Mapping[str, str], architectures: tuple[str, ...]) -> tuple[str, ...]:
    """The auto classes that accept a checkpoint: those that load the class it was saved from first, and among equals the
    nearest to the one that was asked for; the general ones last.
    """
    near = related(wanted)

    def rank(auto: str) -> tuple[bool, bool, int, int, str]:
        exact = accepting[auto] in architectures
        distance = near.index(auto) if auto in near else len(near)
        return (not exact, auto in GENERAL, GENERAL.index(auto) if auto in GENERAL else 0, distance, auto)

    return tuple(sorted(accepting, key=rank))
