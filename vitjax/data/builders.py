"""vitjax's own tensorflow-datasets builders, which prepare data without TensorFlow.

Importing this module registers them: `tfds.builder('vitjax_digits', file_format='array_record')`.
"""

import abc
from pathlib import Path

import tensorflow_datasets as tfds
from PIL import Image

from vitjax.data import digits, idx

_FASHION = '/usr/share/datasets/fashion-mnist'


class _Images(tfds.core.GeneratorBasedBuilder):
    """Gray images with labels, from the splits of a source."""

    VERSION = tfds.core.Version('1.0.0')

    @abc.abstractmethod
    def _splits(self, dl_manager):
        """Split -> function that opens its source."""

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=self.SHAPE, encoding_format='png'),
                    'label': tfds.features.ClassLabel(names=self.LABELS),
                }
            ),
            supervised_keys=('image', 'label'),
            description=self.__doc__,
            homepage=self.HOMEPAGE,
        )

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(open_split())
            for split, open_split in self._splits(dl_manager).items()
        }

    def _generate_examples(self, source):
        for index in range(len(source)):
            example = source[index]
            # As a PIL image, because the feature encodes arrays with TensorFlow.
            yield index, example | {'image': Image.fromarray(example['image'][..., 0])}


class VitjaxDigits(_Images):
    """The 1,797 handwritten digits of scikit-learn, a stratified fifth of them for testing."""

    SHAPE = (8, 8, 1)
    LABELS = tuple('0123456789')
    HOMEPAGE = 'https://archive.ics.uci.edu/dataset/80'

    def _splits(self, dl_manager):
        del dl_manager
        return digits.splits()


class VitjaxFashionMnist(_Images):
    """Fashion-MNIST, from Debian's dataset-fashion-mnist or its files in the manual folder."""

    SHAPE = (28, 28, 1)
    LABELS = idx.FASHION
    HOMEPAGE = 'https://github.com/zalandoresearch/fashion-mnist'
    MANUAL_DOWNLOAD_INSTRUCTIONS = f'The four files *-ubyte.gz, unless they are in {_FASHION}.'

    def _splits(self, dl_manager):
        folder = Path(_FASHION)
        return idx.splits(str(folder if folder.is_dir() else dl_manager.manual_dir))
