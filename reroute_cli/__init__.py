"""The command line of reroute; `reroute_cli.app` is its entry. Importing this package does nothing."""
