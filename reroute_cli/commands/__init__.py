"""One file a command. A command reads its options, calls the parts, and hands the result to the sink."""
