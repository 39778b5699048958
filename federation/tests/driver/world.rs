//! A federation with a node around it that keeps everything in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use federation::auction::{Ask, Figures};
use federation::lease::Stop;
use federation::net::Keypair;
use federation::tasks::{Execution, Notice, WorkId};
use federation::{Federation, FederationOptions, Host, HostError, Linked, Post, Shelf, TaskEnd, View, Write};
use nips::{Msat, PeerCard};
use nostr::{Event, Keys, PublicKey, Timestamp, UnsignedEvent};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

/// Long enough for the slowest of machines; nothing is measured with it.
pub const PATIENCE: Duration = Duration::from_secs(60);

type Rows = Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>;

/// What a node around the federation has.
pub struct House {
    pub passport: Keys,
    pub install: Keys,
    pub transport: Keypair,
    abilities: Vec<String>,
    sequence: u64,
    shelves: Mutex<BTreeMap<&'static str, Rows>>,
    pub linked: Mutex<Vec<Linked>>,
    pub heard: Mutex<Vec<Event>>,
    pub twins: Mutex<Vec<PeerCard>>,
    /// What its workers were given, and its own tasks that are over.
    pub executions: Mutex<Vec<Execution>>,
    pub ended: Mutex<Vec<TaskEnd>>,
    pub published: Mutex<Vec<Event>>,
    pub notices: Mutex<Vec<Notice>>,
    /// What it knows about itself; none: it does not bid.
    pub figures: Mutex<Option<Figures>>,
}

#[async_trait]
impl Host for House {
    async fn sign(&self, unsigned: UnsignedEvent) -> Result<Event, HostError> {
        unsigned.sign_with_keys(&self.passport).map_err(|e| HostError(e.to_string()))
    }

    async fn card(&self) -> Result<Event, HostError> {
        let now = Timestamp::now().as_secs();
        let card = PeerCard {
            passport: self.passport.public_key(),
            install: self.install.public_key(),
            peer_id: self.transport.public().to_peer_id(),
            abilities: self.abilities.clone(),
            sequence: self.sequence,
            not_after: now + 3600,
        };
        let digest = nostr::secp256k1::Message::from_digest(card.statement());
        let signature = self.install.sign_schnorr(&digest);
        let unsigned = card.event(&signature, &self.transport, now).map_err(|e| HostError(e.to_string()))?;
        self.sign(unsigned).await
    }

    fn owner(&self) -> Option<PublicKey> {
        None
    }

    async fn load(&self, shelf: Shelf) -> Result<Rows, HostError> {
        Ok(self.shelves.lock().unwrap().get(shelf.name()).cloned().unwrap_or_default())
    }

    async fn keep(&self, writes: Vec<Write>) -> Result<(), HostError> {
        let mut shelves = self.shelves.lock().unwrap();
        for write in writes {
            match write {
                Write::Put(shelf, key, value) => {
                    let rows = shelves.entry(shelf.name()).or_default();
                    match rows.iter_mut().find(|(k, _)| *k == key) {
                        Some(row) => row.1 = value,
                        None => rows.push((key, value)),
                    }
                }
                Write::Delete(shelf, key) => shelves.entry(shelf.name()).or_default().retain(|(k, _)| *k != key),
                Write::Clear(shelf) => drop(shelves.remove(shelf.name())),
            }
        }
        Ok(())
    }

    async fn post(&self, _letter: Post) -> bool {
        false
    }

    fn linked(&self, linked: Linked) {
        self.linked.lock().unwrap().push(linked);
    }

    fn heard(&self, change: Event) {
        self.heard.lock().unwrap().push(change);
    }

    fn twin(&self, card: &PeerCard) {
        self.twins.lock().unwrap().push(card.clone());
    }

    async fn figures(&self, _ask: Ask) -> Option<Figures> {
        *self.figures.lock().unwrap()
    }

    fn execute(&self, execution: Execution) {
        self.executions.lock().unwrap().push(execution);
    }

    fn extend(&self, _work: WorkId, _fence_ms: u64) {}

    fn stop(&self, _work: WorkId, _why: Stop) {}

    fn ended(&self, ended: TaskEnd) {
        self.ended.lock().unwrap().push(ended);
    }

    fn publish(&self, label: Event) {
        self.published.lock().unwrap().push(label);
    }

    fn auctioned(&self, _took: Duration) {}

    fn notice(&self, notice: Notice) {
        self.notices.lock().unwrap().push(notice);
    }
}

pub struct Node {
    pub house: Arc<House>,
    pub federation: Federation,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl House {
    pub fn new() -> Arc<Self> {
        Self::able(vec!["5000".to_owned()])
    }

    /// One that says that it can do these.
    pub fn able(abilities: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            abilities,
            passport: Keys::generate(),
            install: Keys::generate(),
            transport: Keypair::generate_ed25519(),
            sequence: 1,
            shelves: Mutex::default(),
            linked: Mutex::default(),
            heard: Mutex::default(),
            twins: Mutex::default(),
            executions: Mutex::default(),
            ended: Mutex::default(),
            published: Mutex::default(),
            notices: Mutex::default(),
            figures: Mutex::new(Some(Figures { queued: 0, slots: 1, typical_ms: 100, cost: Msat(0) })),
        })
    }
}

impl Node {
    pub async fn new() -> Self {
        Self::start(House::new()).await
    }

    pub async fn start(house: Arc<House>) -> Self {
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let options = FederationOptions {
            install: house.install.clone(),
            passport: house.passport.public_key(),
            transport: house.transport.clone(),
            listen: ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"].map(|a| a.parse().unwrap()).to_vec(),
            mdns: false,
            all_interfaces: false,
            relays: vec![],
            name: "test".to_owned(),
            view: Arc::new(View::default()),
            tasks: federation::tasks::Settings::default(),
        };
        let host = Arc::clone(&house) as Arc<dyn Host>;
        let federation = Federation::start(options, host, &tracker, cancel.clone()).await.unwrap();
        Self { house, federation, tracker, cancel }
    }

    pub fn npub(&self) -> PublicKey {
        self.house.passport.public_key()
    }

    /// Ends it; the house stays for another start.
    pub async fn stop(self) -> Arc<House> {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.expect("it stops");
        self.house
    }

    /// The states of its peers by passport.
    pub async fn states(&self) -> BTreeMap<PublicKey, federation::PeerState> {
        let peers = self.federation.peers().await.unwrap();
        peers.into_iter().filter_map(|peer| Some((peer.passport?, peer.state))).collect()
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}

/// Both sides see each other as members that are there.
pub async fn are_members(a: &Node, b: &Node) {
    until("members of each other", async || {
        let here = federation::PeerState::Member;
        a.states().await.get(&b.npub()) == Some(&here) && b.states().await.get(&a.npub()) == Some(&here)
    })
    .await;
}
