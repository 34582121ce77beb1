"""Weights in and out: one way to load a model, whatever wrote it, and one to save it."""

from vitjax.pretrained.pretrained import Pretrained, load, save

__all__ = ['Pretrained', 'load', 'save']
