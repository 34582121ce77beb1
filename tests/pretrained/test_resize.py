"""Weights at another size: what is kept, and how the rest is made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_weights, same

import vitjax
from vitjax.errors import UserError
from vitjax.layers.patches import resample_kernel
from vitjax.layers.resampling import resample


@pytest.fixture(scope='session')
def source(tmp_path_factory):
    """Layout -> the file or folder of a small model with RGB images of 12x12 in patches of 4."""
    folder = tmp_path_factory.mktemp('resize')
    vitjax.save(random_weights(), folder / 'vitjax')
    vitjax.save(random_weights(), folder / 'google', format='google')
    vitjax.save(random_weights(stem_depths=(1,), stem_width=4), folder / 'hybrid', format='google')
    vitjax.save(random_weights(pooling='mean', positions='none'), folder / 'none')
    return lambda layout: folder / layout


def logits(pretrained, images):
    return np.asarray(jax.jit(pretrained.model.apply)(pretrained.variables, images))


def params(pretrained):
    return jax.tree.map(np.asarray, pretrained.variables['params'])


METHODS = {'vitjax': 'cubic_antialias', 'google': 'linear_corners'}


@pytest.mark.slow
@pytest.mark.parametrize('layout', METHODS)
@pytest.mark.parametrize(
    ('sizes', 'grid'),
    [
        ({'image_size': 20}, (5, 5)),
        ({'image_size': (8, 20)}, (2, 5)),
        ({'image_size': (4, 36)}, (1, 9)),  # as many patches as before, but not the same
        ({'patch_size': 2}, (6, 6)),
        ({'image_size': (24, 32), 'patch_size': (8, 4)}, (3, 8)),
        ({'image_size': 24, 'patch_size': 8}, (3, 3)),
    ],
    ids=str,
)
def test_positions_and_patches(source, layout, sizes, grid):
    old, new = params(vitjax.load(source(layout))), params(vitjax.load(source(layout), **sizes))
    of_class, of_patches = old['positions'][:, :1], old['positions'][:, 1:]
    table = resample(of_patches, (3, 3), grid, METHODS[layout])
    np.testing.assert_array_equal(new['positions'], np.concatenate([of_class, table], axis=1))
    kernel = old['patch_embedding']['kernel']
    np.testing.assert_array_equal(
        new['patch_embedding']['kernel'], resample_kernel(kernel, sizes.get('patch_size', 4))
    )
    for path in ('encoder', 'norm', 'head', 'class_token'):
        jax.tree.map(np.testing.assert_array_equal, old[path], new[path])


def test_the_way_of_the_family_outlives_conversion(source, tmp_path):
    vitjax.save(vitjax.load(source('google')), tmp_path / 'run')
    direct = vitjax.load(source('google'), image_size=20)
    assert same(vitjax.load(tmp_path / 'run', image_size=20), direct)
    assert not same(vitjax.load(source('vitjax'), image_size=20), direct)


@pytest.mark.parametrize('layout', ['vitjax', 'google', 'hybrid', 'none'])
def test_the_same_size_changes_nothing(source, layout):
    native = vitjax.load(source(layout))
    again = vitjax.load(source(layout), image_size=12, patch_size=4, in_channels=3, num_classes=5)
    assert same(again, native)
    assert again.labels == native.labels


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['google', 'hybrid'])
def test_gray_is_three_equal_channels(source, layout):
    colour, gray = vitjax.load(source(layout)), vitjax.load(source(layout), in_channels=1)
    if layout == 'google':  # nothing is standardised
        images = np.random.default_rng(1).normal(size=(2, 12, 12, 1)).astype(np.float32)
        expected = logits(colour, np.repeat(images, 3, axis=-1))
        np.testing.assert_allclose(logits(gray, images), expected, atol=1e-5)
    assert gray.preprocess.mean == pytest.approx((0.5,))
    assert gray.preprocess.std == pytest.approx((0.3,))
    assert gray.preprocess(np.zeros((12, 12), np.uint8)).shape == (1, 12, 12, 1)


def test_a_head_for_other_classes(source, caplog):
    old, new = vitjax.load(source('google')), vitjax.load(source('google'), num_classes=7)
    assert 'the head for 5 classes is left out; a new one for 7 starts at zero' in caplog.text
    assert new.labels is None
    assert new.variables['params']['head']['kernel'].shape == (16, 7)
    assert not logits(new, jnp.ones((1, 12, 12, 3))).any()
    none = vitjax.load(source('google'), num_classes=0)
    kept = {name: part for name, part in params(old).items() if name != 'head'}
    assert jax.tree.all(jax.tree.map(np.array_equal, params(none), kept))
    new_head = vitjax.load(source('google'), num_classes=7, representation_size=None)
    assert same(new_head, new)


def test_what_is_saved_at_another_size_is_loaded_at_it(source, tmp_path):
    sizes = {'image_size': (8, 20), 'patch_size': (4, 2), 'num_classes': 3, 'in_channels': 1}
    resized = vitjax.load(source('google'), **sizes)
    for layout in ('google', 'vitjax'):
        vitjax.save(resized, tmp_path / layout, format=layout)
        again = vitjax.load(tmp_path / layout)
        assert same(again, resized)
        assert again.model == resized.model
        assert again.preprocess == resized.preprocess


@pytest.mark.parametrize(
    ('layout', 'sizes', 'message'),
    [
        ('google', {'image_size': 13}, 'patch height 4 does not divide image height 13'),
        ('google', {'image_size': 'big'}, 'image_size: '),
        ('google', {'in_channels': 4}, 'the weights are for 3 channels, and only RGB can become'),
        ('google', {'num_classes': -1}, 'num_classes must be at least 0'),
        ('hybrid', {'patch_size': 6}, "not a multiple of the stem's stride 4"),
        ('vitjax', {'patch_size': 24}, 'patch height 24 does not divide image height 12'),
    ],
)
def test_a_size_that_cannot_be(source, layout, sizes, message):
    with pytest.raises(UserError) as error:
        vitjax.load(source(layout), **sizes)
    assert message in str(error.value)


def test_a_size_that_was_not_asked_for(source):
    pretrained = vitjax.load(source('google'))
    with pytest.raises(ValueError, match='load it with another image_size'):
        pretrained.model.apply(pretrained.variables, jnp.zeros((1, 16, 16, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('before', 'after', 'added'),
    [('class', 'none', -2), ('all', 'none', -4), ('none', 'class', 2), ('none', 'all', 4)],
)
def test_moved_prefix_positions_compute_the_same(before, after, added, tmp_path):
    prefix = {'distillation': 'token', 'num_registers': 2, 'prefix_positions': before}
    source = random_weights(**prefix)
    vitjax.save(source, tmp_path / 'run')
    moved = vitjax.load(tmp_path / 'run', prefix_positions=after)
    assert moved.model.prefix_positions == after
    shapes = [params(x)['positions'].shape[1] for x in (source, moved)]
    assert shapes[1] - shapes[0] == added
    images = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype(np.float32)
    np.testing.assert_allclose(logits(moved, images), logits(source, images), atol=1e-5)


def test_positions_of_registers_are_not_lost(tmp_path):
    vitjax.save(random_weights(num_registers=2, prefix_positions='all'), tmp_path / 'run')
    with pytest.raises(UserError, match="prefix_positions='class' would lose those of registers"):
        vitjax.load(tmp_path / 'run', prefix_positions='class')
