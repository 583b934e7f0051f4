"""Many models at once: only what is out of date, each job in a process of its own."""
