"""The command `cigpose-tools`: one module for each family of commands."""
