"""The gateway on a local AWS.

python -m local_aws demo    deploy, tell the story, end everything
python -m local_aws up      deploy and keep it running
python -m local_aws down    end what `up` started
"""

from __future__ import annotations

import sys

from local_aws import demo, session

COMMANDS = {"demo": demo.main, "up": session.up, "down": session.down}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        print(__doc__)
        sys.exit(2)
    sys.exit(COMMANDS[sys.argv[1]]())
