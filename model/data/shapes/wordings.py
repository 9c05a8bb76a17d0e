"""How people say what is seen: many phrases for one clip, and some that training never shows.

`wordings` are finite and complete: a phrase belongs to every clip that it is true of, so two clips
can be compared by their phrases alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from model.data.shapes.vocabulary import Subject

VERBS = ("moving", "going", "sliding", "travelling", "drifting", "flying", "heading")
WAYS = {
    "left": ("left", "to the left", "leftwards", "from right to left"),
    "right": ("right", "to the right", "rightwards", "from left to right"),
    "up": ("up", "upwards", "to the top", "from bottom to top"),
    "down": ("down", "downwards", "to the bottom", "from top to bottom"),
}
FINITE = {
    "left": ("moves left", "moves to the left"),
    "right": ("moves right", "moves to the right"),
    "up": ("moves up", "rises"),
    "down": ("moves down", "falls"),
    "growing": ("grows", "gets bigger"),
    "shrinking": ("shrinks", "gets smaller"),
    "clockwise": ("rotates clockwise", "spins clockwise"),
    "anticlockwise": ("rotates anticlockwise", "spins counterclockwise"),
    "speeding up": ("speeds up", "gets faster"),
    "slowing down": ("slows down", "gets slower"),
}
PHRASES = {
    "left": (),
    "right": (),
    "up": ("rising",),
    "down": ("falling",),
    "growing": ("growing", "getting bigger", "getting larger", "becoming larger", "expanding"),
    "shrinking": ("shrinking", "getting smaller", "becoming smaller", "contracting"),
    "clockwise": ("rotating clockwise", "spinning clockwise", "turning clockwise"),
    "anticlockwise": (
        "rotating anticlockwise",
        "spinning anticlockwise",
        "turning anticlockwise",
        "rotating counterclockwise",
        "spinning counterclockwise",
        "rotating counter-clockwise",
    ),
    "speeding up": ("speeding up", "accelerating", "getting faster", "moving faster and faster"),
    "slowing down": ("slowing down", "decelerating", "getting slower", "moving slower and slower"),
}
BOTH_TURNS = ("spinning", "rotating", "turning")
# One verb of each direction is never trained with it, though it is with the other three.
UNSEEN_VERBS = {"left": "drifting", "right": "flying", "up": "sliding", "down": "heading"}
# Whole phrases of the other motions that are kept as well.
UNSEEN_PHRASES = {
    "growing": ("becoming bigger", "growing larger"),
    "shrinking": ("getting tinier and smaller", "shrinking smaller"),
    "clockwise": ("going round clockwise", "turning round clockwise"),
    "anticlockwise": ("turning counterclockwise", "going round anticlockwise"),
    "speeding up": ("becoming faster", "going faster and faster"),
    "slowing down": ("becoming slower", "going slower and slower"),
}
SEEN_FRAMES = (
    "a {noun} {doing}",
    "{noun} {doing}",
    "the {noun} is {doing}",
    "a {noun} that is {doing}",
    "a video of a {noun} {doing}",
)
UNSEEN_FRAMES = (
    "this is a {noun} {doing}",
    "here the {noun} is {doing}",
    "a clip that shows a {noun} {doing}",
    "there is a {noun} {doing} in the video",
)


def plain_label(subject: Subject) -> str:
    """Return the label of a clip in its table: "a red circle moving left"."""
    return _articled(f"a {subject.colour} {subject.outline} {_plain_motion(subject.motion)}")


def wordings(subject: Subject, sizes: Iterable[str] = (), also: str | None = None) -> list[str]:
    """Return every training phrase that is true of a clip, the plain label first.

    `sizes` are words for the size of its shape, `also` is the direction of a clip whose motion is
    a change of speed.
    """
    doing = _doing(subject.motion)
    noun = f"{subject.colour} {subject.outline}"
    texts = [plain_label(subject)]
    texts += [frame.format(noun=noun, doing=d) for frame in SEEN_FRAMES for d in doing]
    texts += [f"a {noun} {verb}" for verb in FINITE[subject.motion]]
    for size in sizes:
        texts += [f"a {size} {noun} {d}" for d in doing]
    texts += _still(subject)
    texts += _vague(subject, doing)
    if also is not None:
        both = (f"moving {also} and {subject.motion}", f"moving {also}", f"moving to the {also}")
        texts += [f"a {noun} {d}" for d in both]
    return list(dict.fromkeys(_articled(text) for text in texts))


def turn_wordings(subject: Subject) -> list[str]:
    """Return the training phrases that tell the sense of a turn and little else, its label first.

    Whoever cannot see the sense guesses it from colour and shape, of which training has some with
    one sense alone: phrases without them make that guess useless.
    """
    doing = [d for d in _doing(subject.motion) if d not in BOTH_TURNS]
    return [_articled(text) for text in (plain_label(subject), *_vague(subject, doing))]


def still_label(subject: Subject) -> str:
    """Return what can be seen in each frame alone: "a red circle"."""
    return _articled(_still(subject)[0])


def still_wordings(subject: Subject, sizes: Iterable[str] = ()) -> list[str]:
    """Return every training phrase that is true of each frame alone."""
    noun = f"{subject.colour} {subject.outline}"
    texts = [*_still(subject), *(f"a {size} {noun}" for size in sizes)]
    return [_articled(text) for text in texts]


def place_wordings(
    subject: Subject, phrases: Iterable[str], sizes: Iterable[str] = ()
) -> list[str]:
    """Return every training phrase that is true of a clip of something at rest, its label first."""
    things = (*_still(subject), "something")
    placed = [f"{thing} {phrase}" for phrase in phrases for thing in things]
    return [*(_articled(text) for text in placed), *still_wordings(subject, sizes)]


def held_out_wordings(subject: Subject) -> list[str]:
    """Return phrases for the same thing that training never shows, made of words that it does."""
    noun = f"{subject.colour} {subject.outline}"
    unseen = _unseen_doing(subject.motion)
    texts = [f"a {noun} {doing}" for doing in unseen]
    texts += [f.format(noun=noun, doing=_plain_motion(subject.motion)) for f in UNSEEN_FRAMES]
    texts += [f.format(noun=noun, doing=d) for f in UNSEEN_FRAMES for d in unseen]
    return [_articled(text) for text in texts]


def _vague(subject: Subject, doing: Iterable[str]) -> list[str]:
    things = ("something", f"a {subject.colour} shape", f"a {subject.outline}")
    return [f"{thing} {d}" for d in doing for thing in things]


def _still(subject: Subject) -> tuple[str, ...]:
    return (
        f"a {subject.colour} {subject.outline}",
        f"a {subject.colour} shape",
        f"a {subject.outline}",
    )


def _plain_motion(motion: str) -> str:
    if motion in WAYS:
        return f"moving {motion}"
    return PHRASES[motion][0]


def _doing(motion: str) -> tuple[str, ...]:
    """Return phrases for a motion, the plainest first."""
    verbs = [v for v in VERBS if v != UNSEEN_VERBS.get(motion)]
    ways = WAYS.get(motion, ())
    told = [f"moving {way}" for way in ways]
    told += [f"{verb} {ways[i % 3]}" for i, verb in enumerate(verbs[1:]) if ways]
    told += PHRASES[motion]
    if "clockwise" in motion:
        told += BOTH_TURNS
    return tuple(told)


def _unseen_doing(motion: str) -> tuple[str, ...]:
    if motion in UNSEEN_VERBS:
        return tuple(f"{UNSEEN_VERBS[motion]} {way}" for way in WAYS[motion][:3])
    return UNSEEN_PHRASES[motion]


def _articled(text: str) -> str:
    """Begin with "an" where the colour asks for it."""
    return text.replace("a orange", "an orange")
