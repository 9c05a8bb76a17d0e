"""Which answers a bundle can give honestly; what it cannot is refused with how to make it able."""

from __future__ import annotations

from export.bundle import BundleManifest
from service.contract.embeddings import EmbeddingQuestion
from service.contract.errors import ApiError
from service.contract.request import KnownClip, Question, UploadedClip
from service.inference.shortlist import can_compare

CALIBRATE = "`xclip-serve calibrate BUNDLE --list val.csv`"
NOT_CALIBRATED = (
    "none_of_these and probability are not calibrated: labels that the question does not mean "
    f"stand for all that is not asked; {CALIBRATE} measures them on clips of yours"
)


def check_answerable(question: Question, manifest: BundleManifest) -> None:
    """Refuse a question that this bundle has no answer to.

    Raises:
        ApiError: `bad_field`, or `not_calibrated` with the command that makes it possible.
    """
    if question.shortlist is not None and not can_compare(manifest):
        raise ApiError(
            "bad_field",
            "shortlist compares labels with the clip's vector, and this network gives none of "
            "their length; leave it out",
        )
    if manifest.calibration is not None:
        return
    if question.coverage is not None:
        raise ApiError(
            "not_calibrated",
            "coverage holds for clips that it was measured on, and this bundle was measured on "
            f"none: the operator can do so by {CALIBRATE}; or leave coverage out",
        )
    if question.scores == "sigmoid" and not manifest.native_sigmoid:
        raise ApiError(
            "not_calibrated",
            "this network was trained to choose among labels, so the sigmoid of a logit means "
            f"nothing until it is measured: the operator can do so by {CALIBRATE}; or ask with "
            "scores=softmax",
        )


def check_embeddable(question: EmbeddingQuestion, manifest: BundleManifest) -> None:
    """Refuse vectors of another length than is counted on, or of a space that is the clip's alone.

    Raises:
        ApiError: `bad_field`.
    """
    if question.dimensions not in (None, manifest.text_dim):
        raise ApiError("bad_field", f"dimensions is {manifest.text_dim} here, and no other")
    if not question.texts and not can_compare(manifest):
        raise ApiError(
            "bad_field",
            "this network gives no vector of a clip that can be compared with those of texts",
        )


def check_explainable(clip: UploadedClip | KnownClip) -> UploadedClip:
    """Return the clip if its frames can be had, one by one. ApiError `bad_field` otherwise."""
    if isinstance(clip, KnownClip):
        raise ApiError(
            "bad_field", "explain looks at the frames, which are not kept; upload the clip again"
        )
    if clip.sampling.views != 1:
        raise ApiError("bad_field", "explain looks at the frames of one view; leave views out")
    return clip


def answer_doubts(question: Question, manifest: BundleManifest) -> tuple[str, ...]:
    """Return warnings about how far the answer can be trusted."""
    return (NOT_CALIBRATED,) if question.open_set and manifest.calibration is None else ()
