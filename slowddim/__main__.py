"`python -m slowddim` is the command `slowddim`. Written by hand: it stands in no notebook."
import sys

from slowddim.cli import main

if __name__ == "__main__": sys.exit(main())
