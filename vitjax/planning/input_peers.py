"""Input pipelines of timm and TensorFlow, with the same images and augmentation, for comparison."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError
from vitjax.files import files_below, is_local, to_path
from vitjax.planning.peers import import_peer

Batches = Iterator[Mapping[str, Sequence[Any]]]


def batches_of_peer(
    peer: str, preprocess: Preprocess, config: ml_collections.ConfigDict
) -> Batches:
    """Endless batches of the images in `config.data.path`: 'image' -> uint8 [B, H, W, C] or [B, C, H, W].

    The peer uses as many processes or threads as there are cores.

    Args:
      peer: one of `INPUT_PEERS`.
      preprocess: its image size and interpolation are used.
      config: of the run. With `config.augment.fast`, TensorFlow resizes without antialiasing, too.

    Raises:
      UserError: the peer is not installed, or the config asks for what the comparison does not support.
    """
    augment = config.augment
    if config.data.name != 'folder' or not is_local(to_path(config.data.path)):
        raise UserError('the comparison supports only a folder of JPEGs')
    others = augment.shift or augment.rotate or augment.scale or augment.randaugment
    if augment.crop is None or not augment.flip or others:
        raise UserError('the comparison supports only random crops and flips')
    files = files_below(to_path(config.data.path))
    if not all(file.lower().endswith(('.jpg', '.jpeg')) for file in files):
        raise UserError('the comparison supports only a folder of JPEGs')
    return INPUT_PEERS[peer](files, preprocess, config)


class _Files:
    """A map-style data set of PyTorch: index -> transformed image."""

    def __init__(self, files, transform):
        self.files, self.transform = files, transform

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        with Image.open(self.files[index]) as picture:
            return self.transform(picture.convert('RGB'))


def _read_by_timm(
    files: list[str], preprocess: Preprocess, config: ml_collections.ConfigDict
) -> Batches:
    data, torch_data = import_peer('timm').data, import_peer('torch').utils.data
    transform = data.create_transform(
        (3, *preprocess.image_size),
        is_training=True,
        use_prefetcher=True,  # with it, images stay uint8
        scale=tuple(config.augment.crop),
        ratio=tuple(config.augment.aspect),
        color_jitter=None,
        interpolation=preprocess.interpolation,
    )
    images = _Files(files, transform)
    loader = torch_data.DataLoader(
        images,
        config.batch_size,
        sampler=torch_data.RandomSampler(images, replacement=True, num_samples=2**40),
        num_workers=len(os.sched_getaffinity(0)),
        multiprocessing_context='spawn',  # JAX's threads do not survive a fork
    )
    return ({'image': batch} for batch in loader)


def _read_by_tensorflow(
    files: list[str], preprocess: Preprocess, config: ml_collections.ConfigDict
) -> Batches:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    tf = import_peer('tensorflow')
    tf.config.set_visible_devices([], 'GPU')  # JAX uses their memory
    augment = config.augment

    def load(file):
        content = tf.io.read_file(file)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(content),
            tf.zeros((1, 0, 4)),
            min_object_covered=0.0,
            area_range=tuple(augment.crop),
            aspect_ratio_range=tuple(augment.aspect),
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.image.decode_and_crop_jpeg(content, tf.concat([begin[:2], size[:2]], 0), 3)
        method = 'bilinear' if augment.fast else preprocess.interpolation
        image = tf.image.resize(image, preprocess.image_size, method, antialias=not augment.fast)
        image = tf.image.random_flip_left_right(image)
        return {'image': tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8)}

    order = tf.data.Dataset.from_tensor_slices(files).repeat().shuffle(len(files))
    images = order.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(config.batch_size)
    return iter(images.prefetch(2))


INPUT_PEERS = {'timm': _read_by_timm, 'tensorflow': _read_by_tensorflow}
