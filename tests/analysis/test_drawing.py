import sys

import pytest

from vitjax.analysis.drawing import check_picture, new_figure
from vitjax.errors import UserError


@pytest.mark.parametrize('path', ['no/map.png', 'map.jpg', 'map'])
def test_check_picture_accepts_a_png_in_an_existing_folder(tmp_path, path):
    check_picture(tmp_path / 'map.png')
    with pytest.raises(UserError, match='must end with'):
        check_picture(tmp_path / path)


def test_drawing_without_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    for draw in (lambda: check_picture(tmp_path / 'map.png'), lambda: new_figure(1, 1)):
        with pytest.raises(UserError, match=r"pip install 'vitjax\[figures\]'"):
            draw()
