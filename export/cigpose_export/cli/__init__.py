"""The command `cigpose-tools`: one module a family of commands."""
