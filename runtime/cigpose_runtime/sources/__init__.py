"""What a command is given: files, folders, patterns, lists, URLs and stdin."""
