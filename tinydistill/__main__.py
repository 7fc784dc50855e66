"""`python -m tinydistill` is the command `tinydistill`."""

import sys

from tinydistill.cli import main

sys.exit(main())
