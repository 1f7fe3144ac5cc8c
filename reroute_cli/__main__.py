"""`python -m reroute_cli` is the same as `reroute`."""

from reroute_cli.app import main

if __name__ == "__main__":
    main()
