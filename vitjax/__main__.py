"""`python -m vitjax COMMAND` is the same as `vitjax COMMAND`."""

import sys

from vitjax.cli import main

sys.exit(main())
