"""What is learned: a task turns model and batch into loss and metrics, and opens the data that it takes."""

from collections.abc import Mapping
from typing import Any

from vitjax import registry
from vitjax.errors import UserError
from vitjax.tasks.classification import Classification
from vitjax.tasks.masked_autoencoding import MaskedAutoencoding
from vitjax.tasks.task import Task
from vitjax.tasks.translation import Translation

__all__ = ['TASKS', 'Classification', 'MaskedAutoencoding', 'Task', 'Translation', 'make_task']

TASKS: dict[str, type[Task]] = {
    'classification': Classification,
    'masked_autoencoding': MaskedAutoencoding,
    'translation': Translation,
}


def make_task(part: Mapping[str, Any]) -> Task:
    """The task of `config.task`; UserError if its keys do not fit together."""
    if part['name'] is None:
        raise UserError('the task was given as an object in Python; name it by its import path')
    keys = {key: value for key, value in part.items() if key != 'name'}
    try:
        return registry.find('task', part['name'])(**keys)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f'config.task: {error}') from error
