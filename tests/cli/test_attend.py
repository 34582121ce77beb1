"""`vitjax attend` as a user types it."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

import vitjax
from vitjax.analysis import attention_maps


@pytest.fixture
def image(finished):
    return next((finished / 'examples').iterdir())


@pytest.fixture
def figures(monkeypatch):
    """The matplotlib figures that are saved, which tell where in the picture each map is."""
    saved = []
    savefig = Figure.savefig

    def savefig_and_keep(figure, *args, **options):
        savefig(figure, *args, **options)
        saved.append(figure)

    monkeypatch.setattr(Figure, 'savefig', savefig_and_keep)
    return saved


def colours_at(picture, axis, size):
    """Colours [H, W, 3] in [0, 1] of a picture at the centres of an axis's data pixels."""
    rows, columns = np.indices(size).reshape(2, -1)
    dpi = axis.figure.dpi
    x, y = (axis.transData.transform(np.stack([columns, rows], axis=-1)) * 120 / dpi).T
    pixels = np.asarray(picture.convert('RGB')) / 255
    return pixels[len(pixels) - 1 - y.astype(int), x.astype(int)].reshape(*size, 3)


def test_attend_draws_the_images_and_the_attention_maps_of_the_model(
    finished, image, tmp_path, command, figures
):
    path = tmp_path / 'map.png'
    words = ('attend', '--checkpoint', finished, image, image, '--output', path)
    assert command(*words) == (0, '', '')
    run = vitjax.load(finished)
    pixels = run.preprocess.pixels(image)
    maps = attention_maps(run.model, run.variables, run.preprocess.normalise(pixels[None]))
    gray = pixels[..., :1].repeat(3, axis=-1) / 255  # [H, W, 3]
    expected = {'image': gray}
    for name, values in maps.items():
        values = np.asarray(values[0])
        assert np.ptp(values) > 0.05  # else the test would not see which map is drawn
        colours = colormaps['inferno'](values / values.max())[..., :3]
        expected[name] = 0.4 * gray + 0.6 * colours
    (figure,) = figures
    assert [axis.get_title() for axis in figure.axes] == [*expected, '', '', '']
    with Image.open(path) as picture:
        for axis, colours in zip(figure.axes, [*expected.values()] * 2, strict=True):
            drawn = colours_at(picture, axis, pixels.shape[:2])
            np.testing.assert_allclose(drawn, colours, atol=0.02)


@pytest.mark.slow
def test_attend_reports_a_mistake_in_one_line(finished, image, translator, tmp_path, command):
    for source, images, name, message in [
        (finished, [tmp_path / 'none.png'], 'map.png', 'none.png'),
        (finished, [image], 'map.jpg', 'map.jpg must end with .png and be in an existing folder'),
        (finished, [image] * 101, 'map.png', '101 images are too many for one picture'),
        (tmp_path / 'none', [image], 'map.png', 'no such file or folder'),
        (translator, [image], 'map.png', 'use vitjax translate --attention'),
    ]:
        words = ('attend', '--checkpoint', source, *images, '--output', tmp_path / name)
        code, _, err = command(*words)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert message in err
        assert not (tmp_path / name).exists()


@pytest.mark.slow
def test_attend_refuses_a_model_without_attention_before_reading_images(recipe, tmp_path, command):
    from vitjax.config import read_config
    from vitjax.training.loop import train

    train(read_config(f'{recipe}:cnn', {'steps': '1'}), tmp_path / 'run')
    words = ('attend', '--checkpoint', tmp_path / 'run', 'none.png', '--output', tmp_path / 'a.png')
    code, _, err = command(*words)
    assert code == 2
    assert 'this model has no spatial attention' in err.splitlines()[-1]
