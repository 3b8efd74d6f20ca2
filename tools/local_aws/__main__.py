"""The gateway on a local AWS.

python -m local_aws demo      deploy, tell the story, end everything
python -m local_aws up        deploy and keep it running
python -m local_aws down      end what `up` started
python -m local_aws push F    upload the prompt file F to what `up` started
python -m local_aws build     build functions and layers for this machine
python -m local_aws deploy U  deploy to the local AWS that runs at the address U, emptied before
"""

from __future__ import annotations

import sys

from local_aws import demo, session

COMMANDS = {"demo": demo.main, "up": session.up, "down": session.down, "build": session.build}

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["push", file]:
            sys.exit(session.push(file))
        case ["deploy", endpoint]:
            sys.exit(session.deploy_to(endpoint))
        case [command] if command in COMMANDS:
            sys.exit(COMMANDS[command]())
    print(__doc__)
    sys.exit(2)
