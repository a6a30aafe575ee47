"""The command line: one thin file a command; parse, call one library function, print."""
