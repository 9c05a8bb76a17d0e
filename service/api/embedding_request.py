"""What POST /embeddings asks, checked field by field: vectors of texts, or of a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.api.form import Form
from service.api.json_body import JsonBody
from service.api.label_fields import clean_texts
from service.api.request import check_clip, check_templates, read_given
from service.contract.body import ClipBody, EmbeddingBody
from service.contract.embeddings import EmbeddingQuestion
from service.contract.errors import ApiError
from service.contract.request import ClipRequest, KnownClip
from service.contract.upload import Upload
from service.settings import Settings

MAX_INPUTS = 2048  # as OpenAI's API; the answer is some megabytes then
FORMATS = ("float", "base64")
NO_CLIP = KnownClip("")  # where texts are asked about


def parse_embedding(
    given: Form | JsonBody, settings: Settings, given_up: Callable[[], bool] = lambda: False
) -> ClipRequest[EmbeddingQuestion]:
    """Read which vectors are wanted; see `parse_classify`."""
    fields = read_given(given, settings, EmbeddingBody)
    return check_embedding(fields, given.upload, settings, given_up)


def check_embedding(
    fields: EmbeddingBody,
    upload: Upload | None,
    settings: Settings,
    given_up: Callable[[], bool] = lambda: False,
) -> ClipRequest[EmbeddingQuestion]:
    """Check which vectors are wanted, however it was written; see `parse_classify`.

    Without texts the request is about its clip; with texts it has none, and `NO_CLIP` instead.
    """
    texts = [fields.input] if isinstance(fields.input, str) else fields.input or []
    if fields.encoding_format not in (None, *FORMATS):
        raise ApiError("bad_field", f"encoding_format must be {' or '.join(FORMATS)}")
    question = EmbeddingQuestion(
        texts=_texts(texts, settings, given_up),
        templates=check_templates(fields.templates or [], settings),
        normalize=fields.normalize is not False,
        base64=fields.encoding_format == "base64",
        dimensions=fields.dimensions,
    )
    if texts:
        _refuse_clip(fields, upload)
        return ClipRequest(NO_CLIP, question)
    if fields.video is None and upload is None:
        raise ApiError("missing_field", "give input (a text, or several) or a clip (video)")
    if question.templates:
        raise ApiError("bad_field", "a template is filled with texts; leave it out for a clip")
    return ClipRequest(check_clip(fields, upload, settings), question)


def _texts(
    texts: Sequence[str], settings: Settings, given_up: Callable[[], bool]
) -> tuple[str, ...]:
    most = min(MAX_INPUTS, settings.max_labels)
    if len(texts) > most:
        raise ApiError("too_many_labels", f"input has {len(texts)} texts, the limit is {most}")
    return clean_texts(texts, settings.max_label_chars, given_up)


def _refuse_clip(fields: EmbeddingBody, upload: Upload | None) -> None:
    """Refuse what only a clip can have: it would be passed over."""
    source = fields.video
    if upload is not None or (source is not None and (source.id or source.url)):
        raise ApiError("bad_field", "give input or a clip, one or the other")
    for name in ClipBody.model_fields.keys() - {"video"}:
        if getattr(fields, name) is not None:
            raise ApiError("bad_field", f"{name} is of a clip; leave it out for texts")
