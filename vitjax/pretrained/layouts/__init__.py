"""Layouts of foreign weights, one file each."""

from vitjax.errors import UserError
from vitjax.pretrained.layouts.base import Checkpoint, Layout
from vitjax.pretrained.layouts.google import LAYOUT as GOOGLE
from vitjax.pretrained.layouts.huggingface import LAYOUT as HUGGINGFACE
from vitjax.pretrained.layouts.mae import LAYOUT as MAE
from vitjax.pretrained.layouts.marian import LAYOUT as MARIAN
from vitjax.pretrained.layouts.meta import LAYOUT as META
from vitjax.pretrained.layouts.timm import LAYOUT as TIMM

# In the order in which they are asked whether a checkpoint is theirs.
LAYOUTS = (GOOGLE, MAE, HUGGINGFACE, MARIAN, META, TIMM)


def find_layout(checkpoint: Checkpoint) -> Layout:
    """The layout of a checkpoint; UserError if none knows it."""
    for layout in LAYOUTS:
        if layout.recognises(checkpoint):
            return layout
    names = sorted(checkpoint.tensors)
    raise UserError(
        f'{checkpoint.place} is of no known layout ({", ".join(x.name for x in LAYOUTS)}): it holds '
        f'{len(names)} tensors, such as {", ".join(names[:3])}'
    )
