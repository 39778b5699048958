//! One run of the mDNS daemon: registered and browsing.

use mdns_sd::{DaemonEvent, IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceEvent};

use super::interfaces::Interfaces;
use super::record::{Own, SERVICE};

/// The daemon looks for changed addresses this often.
const IP_CHECK_S: u32 = 1;

pub(crate) struct Session {
    pub(crate) daemon: ServiceDaemon,
    pub(crate) found: Receiver<ServiceEvent>,
    pub(crate) notices: Receiver<DaemonEvent>,
}

impl Session {
    pub(crate) fn start(own: &Own, interfaces: &Interfaces) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let rule = interfaces.clone();
        daemon.disable_interface(IfKind::Predicate(IfPredicate::new(move |i| !rule.takes_part(&i.name))))?;
        daemon.set_ip_check_interval(IP_CHECK_S)?;
        let notices = daemon.monitor()?;
        daemon.register(own.service()?)?;
        let found = daemon.browse(SERVICE)?;
        Ok(Self { daemon, found, notices })
    }

    /// Writes the records anew: a changed tag or port.
    pub(crate) fn register(&self, own: &Own) -> Result<(), mdns_sd::Error> {
        self.daemon.register(own.service()?)
    }

    /// Asks again: the subscription was closed because it was read too slowly.
    pub(crate) fn browse(&mut self) -> Result<(), mdns_sd::Error> {
        self.found = self.daemon.browse(SERVICE)?;
        Ok(())
    }

    /// Ends the daemon; with a goodbye, so that the others need not wait for the records to time out.
    pub(crate) async fn stop(self, own: &Own, goodbye: bool) {
        if goodbye && let Ok(done) = self.daemon.unregister(&own.fullname()) {
            // Whether it was heard, nobody can know.
            let _ = done.recv_async().await;
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv_async().await;
        }
    }
}
