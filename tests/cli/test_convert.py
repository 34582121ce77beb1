"""`vitjax convert`: formats, sizes, and mistakes that leave nothing behind."""

import sys
from pathlib import Path

import numpy as np
import pytest

import vitjax
from vitjax.cli import main

sys.path.append(str(Path(__file__).parent.parent / 'pretrained'))
