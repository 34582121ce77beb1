"""Data sets of tensorflow-datasets, read as array_record files, without TensorFlow."""

import contextlib
import difflib
import functools
import importlib
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vitjax.data.images import EncodedImage
from vitjax.data.pairs import Pairs
from vitjax.errors import CorruptExample, UserError
from vitjax.files import is_local, kept_copy, to_path

_CATALOG = 'https://www.tensorflow.org/datasets/catalog/overview'
_TENSORFLOW = 'pip install tensorflow-cpu'


def splits(
    name: str, path: str | None = None, languages: tuple[str, str] | None = None
) -> Mapping[str, Callable[[], Any]]:
    """The splits of a data set. It is prepared first, if its builder needs no TensorFlow for that.

    Args:
      name: as `tfds.builder` takes it: 'mnist', 'cifar10:3.0.2', 'vitjax_digits' ...
      path: its `data_dir`, by default that of tfds (TFDS_DATA_DIR, or ~/tensorflow_datasets). The
        files of a split in a bucket are copied to the user's cache folder when the split is opened.
      languages: (source, target) of sentence pairs; then only these are read, see `text_splits`.

    Raises:
      UserError: no such data set, or one that must first be prepared; the message has the command.
    """
    if languages is not None:
        return text_splits(name, path, languages)
    builder = _prepared(name, path)
    return {split: functools.partial(Tfds, builder, split) for split in builder.info.splits}


class Tfds:
    """One split of a prepared builder, as a source; images stay encoded until they are cropped.

    An example has the builder's features; strings are bytes.
    """

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        features = builder.info.features
        self.name = f'{builder.info.full_name} {split}'
        self.labels = _class_names(features)
        self._images = [k for k, v in features.items() if type(v) is tfds.features.Image]
        self._data = _local_builder(builder, split).as_data_source(
            split, decoders={key: tfds.decode.SkipDecoding() for key in self._images}
        )

    def __len__(self):
        return len(self._data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.describe(index)
        try:
            example = dict(self._data[int(index)])
        except (OSError, RuntimeError, ValueError) as error:
            raise CorruptExample(f'{name}: cannot be read: {error}') from error
        return example | {key: EncodedImage(example[key], name) for key in self._images}

    def describe(self, index: int) -> str:
        return f'example {index} of {self.name}'


def text_splits(
    name: str, path: str | None, languages: tuple[str, str]
) -> Mapping[str, Callable[[], Pairs]]:
    """The splits of a data set with translations; their sentences are read into memory.

    Examples that lack one of the languages are left out. Of several translations, the first is used.

    Args:
      name, path: as in `splits`, whose errors it raises, too.
      languages: (source, target).

    Raises:
      UserError: the data set has no translations; when a split is opened: none in these languages.
    """
    import tensorflow_datasets as tfds

    builder = _prepared(name, path)
    kinds = (tfds.features.Translation, tfds.features.TranslationVariableLanguages)
    # Without a key of their own (None), the translations are the whole example.
    features = {None: builder.info.features, **builder.info.features}
    keys = [key for key, feature in features.items() if isinstance(feature, kinds)]
    if not keys:
        raise UserError(f'tfds:{name} has no translations')
    return {
        split: functools.partial(_read_pairs, builder, split, keys[0], languages)
        for split in builder.info.splits
    }


def _read_pairs(builder: Any, split: str, key: str | None, languages: tuple[str, str]) -> Pairs:
    source = Tfds(builder, split)
    pairs: list[tuple[str, str]] = []
    found: set[str] = set()
    for index in range(len(source)):
        example = source[index]
        texts = _texts(example if key is None else example[key])
        found.update(texts)
        if all(language in texts for language in languages):
            pairs.append((texts[languages[0]], texts[languages[1]]))
    if not pairs:
        raise UserError(
            f'{source.name} has no sentence in both {" and ".join(languages)} '
            f'(config.text.languages); it has {", ".join(sorted(found))}'
        )
    return Pairs(source.name, *zip(*pairs, strict=True))


def _texts(translations: Mapping[str, Any]) -> dict[str, str]:
    """Language -> text, from either of the two features for translations."""
    if 'translation' in translations:  # TranslationVariableLanguages: two lists
        languages, texts = (translations[key][::-1] for key in ('language', 'translation'))
        translations = dict(zip((bytes(name).decode() for name in languages), texts, strict=True))
    return {language: bytes(text).decode() for language, text in translations.items()}


def _class_names(features: Any) -> tuple[str, ...] | None:
    names = getattr(features['label'], 'names', None) if 'label' in features else None
    return tuple(names) if names else None


def _prepared(name: str, path: str | None) -> Any:
    builder = _builder(name, path)
    if not builder.is_prepared():
        if not is_local(_folder(builder)):
            raise UserError(
                f'tfds:{name} is not prepared in {path}; prepare it here and copy its folder there '
                f'(gcloud storage cp -r): {_command(name, "FOLDER")}'
            )
        _prepare(builder, name, path)
    if 'array_record' not in {form.value for form in builder.info.available_file_formats()}:
        raise UserError(
            f'{builder.data_path} is not in array_record but in {builder.info.file_format.value}; '
            f'prepare it in another folder: {_TENSORFLOW} && {_command(name, "FOLDER")}; then set '
            'config.data.path'
        )
    return builder


def _local_builder(builder: Any, split: str) -> Any:
    """The builder, or one that reads a local copy: array_record reads local files only."""
    folder = _folder(builder)
    if is_local(folder):
        return builder
    import tensorflow_datasets as tfds

    records = {name: set(part.filenames) for name, part in builder.info.splits.items()}
    needed = records.pop(split)
    return tfds.builder_from_directory(kept_copy(folder, needed, set().union(*records.values())))


def _folder(builder: Any) -> Path:
    return to_path(str(builder.data_path))  # tfds has one type for local paths and paths in buckets


def _builder(name: str, path: str | None) -> Any:
    import tensorflow_datasets as tfds

    if path:
        to_path(path)  # raises UserError if the bucket does not answer
    if name.startswith('vitjax_'):
        importlib.import_module('vitjax.data.builders')  # registers them by name
    try:
        return tfds.builder(name, data_dir=path)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(
            name, tfds.list_builders(with_community_datasets=False), n=1
        )
        hint = f'did you mean {near[0]!r}?' if near else f'{_CATALOG} lists them'
        raise UserError(f'unknown tfds data set {name!r}; {hint}') from error
    # tfds raises AssertionError for an unknown version, ValueError for an unknown config.
    except (AssertionError, ValueError) as error:
        raise UserError(f'tfds:{name}: {_one_line(error)}') from error


def _prepare(builder: Any, name: str, path: str | None) -> None:
    # Modules of builders that need TensorFlow import it lazily under the name `tf`.
    modules = {kind.__module__ for kind in type(builder).__mro__}
    if any(
        hasattr(sys.modules[module], 'tf')
        for module in modules
        if not module.startswith('tensorflow_datasets.core')
    ):
        raise UserError(
            f'tfds:{name} is not prepared in {builder.data_path}; to prepare it once needs TensorFlow: '
            f'{_TENSORFLOW} && {_command(name, path)}'
        )
    from requests.exceptions import ConnectionError
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = (
        3  # the default, 10 with growing pauses, takes minutes without a network
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(file_format='array_record')
    except ConnectionError as error:
        raise UserError(
            f'tfds:{name} is not prepared in {builder.data_path} and cannot be downloaded here; '
            f'where there is a network, run {_command(name, "FOLDER")}; then set config.data.path'
        ) from error
    except Exception as error:  # builders raise errors of any type
        raise UserError(f'tfds:{name} cannot be prepared: {_one_line(error)}') from error


def _command(name: str, path: str | None) -> str:
    where = f', data_dir={path!r}' if path else ''
    return (
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({name!r}, file_format='array_record'{where}).download_and_prepare()\""
    )


def _one_line(error: Exception) -> str:
    # The message of tfds itself comes after the last quoted argument.
    reason = ' '.join(str(error).rpartition('}": ')[2].split())
    return textwrap.shorten(reason or type(error).__name__, 300)
