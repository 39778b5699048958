//! Lets the linker fold identical code: LanceDB's query engine is the same code over and over, for each of its many types.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTFLAGS");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // For this target rustc brings lld and links by it, unless it is told otherwise. Other linkers refuse the option.
    let by_lld = is("TARGET", "x86_64-unknown-linux-gnu")
        && std::env::var_os("RUSTC_LINKER").is_none()
        && std::env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| !flags.contains("linker"));
    if by_lld && is("PROFILE", "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
