"""`python -m pnpvideo`: the command line."""

import sys

from pnpvideo.cli import main

sys.exit(main())
