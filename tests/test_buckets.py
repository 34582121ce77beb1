"""Runs and data in a bucket are what they are in a folder; the bucket is a stand-in on this machine."""

import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from buckets import Buckets
from PIL import Image

import vitjax as library
from vitjax import files
from vitjax.config import read_config
from vitjax.data.folder import Folder
from vitjax.data.sources import open_source
from vitjax.errors import Preempted, UserError
from vitjax.files import files_below, read_json, subfolders, to_path, write_atomically
from vitjax.training.loop import train

pytest.importorskip('gcsfs', reason='reads buckets; pip install gcsfs')


@pytest.fixture(scope='module')
def server():
    """A server with the bucket 'here', which everything in this process takes for Cloud Storage."""
    server = Buckets('here')
    with pytest.MonkeyPatch.context() as patch:
        for name in ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'):
            patch.setenv(name, server.address)
        patch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'token')  # or TensorStore looks for one
        patch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')  # it speaks gRPC
        yield server
    server.close()


def content(server, folder):
    """Name of each object in a folder -> its content."""
    return {
        name.removeprefix(f'{folder}/'): content
        for (_, name), (content, _) in sorted(server.objects.items())
        if name.startswith(f'{folder}/')
    }


def same_parameters(one, other):
    one, other = library.load(one).variables, library.load(other).variables
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.fixture(scope='module')
def run(server, recipe):
    """Path of a run in the bucket that was stopped once, and went on to its end."""
    workdir = 'gs://here/run'
    config = read_config(str(recipe))
    with pytest.raises(Preempted):
        train(config, workdir, lambda step: step == 9)
    assert max(read_json(to_path(f'{workdir}/checkpoints/9/meta/metadata'))['versions'])
    train(config, workdir)
    return workdir


@pytest.fixture
def copy(server, run, tmp_path):
    """A copy of the finished run, to damage or to go on with."""
    for name, value in content(server, 'run').items():
        server._put
    return f'gs://here/{tmp_path.name}'
