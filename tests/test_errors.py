import pytest

from vitjax.errors import unknown


@pytest.mark.parametrize(
    ('name', 'known', 'hint'),
    [
        ('vit_b61', ['vit_b16', 'vit_l16'], "did you mean 'vit_b16'?"),
        ('VIT_B16', ['vit_b16', 'vit_l16'], "did you mean 'vit_b16'?"),
        ('heads', ['depth', 'num_heads'], "did you mean 'num_heads'?"),
        (
            'depth',
            ['decoder_depth', 'depths', 'encoder_depth', 'width'],
            "did you mean 'decoder_depth' or 'encoder_depth'?",
        ),
        ('xyz', ['b', 'a'], 'known: a, b'),
    ],
)
def test_unknown_suggests_similar_names(name, known, hint):
    assert str(unknown('key', name, known)) == f'unknown key {name!r}; {hint}'
