"""Weights in and out: one way to load a model, whatever wrote it, and one to save it."""

from vitjax.pretrained.loading import load
from vitjax.pretrained.model import Pretrained
from vitjax.pretrained.saving import save

__all__ = [Pretrained, 'load', 'save']
