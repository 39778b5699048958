//! `timmy memory …` from outside: every command by the binary, on nodes that are real processes.
