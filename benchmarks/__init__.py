"""How fast it is, how much it holds: each subject is a module with `measure`, and runs alone or with the others."""
