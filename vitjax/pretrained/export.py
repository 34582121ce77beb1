"""A model as one file that runs without vitjax: normalising, forward pass and weights.

What is exported takes pixels, uint8 [B, H, W, C] with any B, at the model's image size, and returns
what the model makes of them: logits [B, K], float32, or of a model without head its pooled vector.
"""

import dataclasses
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from vitjax.data.preprocess import Preprocess
from vitjax.errors import RunError, UserError, one_line
from vitjax.pretrained.model import Pretrained
from vitjax.pretrained.primitives import in_fewer_primitives

_PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
_LARGEST_ONNX = 2**31  # bytes; protocol buffers do not hold more
_TOLERANCE = 1e-4


def stablehlo(pretrained: Pretrained) -> bytes:
    """As StableHLO, for every platform: `jax.export.deserialize(bytearray(content)).call(pixels)`."""
    pixels = _pixels(pretrained, *export.symbolic_shape('b'))
    exported = export.export(jax.jit(_forward(pretrained)), platforms=_PLATFORMS)(pixels)
    return bytes(exported.serialize())


def onnx(pretrained: Pretrained) -> bytes:
    """As ONNX, with the input `pixels` and the output `result`; onnxruntime agrees to 1e-4.

    Raises:
      UserError: the extra is not installed, or the model is too large for such a file.
      RunError: the converter does not know what the model does, or onnxruntime computes otherwise.
    """
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(f"ONNX takes {error.name}: pip install 'vitjax[onnx]'") from error
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(pretrained.variables))
    if size >= _LARGEST_ONNX:
        raise UserError(f'an ONNX file holds at most 2 GiB, and these weights take {size} bytes')
    # onnxruntime knows few operations in bfloat16; the weights are float32 anyway.
    pretrained = dataclasses.replace(pretrained, model=pretrained.model.clone(dtype=jnp.float32))
    forward = _forward(pretrained)
    # Traced before jax2onnx puts its own functions into jax.numpy, which Flax trips over.
    pixels = _pixels(pretrained, *export.symbolic_shape('b'))
    traced = in_fewer_primitives(forward, pixels)

    for name in ('jax2onnx', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        proto = to_onnx(
            lambda pixels: traced(pixels)[0],
            [pixels],
            model_name='vitjax',
            input_names=['pixels'],
            output_names=['result'],
        )
    except Exception as error:
        raise RunError(f'jax2onnx does not convert this model: {one_line(error)}') from error
    content = proto.SerializeToString()

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it warns of constants that it has no use for
    pixels = np.random.default_rng(0).integers(0, 256, _pixels(pretrained, 2).shape, np.uint8)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
        (found,) = session.run(None, {'pixels': pixels})
    except Exception as error:
        raise RunError(f'onnxruntime does not run what jax2onnx made: {one_line(error)}') from error
    expected = np.asarray(jax.jit(forward)(pixels))
    if not np.allclose(found, expected, _TOLERANCE, _TOLERANCE):
        raise RunError(f'onnxruntime differs from the model by {abs(found - expected).max():.1e}')
    return content


EXPORTS: dict[str, Callable[[Pretrained], bytes]] = {'stablehlo': stablehlo, 'onnx': onnx}


def _pixels(pretrained: Pretrained, batch: object) -> jax.ShapeDtypeStruct:
    if not isinstance(pretrained.preprocess, Preprocess):
        raise UserError(f'{type(pretrained.model).__name__} is no model of images: not exported')
    size, channels = pretrained.preprocess.image_size, pretrained.preprocess.channels
    return jax.ShapeDtypeStruct((batch, *size, channels), jnp.uint8)


def _forward(pretrained: Pretrained) -> Callable[[jax.Array], jax.Array]:
    """Pixels -> what the model returns; UserError unless that is one array."""
    model, variables = pretrained.model, pretrained.variables

    def forward(pixels):
        return model.apply(variables, pretrained.preprocess.normalise(pixels))

    if not isinstance(jax.eval_shape(forward, _pixels(pretrained, 1)), jax.ShapeDtypeStruct):
        raise UserError(
            f'{type(model).__name__} returns several arrays, and one is exported; of a masked '
            'autoencoder the encoder is, with num_classes=0'
        )
    return forward
