"""``python -m medmi`` is the ``medmi`` command."""

from medmi.apps.cli import main

main()
