import jax
import jax.numpy as jnp
import pytest

from vitjax.models.vit import ViT
from vitjax.planning.flops import count_flops, model_cost


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def convolve(stride=1, padding='VALID', groups=1):
    def apply(images, kernel):
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            (stride, stride),
            padding,
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=groups,
        )

    return apply


def loop(length, **options):
    def apply(x, kernel):
        return jax.lax.scan(lambda x, _: (x @ kernel, None), x, length=length, **options)[0]

    return apply


def nested(x, kernel):
    return jax.lax.scan(lambda x, _: (loop(3)(x, kernel), None), x, length=4)[0]


MATRICES = array(2, 3), array(3, 5)
SQUARE = array(2, 3), array(3, 3)
IMAGES = array(2, 8, 10, 4)


@pytest.mark.parametrize(
    ('function', 'arguments', 'multiply_adds'),
    [
        (jnp.matmul, MATRICES, 2 * 3 * 5),
        (jnp.matmul, (array(7, 2, 3), array(7, 3, 5)), 7 * 2 * 3 * 5),
        (jax.vmap(jnp.matmul, (0, None)), (array(7, 2, 3), array(3, 5)), 7 * 2 * 3 * 5),
        (
            lambda x, y: jnp.einsum('abc,dbc->ad', x, y),
            (array(2, 3, 4), array(5, 3, 4)),
            2 * 5 * 12,
        ),
        (jnp.vdot, (array(9), array(9)), 9),
        (convolve(), (IMAGES, array(3, 3, 4, 6)), 2 * 6 * 8 * 6 * 3 * 3 * 4),
        (convolve(padding='SAME'), (IMAGES, array(3, 3, 4, 6)), 2 * 8 * 10 * 6 * 3 * 3 * 4),
        (convolve(stride=2), (IMAGES, array(2, 2, 4, 6)), 2 * 4 * 5 * 6 * 2 * 2 * 4),
        (convolve(groups=4), (IMAGES, array(3, 3, 1, 4)), 2 * 6 * 8 * 4 * 3 * 3),
        (loop(5), SQUARE, 5 * 2 * 3 * 3),
        (loop(5, unroll=2), SQUARE, 5 * 2 * 3 * 3),
        (nested, SQUARE, 4 * 3 * 2 * 3 * 3),
        (jax.jit(loop(5)), SQUARE, 5 * 2 * 3 * 3),
        (jax.checkpoint(jnp.matmul), MATRICES, 2 * 3 * 5),
        (lambda x, y: jnp.exp(x).sum() + jnp.tanh(y).sum(), MATRICES, 0),
    ],
)
def test_count_flops_counts_two_for_a_multiply_add(function, arguments, multiply_adds):
    assert count_flops(function, *arguments) == 2 * multiply_adds


def closed_form(tokens, patches, patch_values, width, depth, mlp_dim, classes):
    """Multiply-adds of a Vision Transformer."""
    projections = 4 * tokens * width**2
    lookups = 2 * tokens**2 * width
    mlp = 2 * tokens * width * mlp_dim
    embedding = patches * patch_values * width
    return embedding + depth * (projections + lookups + mlp) + width * classes


@pytest.mark.parametrize('switches', [{}, {'scan': True}, {'remat': True}, {'dtype': jnp.bfloat16}])
def test_model_cost_of_a_vision_transformer(switches):
    model = ViT(
        image_size=(8, 12),
        patch_size=(4, 3),
        in_channels=2,
        width=16,
        depth=3,
        num_heads=4,
        mlp_dim=24,
        num_classes=5,
        num_registers=2,
        **switches,
    )
    parameters, flops = model_cost(model)
    block = 4 * (16 * 16 + 16) + 2 * 16 * 24 + 24 + 16 + 4 * 16
    assert parameters == (24 * 16 + 16) + (1 + 2 + 9) * 16 + 3 * block + 2 * 16 + 16 * 5 + 5
    assert flops == 2 * closed_form(11, 8, 24, 16, 3, 24, 5)


@pytest.mark.parametrize('stride', [1, 2])
def test_count_flops_ignores_zeros_in_the_gradient_of_a_stride(stride):
    def convolution(x, kernel):
        return jax.lax.conv(x, kernel, (stride, stride), 'SAME').sum()

    arguments = jnp.ones((1, 2, 8, 8)), jnp.ones((4, 2, 3, 3))
    both = count_flops(jax.value_and_grad(convolution, (0, 1)), *arguments)
    assert both == 3 * count_flops(convolution, *arguments)


def test_count_flops_of_training_is_three_times_the_forward_pass():
    """Except for the gradient of the images; recomputation skips the last product of each MLP."""
    tokens, width, depth, mlp_dim = 17, 16, 3, 64
    images = array(1, 8, 8, 3)

    def cost(**switches):
        model = ViT(image_size=8, patch_size=2, width=width, depth=depth, num_heads=2, **switches)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        gradient = jax.grad(lambda variables, images: model.apply(variables, images).sum())
        return count_flops(model.apply, variables, images), count_flops(gradient, variables, images)

    forward, both = cost()
    embedding = 2 * 16 * 12 * width
    block = 2 * (4 * tokens * width**2 + 2 * tokens**2 * width + tokens * width * mlp_dim)
    assert both == 3 * forward - embedding
    assert cost(scan=True) == (forward, both)
    assert cost(remat=True) == (forward, both + depth * block)
