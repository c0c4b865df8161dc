"""`python -m service` is `kommo-streams`."""

from service.cli import main

main()
