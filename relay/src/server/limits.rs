//! What one network address may do: connections and a token bucket each for events and requests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an address is remembered after its last connection, so that reconnecting does not refill its buckets.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A token bucket that refills continuously.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    burst: f64,
    per_s: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(burst: f64, per_s: f64, now: Instant) -> Self {
        Self { tokens: burst, burst, per_s, at: now }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.per_s).min(self.burst);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[derive(Debug)]
struct Usage {
    connections: usize,
    left_at: Instant,
    events: Bucket,
    requests: Bucket,
}

/// Bounds for all addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) connections: usize,
    pub(crate) events_burst: f64,
    pub(crate) events_per_s: f64,
    pub(crate) requests_burst: f64,
    pub(crate) requests_per_s: f64,
}

/// The addresses that are connected or have been a short while ago.
#[derive(Debug)]
pub(crate) struct Addresses {
    rates: Rates,
    known: Mutex<HashMap<IpAddr, Arc<Mutex<Usage>>>>,
}

impl Addresses {
    pub(crate) fn new(rates: Rates) -> Arc<Self> {
        Arc::new(Self { rates, known: Mutex::new(HashMap::new()) })
    }

    /// Admits a connection; `None` when its address has too many.
    pub(crate) fn connect(&self, ip: IpAddr, now: Instant) -> Option<Address> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = known.entry(network_of(ip)).or_insert_with(|| {
            Arc::new(Mutex::new(Usage {
                connections: 0,
                left_at: now,
                events: Bucket::new(self.rates.events_burst, self.rates.events_per_s, now),
                requests: Bucket::new(self.rates.requests_burst, self.rates.requests_per_s, now),
            }))
        });
        let mut counted = usage.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.connections >= self.rates.connections {
            return None;
        }
        counted.connections += 1;
        drop(counted);
        Some(Address { usage: Arc::clone(usage) })
    }

    /// Forgets addresses that left a while ago.
    pub(crate) fn forget_idle(&self, now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, usage| {
            let usage = usage.lock().unwrap_or_else(PoisonError::into_inner);
            usage.connections > 0 || now.saturating_duration_since(usage.left_at) < REMEMBERED
        });
    }
}

/// One connection's share in its address; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Address {
    usage: Arc<Mutex<Usage>>,
}

impl Address {
    /// Takes the right to send one event.
    pub(crate) fn may_send_event(&self, now: Instant) -> bool {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).events.take(now)
    }

    /// Takes the right to ask one question.
    pub(crate) fn may_ask(&self, now: Instant) -> bool {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).requests.take(now)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.connections = usage.connections.saturating_sub(1);
        usage.left_at = Instant::now();
    }
}

/// The network whose addresses count as one: of IPv6 the /64 that one household gets.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        IpAddr::V4(_) | IpAddr::V6(_) => ip.to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refills_while_it_is_drained() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2.0, 10.0, start);
        let granted = (0..100).filter(|i| bucket.take(start + Duration::from_millis(i * 50))).count();
        assert_eq!(granted, 51, "2 at once and 10 a second over 4.95 s");
    }

    #[test]
    fn places_come_back_and_ipv6_counts_by_network() {
        let rates =
            Rates { connections: 1, events_burst: 1.0, events_per_s: 0.0, requests_burst: 1.0, requests_per_s: 0.0 };
        let addresses = Addresses::new(rates);
        let now = Instant::now();
        let first = addresses.connect("2001:db8::1".parse().unwrap(), now).unwrap();
        assert!(addresses.connect("2001:db8::2".parse().unwrap(), now).is_none());
        assert!(addresses.connect("2001:db8:0:1::2".parse().unwrap(), now).is_some());
        assert!(first.may_send_event(now));
        drop(first);
        let again = addresses.connect("2001:db8::3".parse().unwrap(), now).unwrap();
        assert!(!again.may_send_event(now), "reconnecting does not refill the bucket");
    }
}
