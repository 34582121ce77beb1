"""`vitjax attend` as a user types it."""

import pytest
from PIL import Image


@pytest.fixture
def image(finished):
    return next((finished / 'examples').iterdir())


def test_a_run_is_drawn(finished, image, tmp_path, command):
    picture = tmp_path / 'map.png'
    words = ('attend', '--checkpoint', finished, image, image, '--output', picture)
    assert command(*words) == (0, '', '')
    assert Image.open(picture).format == 'PNG'


def test_mistakes_are_one_line(finished, image, translator, tmp_path, command):
    for source, images, name, message in [
        (finished, [tmp_path / 'none.png'], 'map.png', 'none.png'),
        (finished, [image], 'map.jpg', 'map.jpg is no place for a .png file'),
        (finished, [image] * 101, 'map.png', '101 images are too many for one picture of 100'),
        (tmp_path / 'none', [image], 'map.png', 'no such file or folder'),
        (translator, [image], 'map.png', 'use vitjax translate --attention'),
    ]:
        words = ('attend', '--checkpoint', source, *images, '--output', tmp_path / name)
        code, _, err = command(*words)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert message in err
        assert not (tmp_path / name).exists()


def test_a_model_without_attention_says_so_before_images_are_read(recipe, tmp_path, command):
    from vitjax.config import read_config
    from vitjax.training.loop import train

    train(read_config(f'{recipe}:cnn', {'steps': '1'}), tmp_path / 'run')
    words = ('attend', '--checkpoint', tmp_path / 'run', 'none.png', '--output', tmp_path / 'a.png')
    code, _, err = command(*words)
    assert code == 2
    assert 'this model has no spatial attention' in err.splitlines()[-1]
