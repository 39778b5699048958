//! The product's own `main`, built beside the tests with crash points.

fn main() -> std::process::ExitCode {
    daemon::main()
}
