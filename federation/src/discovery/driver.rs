//! Runs the mDNS daemon and tells whom it finds.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::Multiaddr;
use mdns_sd::{DaemonEvent, ServiceEvent};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::interfaces::Interfaces;
use super::record::{self, Heard, MAX_TAG, Own, SERVICE};
use super::session::Session;

/// Events that wait for their owner. The driver waits too: the library then closes the subscription, and the
/// driver browses again.
const EVENTS: usize = 256;
/// Commands of the handle.
const COMMANDS: usize = 16;
/// Instances remembered, to tell what changed. Above it, news are told and forgotten.
const MAX_INSTANCES: usize = 512;
/// The pause before a daemon that failed is started again.
const RETRY: Duration = Duration::from_secs(5);
/// The pause before browsing again after a closed subscription.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(700);

/// Why discovery could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The daemon refused.
    #[error("multicast DNS could not be started")]
    Mdns(#[source] mdns_sd::Error),
    /// A tag is too long for the record.
    #[error("a blind tag of {0} bytes is too long")]
    Tag(usize),
    /// Discovery has been shut down.
    #[error("discovery is shut down")]
    Stopped,
}

/// What this node announces, and where.
#[derive(Clone, Debug)]
pub struct DiscoveryOptions {
    /// The UDP port of QUIC.
    pub quic_port: u16,
    /// The TCP port.
    pub tcp_port: Option<u16>,
    /// The blind tag, at most 32 bytes; empty for a node that is alone.
    pub tag: Vec<u8>,
    /// Which interfaces take part.
    pub interfaces: Interfaces,
    /// The instance and host name; random when `None`, as it should be but in a test of conflicts.
    pub label: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryEvent {
    /// A node is there, or has new addresses or a new tag.
    Seen {
        /// Its random label.
        instance: String,
        /// Where it says it is: QUIC first.
        addrs: Vec<Multiaddr>,
        /// Its blind tag.
        tag: Vec<u8>,
    },
    /// A node has said goodbye, timed out, or can no longer be asked.
    Gone {
        /// Its random label.
        instance: String,
    },
    /// Another node had our label; ours is a new one.
    Renamed {
        /// Our label now.
        instance: String,
    },
}

enum Command {
    Tag(Vec<u8>),
    Ports { quic: u16, tcp: Option<u16> },
}

/// Speaks with the running discovery. When the last clone is gone, discovery ends.
#[derive(Clone, Debug)]
pub struct Discovery {
    commands: mpsc::Sender<Command>,
}

impl Discovery {
    /// Announces this node and looks for others; runs in `tracker` until `cancel`, then says goodbye.
    ///
    /// # Errors
    /// [`DiscoveryError::Mdns`] (no socket), [`DiscoveryError::Tag`].
    pub fn start(
        options: DiscoveryOptions,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<DiscoveryEvent>), DiscoveryError> {
        check_tag(&options.tag)?;
        let label = options.label.unwrap_or_else(|| hex::encode(rand::random::<[u8; 8]>()));
        let own = Own { label, quic_port: options.quic_port, tcp_port: options.tcp_port, tag: options.tag };
        let session = Session::start(&own, &options.interfaces).map_err(DiscoveryError::Mdns)?;
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (events, told) = mpsc::channel(EVENTS);
        let driver = Driver::new(own, options.interfaces, session, events);
        tracker.spawn(driver.run(asked, cancel));
        Ok((Self { commands }, told))
    }

    /// Announces another blind tag: the epoch has changed.
    ///
    /// # Errors
    /// [`DiscoveryError::Tag`], [`DiscoveryError::Stopped`].
    pub async fn set_tag(&self, tag: Vec<u8>) -> Result<(), DiscoveryError> {
        check_tag(&tag)?;
        self.commands.send(Command::Tag(tag)).await.map_err(|_| DiscoveryError::Stopped)
    }

    /// Announces other ports.
    ///
    /// # Errors
    /// [`DiscoveryError::Stopped`].
    pub async fn set_ports(&self, quic: u16, tcp: Option<u16>) -> Result<(), DiscoveryError> {
        self.commands.send(Command::Ports { quic, tcp }).await.map_err(|_| DiscoveryError::Stopped)
    }
}

fn check_tag(tag: &[u8]) -> Result<(), DiscoveryError> {
    if tag.len() > MAX_TAG { Err(DiscoveryError::Tag(tag.len())) } else { Ok(()) }
}

struct Driver {
    own: Own,
    /// Our full name, after conflicts.
    name: String,
    interfaces: Interfaces,
    session: Option<Session>,
    events: mpsc::Sender<DiscoveryEvent>,
    /// What was told, by full name.
    known: BTreeMap<String, Heard>,
    /// When the daemon is to be started anew.
    restart: Option<Instant>,
    /// When to browse again.
    browse: Option<Instant>,
}

/// What the daemon said, or that it said nothing more.
enum Said {
    Found(Option<ServiceEvent>),
    Noticed(Option<DaemonEvent>),
}

/// The next word of the daemon. Cancel-safe: the receivers lose nothing when a wait is dropped.
async fn listen(session: Option<&Session>, browsing: bool) -> Said {
    let Some(session) = session else { return std::future::pending().await };
    tokio::select! {
        found = session.found.recv_async(), if browsing => Said::Found(found.ok()),
        notice = session.notices.recv_async() => Said::Noticed(notice.ok()),
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    fn new(own: Own, interfaces: Interfaces, session: Session, events: mpsc::Sender<DiscoveryEvent>) -> Self {
        Self {
            name: own.fullname(),
            own,
            interfaces,
            session: Some(session),
            events,
            known: BTreeMap::new(),
            restart: None,
            browse: None,
        }
    }

    async fn run(mut self, mut asked: mpsc::Receiver<Command>, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                command = asked.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                said = listen(self.session.as_ref(), self.browse.is_none()) => match said {
                    Said::Found(Some(event)) => self.on_found(event).await,
                    Said::Found(None) => self.browse = Some(Instant::now() + AGAIN),
                    Said::Noticed(Some(event)) => self.on_notice(event).await,
                    Said::Noticed(None) => self.fail().await,
                },
                () = at(self.browse) => self.browse_again(),
                () = at(self.restart) => self.restart().await,
            }
        }
        if let Some(session) = self.session.take() {
            let _ = tokio::time::timeout(GOODBYE, session.stop(&self.own, true)).await;
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Tag(tag) => self.own.tag = tag,
            Command::Ports { quic, tcp } => (self.own.quic_port, self.own.tcp_port) = (quic, tcp),
        }
        if let Some(session) = &self.session
            && let Err(error) = session.register(&self.own)
        {
            tracing::warn!(%error, "the new record is not announced");
            self.restart = Some(Instant::now() + RETRY);
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of mdns-sd's, open to additions")]
    async fn on_found(&mut self, event: ServiceEvent) {
        match event {
            ServiceEvent::ServiceResolved(service) if service.fullname != self.name => {
                if let Some(heard) = record::heard(&service) {
                    self.seen(service.fullname.clone(), heard).await;
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => self.gone(&name).await,
            _ => {}
        }
    }

    async fn seen(&mut self, name: String, heard: Heard) {
        if self.known.get(&name) == Some(&heard) {
            return;
        }
        if self.known.len() < MAX_INSTANCES || self.known.contains_key(&name) {
            self.known.insert(name, heard.clone());
        }
        let Heard { instance, addrs, tag } = heard;
        self.tell(DiscoveryEvent::Seen { instance, addrs, tag }).await;
    }

    async fn gone(&mut self, name: &str) {
        if let Some(heard) = self.known.remove(name) {
            self.tell(DiscoveryEvent::Gone { instance: heard.instance }).await;
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of mdns-sd's, open to additions")]
    async fn on_notice(&mut self, event: DaemonEvent) {
        match event {
            DaemonEvent::IpAdd(ip) | DaemonEvent::IpDel(ip) => tracing::debug!(%ip, "an address came or went"),
            DaemonEvent::NameChange(change) if change.new_name.ends_with(SERVICE) => {
                let instance = change.new_name.trim_end_matches(SERVICE).trim_end_matches('.').to_owned();
                tracing::info!(%instance, "another node had our label");
                self.name = change.new_name;
                self.tell(DiscoveryEvent::Renamed { instance }).await;
            }
            DaemonEvent::Error(error) => tracing::debug!(%error, "multicast DNS"),
            _ => {}
        }
    }

    fn browse_again(&mut self) {
        self.browse = None;
        tracing::debug!("browsing again");
        if let Some(session) = &mut self.session
            && let Err(error) = session.browse()
        {
            tracing::debug!(%error, "cannot browse");
            self.browse = Some(Instant::now() + RETRY);
        }
    }

    /// The daemon has ended by itself.
    async fn fail(&mut self) {
        tracing::warn!("multicast DNS ended; it is started again");
        self.session = None;
        self.restart = Some(Instant::now() + RETRY);
        self.forget_all().await;
    }

    /// Starts the daemon anew. All that was known is told gone: who is still there is heard again at once.
    async fn restart(&mut self) {
        self.restart = None;
        if let Some(old) = self.session.take() {
            let _ = tokio::time::timeout(GOODBYE, old.stop(&self.own, false)).await;
        }
        match Session::start(&self.own, &self.interfaces) {
            Ok(session) => {
                self.name = self.own.fullname();
                self.session = Some(session);
                self.browse = None;
            }
            Err(error) => {
                tracing::warn!(%error, "multicast DNS cannot be started");
                self.restart = Some(Instant::now() + RETRY);
            }
        }
        self.forget_all().await;
    }

    async fn forget_all(&mut self) {
        for name in self.known.keys().cloned().collect::<Vec<_>>() {
            self.gone(&name).await;
        }
    }

    async fn tell(&self, event: DiscoveryEvent) {
        // An owner that is gone wants to know nothing.
        let _ = self.events.send(event).await;
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
