"""Programs: which calls belong together, what each holds up, and what is left of a program."""
