//! The desk: the one loop that turns inputs into effects.
//!
//! ```text
//!  doors ─► messages ─► round ─► journal (one transaction) ─► effects ─► workers, speaker, outbox
//!                         ▲                                                   │
//!                         └───────────────── messages ◄───────────────────────┘
//! ```
//!
//! A round takes what waits (at most [`ROUND`] messages), lets the machines decide, writes everything down in one transaction
//! and only then acts. Recovery: crashed before the commit, the doors bring the inputs again (the embedded relay by its
//! sequence number, outside relays by their cursors); crashed after it, the journal's open jobs are restarted at the next start.

mod accounts;
mod approve;
mod attach;
mod dictation;
mod doors;
mod errand;
mod intake;
mod links;
mod live;
pub mod lookup;
mod open;
pub mod order;
mod people;
mod rates;
mod round;
pub mod speaker;
mod talk;
mod turn;
mod waiting;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bots::{Conscience, NodeFacts, Soul, Workshop};
use memory::Memory;
use nips::job::{Input, JobId, State};
use nips::{DirectMessage, JobRequest};
use nostr::{Event, PublicKey, RelayUrl};
use relay::{Incoming, Outbox, Pool, Server, Settled};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::journal::{Arrival, Journal, JournalError, Word, now_ms};
use crate::metrics::Metrics;
use crate::passport::PassportWatch;
use live::Live;
use order::Order;
use rates::Rates;
use round::Round;
use speaker::Speaker;
use waiting::Waiting;

pub use accounts::LINKS;
pub use dictation::Told;
pub use doors::{follow_pool, follow_relay};
pub use links::Links;
pub use people::{People, person_of};

/// Messages that may wait for the desk; doors wait behind it.
const QUEUE: usize = 2048;
/// Messages that one round takes.
const ROUND: usize = 256;
/// How long the desk waits before it tries a failed write again.
const RETRY: Duration = Duration::from_secs(1);

/// A message for the desk.
pub enum Message {
    /// A verified event came in by a relay.
    Arrived(Arrived),
    /// The embedded relay has been followed up to here.
    Followed(u64),
    /// A sealed event was opened.
    Opened {
        /// Id of the sealed event.
        id: [u8; 32],
        /// What was in it.
        content: Opened,
    },
    /// Somebody on this machine asks.
    Submitted {
        /// What.
        order: Box<Order>,
        /// Hears how it goes.
        listener: mpsc::Sender<Heard>,
        /// The job's id, or why it is not taken.
        reply: oneshot::Sender<Result<JobId, String>>,
    },
    /// Somebody wrote in a Matrix room; hears when it is written down.
    Written(Box<bots::matrix::Incoming>, oneshot::Sender<()>),
    /// A word that is not a Nostr event has reached its target, or never will.
    Delivered([u8; 32], String),
    /// Something happened to a job.
    Happened(Happened),
    /// A worker wrote more of an answer.
    Progress(JobId, String),
    /// The outbox is done with a target.
    Settled(Settled),
    /// The owner cancels a job.
    Cancel(JobId, oneshot::Sender<bool>),
    /// A person wants no more of what they asked in their talk.
    Stop {
        /// Who.
        person: Option<String>,
        /// The order that asks for it.
        but: JobId,
        /// How many were stopped.
        reply: oneshot::Sender<usize>,
    },
    /// What can be done now.
    Offered(BTreeSet<u16>),
}

/// An event at a door.
pub struct Arrived {
    /// The event, verified.
    pub event: Arc<Event>,
    /// The outside relay it came by.
    pub came_by: Option<RelayUrl>,
    /// Dropped when the event is in the journal: then the pool's cursor may pass it.
    pub hold: Option<Incoming>,
}

/// What was in a sealed event.
pub enum Opened {
    /// Somebody wrote to us.
    Message(Box<DirectMessage>, Option<RelayUrl>),
    /// An encrypted job request.
    Job(Box<Event>, Result<Box<JobRequest>, nips::job::ParseError>, Option<RelayUrl>),
    /// Nothing to act on.
    Dropped,
}

/// Something that happened to a job.
pub struct Happened {
    /// Whose.
    pub job: JobId,
    /// What, in order.
    pub inputs: Vec<Input>,
    /// Signed events that go with them.
    pub words: Vec<Word>,
    /// Whose worker is free again.
    pub frees: Option<Hand>,
    /// Looked-up inputs.
    pub resolved: Option<Vec<bots::TaskInput>>,
    /// Ids of the memories in the output.
    pub memories: Vec<String>,
}

impl Happened {
    fn new(job: JobId, inputs: Vec<Input>) -> Self {
        Self { job, inputs, words: vec![], frees: None, resolved: None, memories: vec![] }
    }
}

/// Whose worker is on a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// This node's.
    Own,
    /// A sister node's.
    Sister,
}

/// What somebody on this machine hears of a job.
#[derive(Debug, Clone)]
pub enum Heard {
    /// The answer so far.
    Partial(String),
    /// The end.
    Done {
        /// Where the job stands.
        state: State,
        /// The answer, or the reason why there is none.
        output: String,
        /// The model that wrote it.
        model: Option<String>,
        /// Ids of the memories in it.
        memories: Vec<String>,
        /// The sister node that made it; none when this one did.
        executed_by: Option<PublicKey>,
    },
}

/// Everything that the desk works with.
pub struct Tools {
    /// The journal.
    pub journal: Journal,
    /// What the agent remembers.
    pub memory: Memory,
    /// The embedded relay.
    pub server: Server,
    /// Outside relays.
    pub pool: Pool,
    /// What is signed and still has to go out.
    pub outbox: Outbox,
    /// Writes and signs.
    pub speaker: Speaker,
    /// The workers.
    pub workshop: Arc<Workshop>,
    /// What the agent remembers.
    pub memories: Arc<dyn bots::Memories>,
    /// What a model may do in the talk of a person.
    pub toolbox: crate::toolbox::Furnished,
    /// Reads every message first.
    pub conscience: Conscience,
    /// The owner's country, for crisis lines.
    pub country: Option<String>,
    /// The owner hears of a crisis.
    pub tell_owner: bool,
    /// What the agent says of itself.
    pub facts: NodeFacts,
    /// Values and voice.
    pub soul: Soul,
    /// Counts.
    pub metrics: Metrics,
    /// Everything that runs.
    pub tracker: TaskTracker,
    /// Ends everything.
    pub cancel: CancellationToken,
    /// Which install speaks for the passport.
    pub passport: PassportWatch,
    /// Who may write into the memory.
    pub installs: crate::installs::Installs,
    /// The sister nodes; none when the federation is switched off.
    pub sisters: Option<crate::sisters::Sisters>,
    /// The Matrix account; none where there is none.
    pub matrix: Option<crate::matrix::Matrix>,
    /// How busy this node is.
    pub pace: crate::sisters::Pace,
    /// Jobs are taken at all (`[dvm] enabled`).
    pub jobs_enabled: bool,
    /// Sealed events opened at a time.
    pub openers: Arc<Semaphore>,
    /// Who is who; changes when somebody claims the node.
    pub people: RwLock<People>,
    /// Held while links between accounts change.
    pub linking: tokio::sync::Mutex<()>,
    /// Told when somebody was answered.
    pub talk_grew: tokio::sync::Notify,
    /// Speech; none where no server is configured.
    pub voice: Option<bots::voice::Voice>,
    /// Strangers are served: false when the disk is nearly full.
    pub room: Arc<AtomicBool>,
}

impl Tools {
    /// The owner, if there is one.
    pub fn owner(&self) -> Option<PublicKey> {
        self.people.read().unwrap_or_else(PoisonError::into_inner).owner
    }

    /// Lets the relay and the other doors know who claimed the node; the round writes it down.
    fn new_owner(&self, people: &People) {
        self.server.set_people(people.known());
        self.people.write().unwrap_or_else(PoisonError::into_inner).clone_from(people);
        tracing::info!("the node has an owner now");
    }
}

/// Numbers of the configuration that the desk keeps to.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Workers at once.
    pub max_running: usize,
    /// Jobs waiting.
    pub max_queued: usize,
    /// For each customer.
    pub jobs_per_author_per_min: u32,
    /// How far back requests are answered, seconds.
    pub catch_up_s: u64,
    /// Nothing from before the journal's first start is answered, Unix seconds.
    pub first_start_s: u64,
    /// The owner's choice of kinds; empty = all.
    pub kinds: BTreeSet<u16>,
}

/// A handle for those who bring messages.
#[derive(Clone)]
pub struct DeskHandle(mpsc::Sender<Message>);

impl DeskHandle {
    /// Brings a message; false when the desk is gone.
    pub async fn send(&self, message: Message) -> bool {
        self.0.send(message).await.is_ok()
    }

    /// Brings a local order and waits until it is in the journal.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn submit(&self, order: Order, listener: mpsc::Sender<Heard>) -> Result<JobId, String> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Submitted { order: Box::new(order), listener, reply };
        let gone = || "the node is shutting down".to_owned();
        if !self.send(message).await {
            return Err(gone());
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The desk.
pub struct Desk {
    tools: Arc<Tools>,
    rules: Rules,
    people: People,
    handle: DeskHandle,
    inbox: mpsc::Receiver<Message>,
    live: BTreeMap<JobId, Live>,
    /// Unfinished jobs by customer.
    crowd: HashMap<PublicKey, usize>,
    waiting: Waiting,
    /// The job that was started as a suspect last.
    suspect: Option<JobId>,
    /// Jobs for the sister nodes.
    errands: VecDeque<JobId>,
    running: usize,
    /// Jobs that sister nodes have.
    away: usize,
    timers: BTreeSet<(u64, JobId)>,
    /// Which job said a word that is still in the outbox.
    spoken: HashMap<[u8; 32], JobId>,
    rates: Rates,
    /// Strangers who got their line, and when.
    greeted: HashMap<PublicKey, u64>,
    offered: BTreeSet<u16>,
    /// When this desk was opened, Unix seconds.
    started_s: u64,
    followed: u64,
    written_sequence: u64,
}

impl Desk {
    /// Opens the desk; nothing happens before [`Desk::run`].
    pub fn new(tools: Arc<Tools>, rules: Rules) -> (Self, DeskHandle) {
        let people = tools.people.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (sender, inbox) = mpsc::channel(QUEUE);
        let handle = DeskHandle(sender);
        let rates = Rates::new(rules.jobs_per_author_per_min);
        let desk = Self {
            tools,
            rules,
            people,
            handle: handle.clone(),
            inbox,
            live: BTreeMap::new(),
            crowd: HashMap::new(),
            waiting: Waiting::default(),
            suspect: None,
            errands: VecDeque::new(),
            running: 0,
            away: 0,
            timers: BTreeSet::new(),
            spoken: HashMap::new(),
            rates,
            greeted: HashMap::new(),
            offered: BTreeSet::new(),
            started_s: now_ms() / 1000,
            followed: 0,
            written_sequence: 0,
        };
        (desk, handle)
    }

    /// Takes up what the journal has open.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn recover(&mut self) -> Result<usize, JournalError> {
        let open = self.tools.journal.open_jobs().await?;
        let count = open.len();
        self.greeted = self.tools.journal.greeted().await?.into_iter().collect();
        self.offered = self.tools.workshop.offered_kinds();
        let mut round = Round::new(now_ms());
        for (row, inputs) in open {
            match serde_json::from_str::<Order>(&row.order) {
                Ok(order) => self.take_up(&mut round, order, &inputs).await?,
                Err(error) => {
                    tracing::error!(job = %row.id, %error, "a job in the journal cannot be read; it is left alone")
                }
            }
        }
        for arrival in self.tools.journal.inbox().await? {
            round.opens.push(arrival);
        }
        self.finish(round).await;
        if let Some(sisters) = &self.tools.sisters {
            sisters.open(self.live.keys().copied());
        }
        Ok(count)
    }

    async fn take_up(&mut self, round: &mut Round, order: Order, inputs: &[(u64, Input)]) -> Result<(), JournalError> {
        let id = order.id;
        let mut live = Live::replayed(order, inputs);
        for (event, target) in self.tools.journal.pending_targets(id).await? {
            self.spoken.insert(event, id);
            live.targets.insert((event, target));
        }
        self.admit(live);
        self.apply(round, id, Input::Restarted);
        Ok(())
    }

    /// Works until `cancel`, then lets the workers stop and writes down where they stopped.
    pub async fn run(mut self) {
        let mut messages = Vec::with_capacity(ROUND);
        let cancel = self.tools.cancel.clone();
        loop {
            let wait = self.next_timer();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                count = self.inbox.recv_many(&mut messages, ROUND) => if count == 0 { break },
                () = tokio::time::sleep(wait) => {}
            }
            self.round(std::mem::take(&mut messages)).await;
        }
        self.drain().await;
    }

    fn next_timer(&self) -> Duration {
        const IDLE: Duration = Duration::from_secs(60);
        self.timers.first().map_or(IDLE, |(at, _)| Duration::from_millis(at.saturating_sub(now_ms())).min(IDLE))
    }

    /// Ends in order: running work is put back into the queue of the next start.
    async fn drain(mut self) {
        for live in self.live.values() {
            live.cancel.cancel();
        }
        let deadline = tokio::time::sleep(Duration::from_secs(3));
        tokio::pin!(deadline);
        while self.running > 0 || self.away > 0 {
            let message = tokio::select! {
                () = &mut deadline => break,
                message = self.inbox.recv() => message,
            };
            match message {
                Some(message @ Message::Happened(_)) => self.round(vec![message]).await,
                Some(_) => {}
                None => break,
            }
        }
    }

    fn is_open(&self) -> bool {
        self.tools.jobs_enabled && !self.tools.passport.is_superseded()
    }
}

/// The arrivals that a round wants opened.
pub(crate) type Opens = Vec<Arrival>;
