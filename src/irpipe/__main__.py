"""`python -m irpipe`: the command line."""

import sys

from irpipe.cli import main

sys.exit(main())
