"""`python -m fed_compute`: the command line."""

import sys

from fed_compute.cli.main import main

sys.exit(main())
