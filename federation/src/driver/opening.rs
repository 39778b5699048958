//! How the loop begins: the network, what was kept, and the look around.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nips::federation::Reassembly;
use nostr::PublicKey;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::core::{Core, Inputs, MEMORY, TASKS, event_of, ports, unix_ms};
use super::host::{Host, Shelf};
use super::labels::Labels;
use super::links::Links;
use super::tasks::TaskLoop;
use super::{Command, FederationError, FederationOptions};
use crate::discovery::{Candidates, Discovery, DiscoveryOptions, Interfaces};
use crate::handshake::Me;
use crate::invitation::Inviter;
use crate::keyring::{Keyring, SealedKeys};
use crate::letters::{Inbox, Outbox};
use crate::liveness::{Liveness, LivenessOptions};
use crate::membership::Log;
use crate::net::{Multiaddr, Net, NetOptions};

/// Tasks of the loop that bring something back: handshakes, signatures, streams. More wait in their tasks.
const BACK: usize = 256;
/// How long the start waits for the first address.
const LISTEN: Duration = Duration::from_secs(2);

fn network(options: &FederationOptions) -> NetOptions {
    let mut network = NetOptions::new(options.transport.clone());
    network.listen.clone_from(&options.listen);
    network.topics = vec![MEMORY.to_owned(), TASKS.to_owned()];
    network
}

impl Core {
    pub async fn open(
        options: FederationOptions,
        host: Arc<dyn Host>,
        commands: mpsc::Sender<Command>,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Result<Self, FederationError> {
        let gate = Arc::clone(&options.view) as Arc<dyn crate::net::Gate>;
        let (net, net_events) = Net::start(network(&options), gate, tracker, cancel.clone())?;
        let liveness = LivenessOptions { start_ms: unix_ms(), seed: rand::random() };
        let (live, live_events) = Liveness::start(&net, liveness, tracker, cancel.clone()).await.unzip();
        let (back, back_events) = mpsc::channel(BACK);
        let card = host.card().await?;
        let me = Me {
            passport: options.passport,
            install: options.install.public_key(),
            peer_id: net.peer_id(),
            card,
            addresses: vec![],
            relays: options.relays,
        };
        let tasks = TaskLoop::new(options.install.clone(), options.passport, options.tasks);
        let mut core = Self {
            me,
            install: options.install,
            name: options.name,
            host,
            net,
            live,
            discovery: None,
            candidates: Candidates::default(),
            instances: BTreeMap::new(),
            log: None,
            keyring: Keyring::default(),
            sealed: SealedKeys::default(),
            cards: BTreeMap::new(),
            inviter: Inviter::default(),
            joining: None,
            asking: BTreeMap::new(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            parts: Reassembly::default(),
            letter_relays: BTreeMap::new(),
            view: options.view,
            strangers: BTreeMap::new(),
            connected: BTreeSet::new(),
            meshed: BTreeSet::new(),
            greeting: BTreeSet::new(),
            greet_at: BTreeMap::new(),
            commands,
            back,
            tracker: tracker.clone(),
            began: Instant::now(),
            keys_due_ms: None,
            presence_due_ms: 0,
            sayings: 0,
            said_at: BTreeMap::new(),
            passed: BTreeMap::new(),
            heard_by_relay: BTreeMap::new(),
            fallen: BTreeMap::new(),
            tasks,
            labels: Labels::default(),
            tunnels: BTreeMap::new(),
            links: Links::default(),
            settings: options.tasks,
            ticks: 0,
            inputs: Some(Inputs { net: net_events, live: live_events, found: None, back: back_events }),
        };
        core.load().await?;
        let addresses = if options.listen.is_empty() { vec![] } else { core.listening().await };
        core.me.addresses = addresses.iter().map(ToString::to_string).collect();
        if options.mdns {
            core.look_around(&addresses, options.all_interfaces, tracker, cancel)?;
        }
        Ok(core)
    }

    /// The addresses that are listened on, as soon as there are some.
    async fn listening(&self) -> Vec<Multiaddr> {
        let until = Instant::now() + LISTEN;
        loop {
            let addresses = self.net.listen_addrs().await.unwrap_or_default();
            if !addresses.is_empty() || Instant::now() >= until {
                return addresses;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn look_around(
        &mut self,
        addresses: &[Multiaddr],
        all_interfaces: bool,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Result<(), FederationError> {
        let (quic, tcp) = ports(addresses);
        let Some(quic) = quic else { return Ok(()) };
        let interfaces = if all_interfaces { Interfaces::all() } else { Interfaces::default() };
        let tag = self.tag();
        let options = DiscoveryOptions { quic_port: quic, tcp_port: tcp, tag, interfaces, label: None };
        // A machine without a network that can be asked is no reason not to start.
        match Discovery::start(options, tracker, cancel.clone()) {
            Ok((discovery, found)) => {
                self.discovery = Some(discovery);
                if let Some(inputs) = &mut self.inputs {
                    inputs.found = Some(found);
                }
            }
            Err(error) => tracing::warn!(%error, "sister nodes on the LAN cannot be looked for"),
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<(), FederationError> {
        for (_, event) in self.host.load(Shelf::Entries).await? {
            let event = event_of(&event)?;
            match &mut self.log {
                None => self.log = Some(Log::found(&event)?),
                Some(log) => {
                    log.take(&event)?;
                }
            }
        }
        for (_, bytes) in self.host.load(Shelf::Keyring).await? {
            self.keyring = Keyring::from_bytes(&bytes)?;
        }
        if let Some(log) = &self.log {
            for (_, event) in self.host.load(Shelf::Sealed).await? {
                // Sealed keys that no longer count are of no use to anybody.
                let _ = self.sealed.take(&event_of(&event)?, log, &self.install);
            }
        }
        for (_, bytes) in self.host.load(Shelf::Cards).await? {
            if let Some(met) = super::members::met_from(&bytes) {
                self.cards.insert(met.card.passport, met);
            }
        }
        let records = self.host.load(Shelf::Invitations).await?;
        let text = |bytes: &Zeroizing<Vec<u8>>| String::from_utf8(bytes.to_vec()).ok();
        self.inviter = Inviter::restore(
            records.iter().filter_map(|(_, bytes)| crate::invitation::Record::from_json(&text(bytes)?)),
        );
        let items = self.host.load(Shelf::Outbox).await?;
        self.outbox = Outbox::restore(items.iter().filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok()));
        self.load_labels().await?;
        self.load_tasks().await?;
        self.see().await;
        let known: Vec<PublicKey> = self.cards.keys().copied().collect();
        for passport in known {
            self.reach(passport).await;
        }
        Ok(())
    }
}
