"""`python -m jaxrl_pg.cli`, for where scripts are not installed."""

import sys

from jaxrl_pg.cli import main

__all__: list[str] = []

sys.exit(main())
