//! Named points at which a crash test kills the process. Nothing of this is in a build that people run.
//!
//! `TIMMY_CRASH_AT=name` kills at the first pass; `name:3` at the third. The kill is `abort`, which runs no destructor and flushes
//! nothing, like `kill -9`.

/// Kills the process here when a crash test asks for it.
#[macro_export]
macro_rules! crash_point {
    ($name:expr) => {
        #[cfg(feature = "crash-points")]
        $crate::crash::pass($name);
    };
}

/// Called by [`crash_point!`](crate::crash_point).
#[cfg(feature = "crash-points")]
pub fn pass(name: &str) {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    static PASSES: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let Ok(wanted) = std::env::var("TIMMY_CRASH_AT") else { return };
    let (point, count) = wanted.split_once(':').map_or((wanted.as_str(), 1), |(p, c)| (p, c.parse().unwrap_or(1)));
    if point != name {
        return;
    }
    let Ok(mut passes) = PASSES.lock() else { return };
    let seen = passes.entry(name.to_owned()).or_default();
    *seen += 1;
    if *seen == count {
        std::process::abort();
    }
}
