//! The `timmy` binary.

fn main() -> std::process::ExitCode {
    daemon::main()
}
