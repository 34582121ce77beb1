import sys

import pytest

from vitjax.analysis.drawing import check_picture, new_figure
from vitjax.errors import UserError


@pytest.mark.parametrize('path', ['no/map.png', 'map.jpg', 'map'])
def test_a_picture_is_a_png_in_a_folder_that_there_is(tmp_path, path):
    check_picture(tmp_path / 'map.png')
    with pytest.raises(UserError, match='must end with'):
        check_picture(tmp_path / path)


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    for draw in (lambda: check_picture(tmp_path / 'map.png'), lambda: new_figure(1, 1)):
        with pytest.raises(UserError, match=r"pip install 'vitjax\[figures\]'"):
            draw()
