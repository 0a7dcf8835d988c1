import sys

from vdcos.cli import main

sys.exit(main())
