"""How much memory a question takes until it is answered: a bound, by its texts and the bundle.

Labels of everyday length take some kilobytes each, nearly all of it for their vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

from export.bundle.manifest import BundleManifest
from service.contract.embeddings import EmbeddingQuestion
from service.contract.request import Question
from service.contract.timeline import DEFAULT_TOP_K, MOST_TOP_K, TimelineQuestion
from service.inference.negatives import STORED, package_negatives
from service.inference.rivals import COMPARED, contrast_of
from service.inference.timeline import MOST_PREDICTIONS

BYTES_PER_BYTE = 4  # of UTF-8: a character where one of its text lies beyond the 65,536th
BYTES_PER_TEXT = 100  # of Python, for a text however short
BYTES_PER_PROMPT = 600
BYTES_PER_COMPONENT = 8  # of a prompt's vector: as it is computed, and among the others
BYTES_PER_PREDICTION = 800
BYTES_PER_WINDOW, BYTES_PER_FRAME = 1000, 100  # of a window: when each of its frames is shown
BYTES_PER_SEGMENT = 2000  # all are written at once: as text, with what it is in UTF-8
BYTES_PER_LOGIT = 50  # of a label, for each view
BYTES_PER_NUMBER = 80  # of an answer: a float of Python, and its digits
BYTES_PER_NUMBER_IN_BASE64 = 16
COPIES_OF_NEGATIVES = 4  # in float32
BYTES_PER_RIVALRY = 4000  # of a label: how like it others are, in order, and their logits
BYTES_PER_LIKENESS = 1000  # of a label: how like it others are, before they are in order
BYTES_FOR_RIVALS = 20_000  # of a question, however few its labels
COPIES_OF_FRAMES = 5  # the clip, and what is encoded instead of it
LONG_LABEL = 300  # bytes, of a list that is stored


def question_bytes(
    question: object, manifest: BundleManifest, max_views: int, max_windows: int
) -> int:
    """Return bytes that a question may take; none where nothing is asked but to keep a clip."""
    if isinstance(question, EmbeddingQuestion):
        return _of_vectors(question, manifest)
    if isinstance(question, TimelineQuestion):
        answer = _of_windows(question.question, manifest, max_windows)
        return _of_labels(question.question, manifest, max_views) + answer
    return _of_labels(question, manifest, max_views) if isinstance(question, Question) else 0


def _of_vectors(question: EmbeddingQuestion, manifest: BundleManifest) -> int:
    each = BYTES_PER_NUMBER_IN_BASE64 if question.base64 else BYTES_PER_NUMBER
    answer = len(question.texts) * (BYTES_PER_PREDICTION + manifest.text_dim * each)
    return text_bytes(question.texts, question.templates, manifest) + answer


def _of_labels(question: Question, manifest: BundleManifest, max_views: int) -> int:
    stored = manifest.labels.get(question.label_set or "")
    count = len(question.labels) or (stored.count if stored else 0)
    taken = text_bytes(question.labels, question.templates, manifest)
    if stored and question.templates:  # its labels are prompted anew
        taken += count * len(question.templates) * _bytes_per_prompt(manifest)
    written = BYTES_PER_BYTE * _size(question.labels)
    taken += written + prediction_bytes(count, max_views)
    if question.open_set:
        negatives = len(package_negatives()) + STORED
        vectors = negatives * manifest.text_dim * 4 * COPIES_OF_NEGATIVES
        taken += 2 * written + count * BYTES_PER_TEXT + negatives * BYTES_PER_LOGIT * max_views
        taken += vectors
    if contrast_of(question, manifest) is not None:
        taken += rivalry_bytes(count, manifest.text_dim)
    if question.explain:
        inputs = manifest.inputs
        taken += COPIES_OF_FRAMES * inputs.num_frames * inputs.image_size**2 * 3
    return taken


def _of_windows(question: Question, manifest: BundleManifest, max_windows: int) -> int:
    """Return bytes of the predictions and the segments of a timeline."""
    each = question.top_k or DEFAULT_TOP_K
    windows = min(max_windows, max(1, MOST_PREDICTIONS // each))
    segments = windows
    if question.scores == "sigmoid":  # several labels at once, on in every other window
        stored = manifest.labels.get(question.label_set or "")
        count = len(question.labels) or (stored.count if stored else 0)
        segments = (windows + 1) // 2 * min(max(each, MOST_TOP_K), count)
    longest = max((len(label.encode()) for label in question.labels), default=LONG_LABEL)
    predictions = windows * each * (BYTES_PER_PREDICTION + BYTES_PER_BYTE * longest)
    predictions += windows * (BYTES_PER_WINDOW + BYTES_PER_FRAME * manifest.inputs.num_frames)
    return predictions + segments * (BYTES_PER_SEGMENT + 2 * BYTES_PER_BYTE * longest)


def rivalry_bytes(labels: int, text_dim: int) -> int:
    """Return bytes of the rivals of labels: their vectors of length 1 are compared, then what came
    of it is put in order, which takes more where vectors are short.
    """
    compared = 4 * text_dim * (labels + 2 * min(labels, COMPARED)) + labels * BYTES_PER_LIKENESS
    return BYTES_FOR_RIVALS + max(compared, labels * BYTES_PER_RIVALRY)


def prediction_bytes(labels: int, max_views: int) -> int:
    """Return bytes of an answer, from the logits to its last byte, but for the labels in it."""
    return labels * (BYTES_PER_PREDICTION + BYTES_PER_LOGIT * max_views)


def text_bytes(texts: Sequence[str], templates: Sequence[str], manifest: BundleManifest) -> int:
    """Return bytes of texts, of the prompts that are made of them, and of the prompts' vectors."""
    templates = templates or manifest.templates
    each = max(1, len(templates))
    written = _size(texts)
    prompted = each * written + len(texts) * _size(templates)
    return (
        BYTES_PER_BYTE * (written + prompted)
        + BYTES_PER_TEXT * len(texts)
        + each * len(texts) * _bytes_per_prompt(manifest)
    )


def _bytes_per_prompt(manifest: BundleManifest) -> int:
    return BYTES_PER_PROMPT + BYTES_PER_COMPONENT * manifest.text_dim


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)
