//! The driver: both roles on one stream to an authenticated peer.
//!
//! ```text
//!  stream ─► reader ─┬─ requests ─► responder ─► writer ─► stream
//!                    └─ replies ──► initiator ─┘
//!                    sync(space) ──────▲
//! ```
//!
//! Three tasks, one writer behind a lock. What a peer sends faster than it is answered is dropped: an honest peer has one request
//! under way and sends it again. The first task that ends ends the others.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nips::memory::Space;
use nostr::PublicKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frame::{FrameError, read_frame, write_frame};
use super::machine::{Effect, Input, Limits, Patience, Refusals, Report, Session};
use super::message::{ErrorCode, Message, MessageError, Reply, ReplyBody, Request, SessionId};
use super::{BATCH_BYTES, Outcome, Replica, ReplicaError, respond};

/// Messages that wait for one role. A peer has one request under way, so more are repeats.
const QUEUE: usize = 4;

/// Calls of [`Link::sync`] that wait; then callers wait.
const CALLS: usize = 16;

/// Messages that do not parse before the peer is left: some may come of a newer version, many come of a liar.
const MALFORMED_MAX: u32 = 16;

/// The bounds of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkConfig {
    /// A random number of this link: the first session's id.
    pub first_session: u64,
    /// How long nothing may come: 5 min.
    pub idle: Duration,
    /// How long one message may take, in or out, once it has begun: 20 s (26 kB/s).
    pub whole: Duration,
    /// What one session may do.
    pub limits: Limits,
    /// When requests are sent again. A stream loses nothing, so they are not: 60 s for an answer.
    pub patience: Patience,
}

impl LinkConfig {
    /// The usual bounds.
    pub fn new(first_session: u64) -> Self {
        Self {
            first_session,
            idle: Duration::from_secs(300),
            whole: Duration::from_secs(20),
            limits: Limits::default(),
            patience: Patience { first_ms: 60_000, longest_ms: 60_000, tries: 1 },
        }
    }
}

/// Why a space could not be synced over a link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The link is closed: the peer left, was too slow, or the node stops.
    #[error("the link to the peer is closed")]
    Closed,
    /// The own replica could not say what it has.
    #[error("the own memory could not be read")]
    Snapshot(#[source] ReplicaError),
}

/// What the replica is doing.
type Work<T> = Pin<Box<dyn Future<Output = Result<T, ReplicaError>> + Send>>;

type Call = (Space, oneshot::Sender<Result<Report, LinkError>>);

/// A link to one peer. Clones share it; it is closed when the peer leaves or its token is cancelled.
#[derive(Debug, Clone)]
pub struct Link {
    calls: mpsc::Sender<Call>,
    closed: CancellationToken,
}

impl Link {
    /// Starts a link in `tracker` on a stream to `peer`, who is authenticated already (its install key).
    pub fn start<S>(
        stream: S,
        peer: PublicKey,
        replica: Arc<dyn Replica>,
        config: LinkConfig,
        (tracker, cancel): (&TaskTracker, &CancellationToken),
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let closed = cancel.child_token();
        let (read_half, write_half) = tokio::io::split(stream);
        let writer = Arc::new(Writer { half: Mutex::new(write_half), whole: config.whole });
        let (requests, of_peer) = mpsc::channel(QUEUE);
        let (replies, to_us) = mpsc::channel(QUEUE);
        let (calls, called) = mpsc::channel(CALLS);
        let reader = Reader { half: read_half, config, writer: Arc::clone(&writer), requests, replies };
        let answering = answer(of_peer, Arc::clone(&writer), peer, Arc::clone(&replica));
        let initiator = Initiator {
            calls: called,
            replies: to_us,
            writer,
            peer,
            replica,
            config,
            began: Instant::now(),
            sessions: 0,
            refusals: Refusals::default(),
        };
        run(reader.run(), "reader", tracker, &closed);
        run(answering, "responder", tracker, &closed);
        run(initiator.run(), "initiator", tracker, &closed);
        Self { calls, closed }
    }

    /// Runs one session over a space and tells what it did. Sessions of one link run one after the other, and the link keeps what
    /// was refused: the report's own list is empty.
    ///
    /// # Errors
    /// When the link is or gets closed, or the own replica fails before anything was sent.
    pub async fn sync(&self, space: Space) -> Result<Report, LinkError> {
        let (done, report) = oneshot::channel();
        self.calls.send((space, done)).await.map_err(|_| LinkError::Closed)?;
        report.await.map_err(|_| LinkError::Closed)?
    }

    /// Waits until the link is closed.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Closes the link.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

fn run(
    work: impl Future<Output = Result<(), FrameError>> + Send + 'static,
    role: &'static str,
    tracker: &TaskTracker,
    closed: &CancellationToken,
) {
    let closed = closed.clone();
    tracker.spawn(async move {
        let _ends_the_others = closed.clone().drop_guard();
        if let Some(Err(error)) = closed.run_until_cancelled(work).await {
            tracing::debug!(role, error = &error as &dyn std::error::Error, "a sync link failed");
        }
    });
}

struct Writer<W> {
    half: Mutex<W>,
    whole: Duration,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn send(&self, message: &str) -> Result<(), FrameError> {
        write_frame(&mut *self.half.lock().await, message.as_bytes(), self.whole).await
    }
}

struct Reader<R, W> {
    half: R,
    config: LinkConfig,
    writer: Arc<Writer<W>>,
    requests: mpsc::Sender<Request>,
    replies: mpsc::Sender<Reply>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Reader<R, W> {
    async fn run(mut self) -> Result<(), FrameError> {
        let mut malformed = 0;
        while let Some(bytes) = read_frame(&mut self.half, self.config.idle, self.config.whole).await? {
            match Message::parse(&bytes) {
                Ok(Message::Request(request)) => drop(self.requests.try_send(request)),
                Ok(Message::Reply(reply)) => drop(self.replies.try_send(reply)),
                Err(error) => {
                    malformed += 1;
                    if malformed > MALFORMED_MAX {
                        tracing::debug!(%error, "a peer sends what is no sync");
                        return Ok(());
                    }
                    if let MessageError::Version { session, number, .. } = error {
                        let text = format!("version {} is spoken here", super::VERSION);
                        let body = ReplyBody::Failed { code: ErrorCode::Version, text };
                        self.writer.send(&Reply { session, number, body }.to_json()).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The responder's task.
async fn answer<W: AsyncWrite + Unpin>(
    mut requests: mpsc::Receiver<Request>,
    writer: Arc<Writer<W>>,
    peer: PublicKey,
    replica: Arc<dyn Replica>,
) -> Result<(), FrameError> {
    while let Some(request) = requests.recv().await {
        let replica = Arc::clone(&replica);
        let work = move || respond(request, &peer, &*replica).to_json();
        // A replica that panics has no answer; the peer asks again.
        let Ok(reply) = tokio::task::spawn_blocking(work).await else { continue };
        writer.send(&reply).await?;
    }
    Ok(())
}

struct Initiator<W> {
    calls: mpsc::Receiver<Call>,
    replies: mpsc::Receiver<Reply>,
    writer: Arc<Writer<W>>,
    peer: PublicKey,
    replica: Arc<dyn Replica>,
    config: LinkConfig,
    began: Instant,
    sessions: u64,
    refusals: Refusals,
}

impl<W: AsyncWrite + Unpin> Initiator<W> {
    async fn run(mut self) -> Result<(), FrameError> {
        while let Some((space, done)) = self.calls.recv().await {
            let result = self.session(space).await?;
            // The caller may have left; what was synced stays.
            let _ = done.send(result);
        }
        // Nobody can call any more, but the peer may still be answered.
        std::future::pending().await
    }

    async fn session(&mut self, space: Space) -> Result<Result<Report, LinkError>, FrameError> {
        let about = space.clone();
        let snapshot = match blocking(&self.replica, "say what it has", move |replica| replica.snapshot(&about)).await {
            Ok(snapshot) => snapshot,
            Err(error) => return Ok(Err(LinkError::Snapshot(error))),
        };
        let id = SessionId(self.config.first_session.wrapping_add(self.sessions));
        self.sessions += 1;
        let refusals = std::mem::take(&mut self.refusals);
        let bounds = (self.config.limits, self.config.patience);
        let mut session = Session::new(id, space.clone(), snapshot, refusals, bounds);
        let mut input = Input::Start;
        // Outlives the steps: strays must not put the time off.
        let mut wake_at_ms = self.now_ms();
        // The replica takes what came while more is asked for; one at a time, as the session gives it.
        let mut taking: Option<Work<Vec<Outcome>>> = None;
        loop {
            let effects = session.handle(input, self.now_ms());
            let mut next = None;
            for effect in effects {
                match effect {
                    Effect::Send(message) => self.writer.send(&message).await?,
                    Effect::WakeAt(at_ms) => wake_at_ms = at_ms,
                    Effect::Take(events) => {
                        let (space, peer) = (space.clone(), self.peer);
                        let take = move |replica: &dyn Replica| replica.take(&peer, &space, events);
                        taking = Some(blocking(&self.replica, "keep events", take));
                    }
                    Effect::Load(ids) => {
                        let space = space.clone();
                        let load = move |replica: &dyn Replica| replica.events(&space, &ids, BATCH_BYTES);
                        next = Some(Input::Loaded(blocking(&self.replica, "give events", load).await));
                    }
                    Effect::Ended(mut report) => {
                        self.refusals = std::mem::take(&mut report.refusals);
                        return Ok(Ok(report));
                    }
                }
            }
            input = match next {
                Some(next) => next,
                None => self.wait(wake_at_ms, &mut taking).await,
            };
        }
    }

    async fn wait(&mut self, wake_at_ms: u64, taking: &mut Option<Work<Vec<Outcome>>>) -> Input {
        let is_taking = taking.is_some();
        let taken = async {
            match taking {
                Some(work) => work.await,
                None => std::future::pending().await,
            }
        };
        let input = tokio::select! {
            // The time may have passed while the replica worked.
            biased;
            Some(reply) = self.replies.recv() => Input::Received(reply),
            outcomes = taken => Input::Taken(outcomes),
            () = sleep_until(self.began + Duration::from_millis(wake_at_ms)), if !is_taking => Input::Tick,
        };
        if matches!(input, Input::Taken(_)) {
            *taking = None;
        }
        input
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Has the replica do something on a thread that may block; it begins at once.
fn blocking<T: Send + 'static>(
    replica: &Arc<dyn Replica>,
    operation: &'static str,
    work: impl FnOnce(&dyn Replica) -> Result<T, ReplicaError> + Send + 'static,
) -> Work<T> {
    let replica = Arc::clone(replica);
    let running = tokio::task::spawn_blocking(move || work(&*replica));
    Box::pin(async move {
        match running.await {
            Ok(result) => result,
            Err(panic) => Err(ReplicaError::Store { operation, source: panic.into() }),
        }
    })
}
