"""What is learned: a task turns (model, batch) into loss and metrics, and says which data it takes.

A task has
  metric_names: the keys of what `metrics` returns, 'loss' among them;
  open_data(config, run, training): the data it takes, see `vitjax.data.inputs`; `run` is the folder of
    a run that goes on or is evaluated, whose tokenizer and labels count; without `training` the
    training data stay closed, unless something is needed that only they tell;
  unread_data(config): the same known by its shapes alone, for planning where the data are not;
  metrics(model, variables, batch, *, rngs, train): name -> float32 [2], sum and count over the
    examples (or tokens) whose mask is True, and the model's new state. What is learned from is the
    gradient of the loss's sum over its count.
  quality_names, quality(model, variables, data): name -> number, what an evaluation measures besides,
    with the model in use and not batch by batch, such as BLEU.
"""

from vitjax.tasks.classification import Classification
from vitjax.tasks.masked_autoencoding import MaskedAutoencoding
from vitjax.tasks.translation import Translation

TASKS = {
    'classification': Classification,
    'masked_autoencoding': MaskedAutoencoding,
    'translation': Translation,
}
