"""`python -m fer_hf`: the same as `fer-hf`."""

import sys

from fer_hf.cli.main import main


sys.exit(main())
