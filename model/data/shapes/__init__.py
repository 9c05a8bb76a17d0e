"""Moving shapes: real video files whose labels are known, drawn by a program.

Coloured shapes move over varied backgrounds in ways that only the order of the frames tells
apart. Test data, tutorial data and what the demo is trained on. Needs no torch.
"""

from model.data.shapes.drawing import draw_frames
from model.data.shapes.files import FORMATS, write_video
from model.data.shapes.scene import Scene, SceneOptions, draw_scene
from model.data.shapes.vocabulary import COLOURS, MOTIONS, OUTLINES, Subject, is_held_out
from model.data.shapes.wordings import held_out_wordings, plain_label, wordings

__all__ = [
    "COLOURS",
    "FORMATS",
    "MOTIONS",
    "OUTLINES",
    "Scene",
    "SceneOptions",
    "Subject",
    "draw_frames",
    "draw_scene",
    "held_out_wordings",
    "is_held_out",
    "plain_label",
    "wordings",
    "write_video",
]
