"""What `pmqbench doctor` looks for in a results folder, a file each: runs, leftovers, damage, space, and what suites know."""
