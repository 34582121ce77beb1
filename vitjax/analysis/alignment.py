"""Cross-attention between a translation and its source, as numbers and as a picture."""

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.analysis.abilities import check_abilities
from vitjax.analysis.drawing import new_figure, save_figure
from vitjax.errors import UserError
from vitjax.generation.translation import search, split

_HANGUL = re.compile('[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]')


def alignment(pretrained: Any, text: str) -> tuple[list[str], list[str], np.ndarray]:
    """Translates a text greedily and returns the cross-attention, averaged over heads and layers.

    Of a text that is too long for the model, only the first part is used.

    Args:
      pretrained: a translation model, as `vitjax.load` returns it.
      text: to translate.

    Returns:
      S tokens of the source, T tokens of the translation, and weights [T, S], float32, whose rows sum to 1.

    Raises:
      ValueError: the model has no method `cross_attention`, see `vitjax.models.seq2seq.Transformer`.
    """
    check_abilities(pretrained.model, 'alignment', ['encode', 'cross_attention'])
    model, variables, preprocess = pretrained.model, pretrained.variables, pretrained.preprocess
    source, mask = preprocess(split(preprocess, text)[:1])  # [1, S]
    found = search(model, variables, preprocess, source, mask).tokens[0, 0]  # [T], padded
    tokens = [int(token) for token in found if token != preprocess.pad]
    target = np.array([[preprocess.bos, *tokens[:-1]]])
    encoded = model.apply(variables, source, mask, method='encode')
    weights = model.apply(variables, target, encoded, mask, method='cross_attention')
    weights = np.asarray(weights[:, 0].mean(axis=(0, 1)))  # [L, h, T, S] -> [T, S]
    length = int(mask.sum())
    pieces = preprocess.pieces(source[0, :length]), preprocess.pieces(tokens)
    return *pieces, weights[:, :length]


def draw_alignment(pretrained: Any, text: str, path: Path) -> None:
    """Writes a picture of `alignment`; UserError if no font has the characters, or if writing fails."""
    source, target, weights = alignment(pretrained, text)
    figure = new_figure(2 + 0.45 * len(source), 1.5 + 0.4 * len(target))
    font = font_for(''.join(source + target))
    axis = figure.subplots()
    image = axis.imshow(weights, cmap='viridis', vmin=0, aspect='auto')
    source, target = ([piece.replace('▁', '_') for piece in pieces] for pieces in (source, target))
    axis.set_xticks(range(len(source)), source, rotation=60, ha='right', fontproperties=font)
    axis.set_yticks(range(len(target)), target, fontproperties=font)
    axis.set(xlabel='source', ylabel='translation')
    figure.colorbar(image, label='attention, mean of heads and layers')
    save_figure(figure, path)


def font_for(text: str) -> Any:
    """A font for a text, as FontProperties of matplotlib: its default font, or one that has Hangul.

    Raises:
      UserError: there is none; the message names a package that contains one.
    """
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=_hangul_font() if _HANGUL.search(text) else None)


@functools.cache  # searching all fonts is slow
def _hangul_font() -> str:
    """The file of a font that has Hangul."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    fonts = sorted(font_manager.findSystemFonts(), key=lambda path: 'Bold' in path)
    for path in sorted(fonts, key=lambda path: 'Gothic' not in path):
        try:
            if FT2Font(path).get_char_index(ord('한')):
                return path
        except (OSError, RuntimeError):  # a damaged font, or a kind that matplotlib cannot read
            continue
    raise UserError(
        "no installed font has Hangul; Debian's package fonts-nanum, for example, contains one"
    )
