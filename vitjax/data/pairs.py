"""A source of sentence pairs in memory."""

import dataclasses
from collections.abc import Sequence

from vitjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Sentence pairs, as a source of examples `{'source': str, 'target': str}`.

    Attributes:
      name: for messages.
      sources, targets: of equal length.

    Raises:
      UserError: there is no sentence.
    """

    name: str
    sources: Sequence[str]
    targets: Sequence[str]

    labels = None

    def __post_init__(self):
        if not len(self.sources):
            raise UserError(f'{self.name} holds no sentences')

    def __len__(self):
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, str]:
        return {'source': self.sources[index], 'target': self.targets[index]}

    def describe(self, index: int) -> str:
        return f'sentence {index} of {self.name}'
