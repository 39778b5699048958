//! Which interfaces take part.

use std::fmt;
use std::sync::Arc;

/// How the interfaces of containers, virtual machines and tunnels are called. Their networks end in this machine
/// or are other people's.
const LEFT_OUT: [&str; 24] = [
    "docker",
    "br-",
    "veth",
    "virbr",
    "vnet",
    "tun",
    "tap",
    "cni",
    "flannel",
    "cali",
    "lxc",
    "lxd",
    "podman",
    "cilium",
    "vmnet",
    "vboxnet",
    "zt",
    "wg",
    "tailscale",
    "utun",
    "ipsec",
    "ppp",
    "kube",
    "dummy",
];

type Rule = dyn Fn(&str) -> bool + Send + Sync;

/// A rule over interface names.
#[derive(Clone)]
pub struct Interfaces(Arc<Rule>);

impl Interfaces {
    /// Every interface whose name `takes_part`.
    pub fn new(takes_part: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(takes_part))
    }

    /// Every interface.
    #[must_use]
    pub fn all() -> Self {
        Self::new(|_| true)
    }

    /// True for an interface that takes part.
    #[must_use]
    pub fn takes_part(&self, name: &str) -> bool {
        (self.0)(name)
    }
}

impl Default for Interfaces {
    /// All but those of containers, virtual machines and tunnels.
    fn default() -> Self {
        Self::new(|name| !LEFT_OUT.iter().any(|prefix| name.starts_with(prefix)))
    }
}

impl fmt::Debug for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interfaces(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_tunnels_are_left_out() {
        let rule = Interfaces::default();
        for name in ["docker0", "br-1a2b", "veth12@if3", "virbr0", "tun0", "tap1", "cni0", "wg0", "tailscale0"] {
            assert!(!rule.takes_part(name), "{name}");
        }
        for name in ["eth0", "enp3s0", "wlan0", "wlp2s0", "en0", "lo", "bond0", "br0"] {
            assert!(rule.takes_part(name), "{name}");
        }
        assert!(Interfaces::all().takes_part("docker0"));
    }
}
