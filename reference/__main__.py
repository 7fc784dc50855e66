"""`python -m tinydistill_reference`: the same as `tinydistill verify`, without tinydistill."""

import sys

from tinydistill_reference.cli import main

if __name__ == "__main__":
    sys.exit(main())
